"""Locate and count the stored prompts, samples, judgments, and verdicts of a recipe."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from factory.errors import PromptsError
from factory.fingerprint import canonical, folder_key
from factory.lake import Row, Scope, Views, load_query
from factory.plan.inputs import inputs, n_rows, waits
from factory.plan.recipe_state import RecipeState
from factory.plan.state import StepState, folder_of
from factory.plan.step import Step, first_draw
from factory.recipe import JUDGE, PROBE, REFERENCE, Generation
from factory.stages import (
    PROMPTS_VERSION,
    PromptFiles,
    judgments,
    samples,
    verdicts,
)


def locate_prompts(state: RecipeState, step: Step, _: int | None) -> StepState:
    """Find the lake folder for the prompts that a step stores.

    Its key covers the prompt files and how they are read, which includes M_0's tokenizer.
    """
    model = state.models.get("M_0")
    if model is None:
        return StepState(step, waits_for="M_0")
    settings = PromptFiles(state.recipe, step.role, model).settings()
    folder = state.lake.folder("prompts", folder_key("prompts", PROMPTS_VERSION, settings))
    return StepState(step, folder, settings)


def count_prompts(state: RecipeState, located: StepState, _: int | None) -> StepState:
    """Count the prompts that a step has stored.

    If none are stored yet, count the prompts in the prompt files. Raises PromptsError if the probe
    and the loop share prompts.
    """
    step = located.step
    if shards := located.folder.shards() if located.folder else []:
        state.stored.prompts[step.role] = shards
        stored = n_rows(shards)
        counted = replace(located, wanted=stored, answered=stored)
    else:
        files = PromptFiles(state.recipe, step.role, state.models.get("M_0"))
        rows, state.unusable[step.role] = files.read()
        state.stored.prompts[step.role] = rows
        counted = replace(located, wanted=len(rows))
    _count_by_iteration(state)
    if step.role == PROBE:
        _check_probe_is_apart(state)
    return counted


def _count_by_iteration(state: RecipeState) -> None:
    """Record the number of prompts in each iteration."""

    def compute(views: Views) -> Row:
        return {"counts": views.all(load_query("plan/count_prompts"))}

    counts = state.recall("count_prompts", Scope(), compute)["counts"]
    state.n_prompts = {row["iteration"]: (row["prompts"], row["trained_on"]) for row in counts}


def check_chunks(state: RecipeState) -> None:
    """Raise PromptsError if an iteration has no training prompts."""
    loop = state.recipe.loop
    for iteration in loop.numbers:
        if state.n_prompts.get(iteration, (0, 0))[1] == 0:
            total = sum(every for place, (every, _) in state.n_prompts.items() if place >= 0)
            fewer = "loop.iterations" if loop.trains_models else "loop.chunks"
            raise PromptsError(
                "prompts.files",
                f"iteration {iteration} has no training prompts ({total} prompts are split into "
                f"{loop.n_chunks} chunks and the test set)",
                f"add prompts, lower {fewer}, or lower prompts.test_fraction",
            )


def _check_probe_is_apart(state: RecipeState) -> None:
    """Raise PromptsError if the probe and the loop share prompts."""
    shared = state.recall(
        "shared_prompts", Scope(), lambda views: views.one(load_query("plan/shared_prompts"))
    )
    if shared["n"]:
        raise PromptsError(
            "probe.files",
            f"prompts.files and probe.files have prompts in common ({shared['n']:,} in total)",
            "remove the shared prompts from probe.files: the probe must use unseen prompts",
        )


# samples, judgments, verdicts


def locate_samples(state: RecipeState, step: Step, limit: int | None) -> StepState:
    """Find the lake folder for the answers that a step samples.

    Its key covers the model, the sampling settings, and the seed.
    """
    opened, model = state.opened, state.models.get(step.name)
    n_draws = opened.n_draws(step)
    wanted = state.count_prompts(step, limit) * n_draws
    generation = None
    if step.name == REFERENCE and (first := state.models.get("M_0")):
        tokenizer = first.tokenizer_digest if opened.counts_references else None
        settings = samples.reference_settings(tokenizer)
    elif model is None:
        waits_for = "M_0" if step.name == REFERENCE else step.name
        return StepState(step, waits_for=waits_for, wanted=wanted)
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
    """Return the state of a generating step, with its folder and the key of its requests.

    `max_tokens` is part of the folder's key but not of the request key. An answer that finished
    within both limits therefore has the same id under both.
    """
    request_key = folder_key(f"asked {step.stage}", version, settings)
    if generation:
        settings = {**settings, "max_tokens": generation.max_tokens}
    folder = state.lake.folder(step.stage, folder_key(step.stage, version, settings))
    return StepState(step, folder, settings, request_key)


def count_samples(state: RecipeState, located: StepState, limit: int | None) -> StepState:
    """Count the answers that a step has stored."""
    row = state.count_rows("count_answers", located, limit)
    _check_count(located, row["wanted"], located.wanted)
    return _count_reused(state, _counted(located, row), limit)


def locate_judgments(state: RecipeState, step: Step, limit: int | None) -> StepState:
    """Find the lake folder for the judgments that a step requests.

    Its key covers the judge, the rubric, and the judge's settings.
    """
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


def count_judgments(state: RecipeState, located: StepState, limit: int | None) -> StepState:
    """Count the judgments that a step has stored."""
    step, opened = located.step, state.opened
    row = state.count_rows("count_answers", located, limit)
    if opened.opponents(step) is None:
        sampled = state.steps[Step("samples", step.iteration, step.role, step.name)]
        stored = sampled.answered + sampled.failed + sampled.transient
        _check_count(located, row["wanted"], stored * opened.n_judge_draws(step))
    elif all(sampled.done for sampled in inputs(state, step)):
        # An answer is never compared with itself, an empty answer, or a failed one.
        located = replace(located, wanted=row["wanted"])
    return _count_reused(state, _counted(located, row), limit)


def locate_verdicts(state: RecipeState, step: Step, limit: int | None) -> StepState:
    """Find the lake folder for the verdicts that a step parses from judgments.

    Its key covers the judgments, the parser, and the scale.
    """
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


def count_verdicts(state: RecipeState, located: StepState, limit: int | None) -> StepState:
    """Count the verdicts that a step has stored."""
    judged = state.steps[replace(located.step, stage="judgments")]
    row = state.count_rows("count_verdicts", located, limit)
    _check_count(located, row["wanted"], judged.answered + judged.failed + judged.transient)
    row["filtered"] += judged.filtered
    return _counted(located, row)


def _count_reused(state: RecipeState, counted: StepState, limit: int | None) -> StepState:
    """Count the missing rows that can be copied from folders with another `max_tokens`."""
    if not counted.missing or not shards_to_reuse(state, counted):
        return counted
    n = reused_views(state, counted, limit).one(load_query("plan/count_reused"))["n"]
    return replace(counted, reused=n)


def shards_to_reuse(state: RecipeState, located: StepState) -> list[Path]:
    """Return the shards whose settings differ from a step's settings only in `max_tokens`."""
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
    """Create a step's SQL views, including a view `reused` that selects rows to copy.

    These rows answer missing requests. They come from folders with another `max_tokens`.
    """
    views = state.step_views(located, limit)
    stage = located.step.stage
    views.register_shards("other", stage, shards_to_reuse(state, located))
    # Each stage needs its own view of this name, because its columns are those of its table. The
    # name of the stage in a comment makes the texts differ.
    text = load_query("plan/reused").with_values({"max_tokens": located.settings["max_tokens"]})
    views.define("reused", f"-- {stage}\n{text}")
    return views


def _check_count(located: StepState, counted: int, expected: int) -> None:
    """Assert that a query counted exactly the rows that belong to a step.

    A difference means that the query missed a row or included one of another prompt, draw, or
    context.
    """
    assert counted == expected, f"{located.step.label}: {counted} rows, expected {expected}"


def _counted(located: StepState, row: Row) -> StepState:
    """Return a located step's state with the counts of a query's row."""
    counts: dict[str, Any] = {name: int(row[name]) for name in row if name != "wanted"}
    return replace(located, **counts)
