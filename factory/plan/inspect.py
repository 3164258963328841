"""Inspect the steps of a recipe: where the rows of each are, and how many are missing.

Each stage has two functions. One locates a step, which finds the folder of its rows; the other
counts these rows. A run locates a step, takes the lock of its folder, and then counts.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from factory.errors import LakeError, PromptsError
from factory.fingerprint import canonical, file_digest, folder_key, short_hash
from factory.lake import SHARD_KEYS, Folder, Lake, Row, Scope, Views, load_query
from factory.models import trained_model
from factory.pairs import PAIRS_VERSION
from factory.plan.opened import OpenedRecipe, open_recipe
from factory.plan.recipe_state import RecipeState
from factory.plan.state import StepState, folder_of
from factory.plan.step import Step, first_draw, steps
from factory.recipe import JUDGE, PROBE, REFERENCE, Generation, Recipe
from factory.stages import (
    PROMPTS_VERSION,
    TRAINING_VERSION,
    PromptFiles,
    judgments,
    possible_files,
    samples,
    training_settings,
    verdicts,
)

UNREADABLE = (duckdb.Error, pa.ArrowException, OSError)
"""Errors that a shard with broken content raises. Other causes raise them too."""


def inspect_step(state: RecipeState, step: Step, limit: int | None = None) -> StepState:
    """Locate a step and count its rows. With a `limit`, only the first prompts of the training
    split count."""
    return count_step(state, locate_step(state, step, limit), limit)


def locate_step(state: RecipeState, step: Step, limit: int | None = None) -> StepState:
    """Find the folder of a step's rows, and count none."""
    return _LOCATE[step.stage](state, step, limit)


def count_step(state: RecipeState, located: StepState, limit: int | None = None) -> StepState:
    """Count the rows of a step that was located, and record its state."""
    step = located.step
    counted = located
    if located.folder is not None:
        counted = _COUNT[step.stage](state, located, limit)
    state.steps[step] = counted
    return counted


def read_state(recipe: Recipe, lake: Lake) -> RecipeState:
    """The state of every step of a recipe, for commands that only read.

    Raises LakeError if a shard cannot be read.
    """
    return inspect_all(open_recipe(recipe, lake))


def inspect_all(opened: OpenedRecipe) -> RecipeState:
    """The state of every step of an opened recipe. Raises LakeError if a shard cannot be read."""
    state = RecipeState.of(opened)
    for step in steps(opened.recipe):
        try:
            inspect_step(state, step)
        except UNREADABLE as error:
            if not any(folder.broken(content=True) for folder in folders_read(state, step)):
                raise
            raise LakeError(
                step.label,
                f"a shard cannot be read ({str(error).splitlines()[0]})",
                "`factory verify` names it, and `factory run` makes its rows again",
            ) from None
    state.save_caches()
    return state


def folders_read(state: RecipeState, step: Step) -> list[Folder]:
    """The folders whose shards a step reads: its own, and those of its inputs."""
    of_iteration = Scope(
        [row for row in state.roles.values() if row["iteration"] == step.iteration],
        [row for row in state.panel.values() if row["iteration"] == step.iteration],
    )
    keys = {(table, key) for table in SHARD_KEYS for key in of_iteration.keys(table)}
    for other, found in state.steps.items():
        same_phase = (other.iteration, other.phase) == (step.iteration, step.phase)
        if found.folder and (other.stage == "prompts" or (other.stage == "pairs" and same_phase)):
            keys.add((other.stage, found.folder.key))
    if step in state.steps and (own := state.steps[step].folder) and step.stage != "train":
        keys.add((own.table, own.key))
    return [state.lake.folder(table, key) for table, key in sorted(keys)]


# prompts


def _locate_prompts(state: RecipeState, step: Step, _: int | None) -> StepState:
    files = PromptFiles(state.recipe, step.role, state.models["M_0"])
    settings = files.settings()
    folder = state.lake.folder("prompts", folder_key("prompts", PROMPTS_VERSION, settings))
    return StepState(step, folder, settings)


def _count_prompts(state: RecipeState, located: StepState, _: int | None) -> StepState:
    step, folder = located.step, folder_of(located)
    if shards := folder.shards():
        state.stored.prompts[step.role] = shards
        n_rows = _n_rows(shards)
        counted = replace(located, wanted=n_rows, answered=n_rows)
    else:
        files = PromptFiles(state.recipe, step.role, state.models["M_0"])
        rows, state.unusable[step.role] = files.read()
        state.stored.prompts[step.role] = rows
        counted = replace(located, wanted=len(rows))
    _count_by_iteration(state)
    if step.role == PROBE:
        _check_probe_is_apart(state)
    return counted


def _count_by_iteration(state: RecipeState) -> None:
    def compute(views: Views) -> Row:
        return {"counts": views.all(load_query("plan/count_prompts"))}

    counts = state.recall("count_prompts", Scope(), compute)["counts"]
    state.n_prompts = {row["iteration"]: (row["prompts"], row["trained_on"]) for row in counts}


def check_chunks(state: RecipeState) -> None:
    """Raises PromptsError if an iteration has no prompt to train on."""
    loop = state.recipe.loop
    for iteration in range(loop.iterations):
        if state.n_prompts.get(iteration, (0, 0))[1] == 0:
            total = sum(every for place, (every, _) in state.n_prompts.items() if place >= 0)
            raise PromptsError(
                "prompts.files",
                f"iteration {iteration} has no training prompts ({total} prompts, split over "
                f"{loop.n_chunks} iterations and the test set)",
                "add prompts, lower loop.iterations, or lower prompts.test_fraction",
            )


def _check_probe_is_apart(state: RecipeState) -> None:
    shared = state.recall(
        "shared_prompts", Scope(), lambda views: views.one(load_query("plan/shared_prompts"))
    )
    if shared["n"]:
        raise PromptsError(
            "probe.files",
            f"{shared['n']} of its prompts are also in prompts.files",
            "expected other prompts, since the probe measures what the loop never trained on",
        )


# samples, judgments, verdicts


def _locate_samples(state: RecipeState, step: Step, limit: int | None) -> StepState:
    opened, model = state.opened, state.models.get(step.name)
    n_draws = opened.n_draws(step)
    wanted = state.count_prompts(step, limit) * n_draws
    generation = None
    if step.name == REFERENCE:
        first = state.models["M_0"]
        tokenizer = first.tokenizer_digest if opened.counts_references else None
        settings = samples.reference_settings(tokenizer)
    elif model is None:
        return StepState(step, waits_for=step.name, wanted=wanted)
    else:
        generation = state.recipe.sampling
        settings = samples.settings(model, generation, state.recipe.seed)
    located = _generating(state, step, samples.VERSION, settings, generation)
    state.role(step).update(
        model=model.digest if model else REFERENCE,
        sampling_key=folder_of(located).key,
        request_key=located.request_key,
        first_draw=first_draw(step),
        n_draws=n_draws,
    )
    return replace(located, wanted=wanted)


def _generating(
    state: RecipeState,
    step: Step,
    version: int,
    settings: dict[str, Any],
    generation: Generation | None,
) -> StepState:
    """The folder of a generating step, and the key of its requests. The limit on an answer's
    length is part of the folder's key and not of the requests', so that an answer that ended
    within two limits has one id under both."""
    request_key = folder_key(f"asked {step.stage}", version, settings)
    if generation:
        settings = {**settings, "max_tokens": generation.max_tokens}
    folder = state.lake.folder(step.stage, folder_key(step.stage, version, settings))
    return StepState(step, folder, settings, request_key)


def _count_samples(state: RecipeState, located: StepState, limit: int | None) -> StepState:
    row = state.count_rows("count_answers", located, limit)
    _check_count(located, row["wanted"], located.wanted)
    return _count_reused(state, _counted(located, row), limit)


def _locate_judgments(state: RecipeState, step: Step, limit: int | None) -> StepState:
    opened, judge, waits_for = state.opened, state.judge(step), waits(state, step)
    n_samples = state.count_prompts(step, limit) * opened.n_draws(step)
    wanted = n_samples * opened.n_judge_draws(step) * (opened.opponents(step) or 1)
    if waits_for or judge is None:
        return StepState(step, waits_for=waits_for or step.judge, wanted=wanted)
    section, rubric = opened.section(step), opened.rubrics[step.judge_name]
    generation = section or state.recipe.judge
    settings = judgments.settings(judge, rubric, generation, state.recipe.seed)
    located = _generating(state, step, judgments.VERSION, settings, generation if rubric else None)
    state.panel_row(step).update(
        title=opened.judge_title(step),
        judge_model=judge.digest,
        judge_key=folder_of(located).key,
        judge_reads=judgments.reads(section, rubric),
        n_judge_draws=opened.n_judge_draws(step),
        opponents=opened.opponents(step),
    )
    if step.judge_name in (JUDGE, PROBE):
        state.role(step).update(n_judge_draws=opened.n_judge_draws(step))
    if step.judge_name == JUDGE and step.judge:
        state.role(replace(step, role="judge", name=step.judge)).update(model=judge.digest)
    return replace(located, wanted=wanted)


def _count_judgments(state: RecipeState, located: StepState, limit: int | None) -> StepState:
    step, opened = located.step, state.opened
    row = state.count_rows("count_answers", located, limit)
    if opened.opponents(step) is None:
        sampled = state.steps[Step("samples", step.iteration, step.role, step.name)]
        stored = sampled.answered + sampled.failed + sampled.transient
        _check_count(located, row["wanted"], stored * opened.n_judge_draws(step))
    elif all(sampled.done for sampled in inputs(state, step)):
        # No answer is compared with itself, with an empty one, or with one that failed.
        located = replace(located, wanted=row["wanted"])
    return _count_reused(state, _counted(located, row), limit)


def _locate_verdicts(state: RecipeState, step: Step, limit: int | None) -> StepState:
    judged = state.steps[replace(step, stage="judgments")]
    if judged.folder is None:
        return StepState(step, waits_for=judged.waits_for, wanted=judged.wanted)
    rubric, scale = state.opened.reading(step)
    settings = verdicts.settings(judged.folder.key, rubric, scale)
    folder = state.lake.folder("verdicts", folder_key("verdicts", verdicts.VERSION, settings))
    state.panel_row(step).update(parser_key=folder.key)
    if step.judge_name in (JUDGE, PROBE):
        state.role(step).update(parser_key=folder.key)
    return StepState(step, folder, settings, wanted=judged.wanted)


def _count_verdicts(state: RecipeState, located: StepState, limit: int | None) -> StepState:
    judged = state.steps[replace(located.step, stage="judgments")]
    row = state.count_rows("count_verdicts", located, limit)
    _check_count(located, row["wanted"], judged.answered + judged.failed + judged.transient)
    row["filtered"] += judged.filtered
    return _counted(located, row)


def _count_reused(state: RecipeState, counted: StepState, limit: int | None) -> StepState:
    if not counted.missing or not shards_to_reuse(state, counted):
        return counted
    n = reused_views(state, counted, limit).one(load_query("plan/count_reused"))["n"]
    return replace(counted, reused=n)


def shards_to_reuse(state: RecipeState, located: StepState) -> list[Path]:
    """The shards of the folders whose requests differ only in their limit on length."""
    if located.folder is None or "max_tokens" not in located.settings:
        return []
    mine = canonical({**located.settings, "max_tokens": None})
    return [
        shard
        for folder in state.lake.folders(located.folder.table)
        if folder.key != located.folder.key
        and canonical({**folder.settings(), "max_tokens": None}) == mine
        for shard in folder.shards()
    ]


def reused_views(state: RecipeState, located: StepState, limit: int | None) -> Views:
    """The step's views, with `reused`: the rows of these shards that answer missing requests."""
    views = state.step_views(located, limit)
    stage = located.step.stage
    views.register_shards("other", stage, shards_to_reuse(state, located))
    # The name of the stage makes it another view: its columns are those of the stage's table.
    text = load_query("plan/reused").with_values({"max_tokens": located.settings["max_tokens"]})
    views.define("reused", f"-- {stage}\n{text}")
    return views


def _n_rows(shards: list[Path]) -> int:
    return sum(pq.read_metadata(shard).num_rows for shard in shards)


def _check_count(located: StepState, counted: int, expected: int) -> None:
    """The lake has as many rows for a step as the step is about: none of another prompt, draw, or
    context is among them, and none is missing."""
    assert counted == expected, f"{located.step.label}: {counted} rows, expected {expected}"


def _counted(located: StepState, row: Row) -> StepState:
    counts: dict[str, Any] = {name: int(row[name]) for name in row if name != "wanted"}
    return replace(located, **counts)


# pairs and trainings


def inputs(state: RecipeState, step: Step) -> list[StepState]:
    """The steps whose rows a judging or a pairs step reads."""
    if step.stage == "judgments":
        roles = {(step.role, step.name)}
        if state.opened.opponents(step) is not None:
            roles.add(("current", f"M_{step.iteration}"))
        return [state.steps[Step("samples", step.iteration, *role)] for role in sorted(roles)]
    wanted, used = state.policy.candidates(step.phase), state.opened.choice.judges
    return [
        found
        for other, found in state.steps.items()
        if other.iteration == step.iteration
        and other.role in wanted
        and (other.stage == "samples" or other.judge_name in used)
    ]


def waits(state: RecipeState, step: Step) -> str | None:
    """What an input of a step still waits for, or the title of an input that is not done."""
    for found in inputs(state, step):
        if found.waits_for:
            return found.waits_for
        if step.stage == "pairs" and not found.done:
            return found.step.title
    return None


def _locate_pairs(state: RecipeState, step: Step, _: int | None) -> StepState:
    if waits_for := waits(state, step):
        return StepState(step, waits_for=waits_for)
    choice, scope = state.opened.choice, state.phase_scope(step)
    rows = _digest_rows(state, "rows_read", step, scope)
    if choice.combines:
        rows += " " + _digest_rows(state, "rows_judged", step, scope)
    if choice.policy.is_own:  # it may read more than the candidates
        rows += state.stored.shard_names(scope)
    judge = state.score_digests(step)
    settings = choice.build_settings(step.iteration, step.phase, judge, rows)
    folder = state.lake.folder("pairs", folder_key("pairs", PAIRS_VERSION, settings))
    return StepState(step, folder, settings)


def _digest_rows(state: RecipeState, query: str, step: Step, scope: Scope) -> str:
    place = f"{query} {step.iteration} {step.phase}"
    row = state.recall(place, scope, lambda views: views.one(load_query(f"plan/{query}")))
    return str(row["digest"])


def _count_pairs(state: RecipeState, located: StepState, _: int | None) -> StepState:
    shards = folder_of(located).shards()
    n_rows = _n_rows(shards)
    wanted = n_rows if shards else max(1, state.count_prompts(located.step, None))
    return replace(located, wanted=wanted, answered=n_rows)


def _locate_training(state: RecipeState, step: Step, _: int | None) -> StepState:
    built = state.steps[Step("pairs", step.iteration, phase=step.phase)]
    if built.folder is None or not built.done:
        return StepState(step, waits_for=built.waits_for or f"pairs {step.phase}", wanted=1)
    views = state.views()
    views.register_shards("pairs", "pairs", built.folder.shards())
    pair_ids = short_hash(views.one(load_query("plan/training_pair_ids"))["pair_ids"])
    recipe, method = state.recipe, state.policy.trains
    files = {
        word: file_digest(file)
        for word in possible_files(recipe.train, method)
        if (file := recipe.file_beside(word))
    }
    parent = state.models[step.parent].digest
    settings = training_settings(recipe.train, method, parent, pair_ids, recipe.seed, files)
    folder = state.lake.folder("models", folder_key("train", TRAINING_VERSION, settings))
    return StepState(step, folder, settings, wanted=1)


def _count_training(state: RecipeState, located: StepState, _: int | None) -> StepState:
    step = located.step
    folder = folder_of(located).path
    model = trained_model(step.name, folder, state.models["M_0"], state.recipe)
    if model is None:
        state.models.pop(step.name, None)
        return located
    state.models[step.name] = model
    return replace(located, answered=1)


_Locate = Callable[[RecipeState, Step, int | None], StepState]
_Count = Callable[[RecipeState, StepState, int | None], StepState]

_LOCATE: dict[str, _Locate] = {
    "prompts": _locate_prompts,
    "samples": _locate_samples,
    "judgments": _locate_judgments,
    "verdicts": _locate_verdicts,
    "pairs": _locate_pairs,
    "train": _locate_training,
}

_COUNT: dict[str, _Count] = {
    "prompts": _count_prompts,
    "samples": _count_samples,
    "judgments": _count_judgments,
    "verdicts": _count_verdicts,
    "pairs": _count_pairs,
    "train": _count_training,
}
