"""How the rows of a dataset came to be, in a form that can be shown to everybody: the resolved
recipe, and the models, judges, builds and folders with their ids.

No path of this machine, no address of a server and nothing of how the work was run is in it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory import __version__
from factory.export import all_views
from factory.plan import Step
from factory.recipe import JUDGE, SIDES, VLLM_IDENTITY, Recipe, VllmEngine
from factory.stages import train
from factory.survey import Found, Survey

_SHOWN = ("prompts.language", "sampling.draws", "judge.draws", "probe.draws")
"""Outside every key: what the prompts are in, and how many rows there are."""

_SNAPSHOT = re.compile(r"/snapshots/([0-9a-f]{40})")


def public_recipe(survey: Survey) -> dict[str, Any]:
    """The fields of a recipe that decide the data, with what generation_config resolved.

    Files are named without the folders that they lie in.
    """
    recipe = survey.recipe
    dumped = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    shown: dict[str, Any] = {"name": recipe.name}
    for field in [field for field, stages in SIDES.items() if stages] + list(_SHOWN):
        *sections, last = field.split(".")
        value: Any = dumped
        for section in [*sections, last]:
            value = value.get(section) if isinstance(value, Mapping) else None
        if value is None or value == []:
            continue
        place = shown
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = _public(value, recipe)
    shown["train"] = _training(recipe)
    for name, engine in (("engine", recipe.engine), ("judge.engine", recipe.judge.engine)):
        if isinstance(engine, VllmEngine):
            known = {k: v for k, v in engine.arguments.items() if k in VLLM_IDENTITY}
            place = shown["judge"] if name.startswith("judge") else shown
            place["engine"] = {"name": engine.name, **_public(known, recipe)}
    return shown


def _training(recipe: Recipe) -> dict[str, Any]:
    settings = train.settings(recipe.train, "", "", recipe.seed)
    shown = {"with": settings["with"], "dpo": dict(settings["settings"])}
    if "lora" in settings:
        shown["lora"] = dict(settings["lora"])
    public: dict[str, Any] = _public(shown, recipe)
    return public


def _public(value: Any, recipe: Recipe) -> Any:
    """The value without the folders of the files that it names."""
    if isinstance(value, Mapping):
        return {name: _public(item, recipe) for name, item in value.items()}
    if isinstance(value, list):
        return [_public(item, recipe) for item in value]
    if not isinstance(value, str) or "/" not in value:
        return value
    path, colon, function = value.partition(":")
    is_here = path.startswith(("/", "~", "./", "../")) or recipe.resolve(path).exists()
    return f"{Path(path).name}{colon}{function}" if is_here else value


def lineage(survey: Survey, iterations: list[int]) -> dict[str, Any]:
    """The models, judges, steps and folders of the iterations, by their ids.

    `folders` has by key what each folder's key was made of: the sampling, the judge's prompt, the
    parser, the policy's SQL, a training's settings.
    """
    found = [
        found
        for step, found in survey.found.items()
        if found.folder and step.role != "probe" and step.iteration in iterations
    ]
    return {
        "made_with": f"preference-factory {__version__}",
        "recipe": survey.recipe.name,
        "iterations": iterations,
        "models": models(survey, iterations),
        "judge": judge(survey),
        "probe": _probe(survey),
        "steps": [_step(each) for each in found],
        "folders": {
            each.folder.key: {"table": each.folder.table, "settings": each.settings}
            for each in found
            if each.folder
        },
    }


def models(survey: Survey, iterations: list[int]) -> list[dict[str, Any]]:
    """The models whose answers or judgments are published, in the order in which they came."""
    published = {
        name
        for (iteration, role, name) in survey.roles
        if iteration in iterations and role != "probe"
    }
    table = {row["digest"]: row for row in survey.models_table().to_pylist()}
    names = {model.digest: name for name, model in survey.models.items()}
    listed = []
    for name, model in survey.models.items():
        if name not in published:
            continue
        row = table[model.digest]
        listed.append(
            {
                "name": name,
                "digest": model.digest,
                "dtype": model.dtype,
                **_origin(survey, name),
                "parent": names.get(row["parent"]),
                "trained_on": row["build"],
                "n_pairs": row["n_pairs"],
            }
        )
    return listed


def _origin(survey: Survey, name: str) -> dict[str, Any]:
    """Where a model that the loop did not train came from: its repository and commit, or no more
    than that it was a local folder."""
    given = {"M_0": survey.recipe.model, JUDGE: survey.recipe.judge.model}.get(name)
    if given is None:
        return {"repository": None, "revision": None}
    snapshot = _SNAPSHOT.search(survey.models[name].path.as_posix())
    local = survey.recipe.resolve(given.path).is_dir()
    return {
        "repository": None if local else given.path,
        "revision": snapshot[1] if snapshot and not local else None,
    }


def judge(survey: Survey) -> dict[str, Any]:
    """Who judged, and by which rubric; the rubric's text is among the folders' settings."""
    recipe = survey.recipe
    if recipe.judge.function:
        return {"kind": "function", "name": recipe.judge.function.rpartition(":")[2]}
    kind = "fixed model" if recipe.judge.model else "the current model"
    return {
        "kind": kind,
        "rubric": Path(recipe.judge.rubric).name,
        "draws": recipe.judge.n_draws,
    }


def _probe(survey: Survey) -> list[dict[str, Any]]:
    """What each model scored on the probe, whose prompts and answers are not published."""
    if not survey.recipe.probe:
        return []
    scores = {row["name"]: row for row in all_views(survey).all("probe_scores")}
    return [scores[name] for name in survey.models if name in scores]


def _step(found: Found) -> dict[str, Any]:
    step: Step = found.step
    return {
        "step": step.label,
        "stage": step.stage,
        "iteration": step.iteration,
        "role": step.role or None,
        "model": step.name or None,
        "phase": step.phase or None,
        "key": found.folder.key if found.folder else None,
        "rows": found.answered,
    }
