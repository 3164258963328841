"""The public lineage of a dataset: its recipe, models, judges, steps, and lake folders.

The lineage contains no local paths, no server addresses, and no settings of how the work was run.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory import __version__
from factory.export import judge_kind
from factory.lake import load_query
from factory.plan import RecipeState, Step, StepState, all_views
from factory.publish.redact import redact_paths
from factory.recipe import DECIDES, JUDGE, VLLM_IDENTITY, OpenaiEngine, Recipe, VllmEngine
from factory.stages import training_settings

_SHOWN = ("prompts.language", "sampling.draws", "judge.draws", "probe.draws")
"""Fields that are shown although they are not part of any key: the language and the draws."""

_SNAPSHOT = re.compile(r"/snapshots/([0-9a-f]{40})")


def public_recipe(state: RecipeState) -> dict[str, Any]:
    """Return the fields of a resolved recipe that affect the published data.

    Values from the model's generation_config are filled in. Paths are reduced to the file's name.
    """
    recipe = state.recipe
    dumped = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    fields = [field for field, stages in DECIDES.items() if stages] + list(_SHOWN)
    shown = {"name": recipe.name, **_fields(dumped, fields, recipe)}
    if recipe.loop.trains_models:
        shown["train"] = _training(state)
    else:
        shown.pop("train", None)
    if isinstance(recipe.engine, VllmEngine):
        shown["engine"] = _vllm(recipe.engine, recipe)
    of_judge = [field.removeprefix("judge.") for field in fields if field.startswith("judge.")]
    for name, judge in recipe.all_judges.items():
        own = shown.setdefault("judge", {})
        if name != JUDGE:
            own = _fields(dumped["judges"][name], of_judge, recipe)
            shown.setdefault("judges", {})[name] = own
        if isinstance(judge.engine, VllmEngine):
            own["engine"] = _vllm(judge.engine, recipe)
    return shown


def _fields(dumped: Mapping[str, Any], fields: list[str], recipe: Recipe) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for field in fields:
        *sections, last = field.split(".")
        value: Any = dumped
        for section in [*sections, last]:
            value = value.get(section) if isinstance(value, Mapping) else None
        if value in (None, [], "") or field == "judges":  # public_recipe adds the judges
            continue
        place = shown
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value if field.startswith("pairs.") else redact_paths(value, recipe)
    return shown


def _vllm(engine: VllmEngine, recipe: Recipe) -> dict[str, Any]:
    known = {k: v for k, v in engine.arguments.items() if k in VLLM_IDENTITY}
    return {"name": engine.name, **redact_paths(known, recipe)}


def _training(state: RecipeState) -> dict[str, Any]:
    recipe, method = state.recipe, state.policy.trains
    settings = training_settings(recipe.train, method, "", "", recipe.seed)
    shown: dict[str, Any] = {"with": recipe.train.with_}
    if "settings" in settings:
        shown[method] = dict(settings["settings"])
    if "command" in settings:
        shown["command"] = settings["command"]
    if "lora" in settings:
        shown["lora"] = dict(settings["lora"])
    without_places: dict[str, Any] = redact_paths(shown, recipe)
    return without_places


def lineage_of(state: RecipeState, iterations: list[int]) -> dict[str, Any]:
    """Return the lineage of the given iterations: their models, judges, steps, and lake folders.

    `folders` maps the key of each folder to the settings that the key hashes: the sampling, the
    judge's prompt, the parser, the policy's SQL, or the training settings.
    """
    step_states = [
        step_state
        for step, step_state in state.steps.items()
        if step_state.folder and step.role != "probe" and step.iteration in iterations
    ]
    return {
        "made_with": f"preference-factory {__version__}",
        "recipe": state.recipe.name,
        "iterations": iterations,
        "models": models(state, iterations),
        "judge": _judge(state, JUDGE),
        "judges": {name: _judge(state, name) for name in state.recipe.judges},
        "probe": _probe(state),
        "steps": [_step(each) for each in step_states],
        "folders": {
            each.folder.key: {"table": each.folder.table, "settings": _settings(each, state)}
            for each in step_states
            if each.folder
        },
    }


def _settings(step_state: StepState, state: RecipeState) -> dict[str, Any]:
    """Return the settings that a step's key hashes. Training settings have their paths removed."""
    if step_state.step.stage != "train":
        return step_state.settings
    settings: dict[str, Any] = redact_paths(step_state.settings, state.recipe)
    return settings


def models(state: RecipeState, iterations: list[int]) -> list[dict[str, Any]]:
    """Return the models whose answers or judgments are published.

    The models are in the order of the loop. Each has its name, digest, dtype, origin, parent, and
    number of training pairs.
    """
    published = {
        name
        for (iteration, role, name) in state.roles
        if iteration in iterations and role != "probe"
    }
    judged = {
        row["judge_model"]
        for row in state.panel.values()
        if row["role"] != "probe" and row["iteration"] in iterations
    }
    published |= {name for name, model in state.models.items() if model.digest in judged}
    table = {row["digest"]: row for row in state.models_table().to_pylist()}
    names: dict[str, str] = {}
    for name, model in state.models.items():  # a judge can be the same model as M_0
        names.setdefault(model.digest, name)
    listed = []
    for name, model in state.models.items():
        if name not in published:
            continue
        row = table[model.digest]
        listed.append(
            {
                "name": name,
                "digest": model.digest,
                "dtype": model.dtype,
                **_origin(state, name),
                "parent": names.get(row["parent"]),
                "trained_on": row["build_key"],
                "n_pairs": row["n_pairs"],
            }
        )
    return listed


def _origin(state: RecipeState, name: str) -> dict[str, Any]:
    """Return the repository and commit of a model that the loop did not train.

    Both are None for a local folder, and for a model that the loop trained.
    """
    judge = state.recipe.all_judges.get(name)
    if revision := state.models[name].declared:
        engine = state.recipe.engine_of(name)
        assert isinstance(engine, OpenaiEngine), (
            "a model with a declared revision has an openai engine"
        )
        return {"repository": None, "revision": revision, "served": engine.model}
    given = (judge.model or judge.reward_model) if judge else None
    given = state.recipe.model if name == "M_0" else given
    if given is None:
        return {"repository": None, "revision": None}
    snapshot = _SNAPSHOT.search(state.models[name].path.as_posix())
    local = state.recipe.resolve(given.path).is_dir()
    return {
        "repository": None if local else given.path,
        "revision": snapshot[1] if snapshot and not local else None,
    }


def _judge(state: RecipeState, name: str) -> dict[str, Any]:
    """Return the kind of a judge, with its function's name or its rubric and number of draws.

    The text of the rubric is in the folders' settings.
    """
    judge = state.recipe.all_judges[name]
    kind = judge_kind(judge, state.recipe.loop)
    if judge.function:
        return {"kind": kind, "name": judge.function.rpartition(":")[2]}
    if judge.reward_model:
        return {"kind": kind}
    return {"kind": kind, "rubric": Path(judge.rubric).name, "draws": judge.n_draws}


def _probe(state: RecipeState) -> list[dict[str, Any]]:
    """Return each model's mean score on the probe, in the order of the loop."""
    if not state.recipe.probe:
        return []
    scores = {row["name"]: row for row in all_views(state).all(load_query("lake/probe_scores"))}
    return [scores[name] for name in state.models if name in scores]


def _step(step_state: StepState) -> dict[str, Any]:
    step: Step = step_state.step
    return {
        "step": step.label,
        "stage": step.stage,
        "iteration": step.iteration,
        "role": step.role or None,
        "model": step.name or None,
        "phase": step.phase or None,
        "key": step_state.folder.key if step_state.folder else None,
        "rows": step_state.answered,
    }
