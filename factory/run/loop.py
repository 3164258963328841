"""The loop over steps: look at one, do what is missing in it, go on to the next.

A run has no state of its own. What it leaves is rows; what it does next follows from them.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pyarrow as pa

from factory.errors import StepFailed
from factory.lake import Folder, Lake
from factory.plan import (
    UNREADABLE,
    RecipeState,
    Step,
    StepState,
    folder_of,
    read_folders,
    steps,
    steps_of_one_pass,
)
from factory.progress import Progress
from factory.recipe import REFERENCE, Recipe
from factory.run.broken import discard_broken_models, set_aside, tell_broken_files
from factory.run.engine_cache import EngineCache
from factory.run.generate import carry_over, first_errors, generate, too_many
from factory.run.preflight import check_before_run
from factory.run.stop import check_limits
from factory.run.tabular import make_pairs, make_prompts, make_verdicts
from factory.train import tidy, train_model


class _LookAgain(Exception):
    """Shards were set aside: rows that an earlier step made are missing."""


def run_recipe(recipe: Recipe, lake: Lake, progress: Progress) -> RecipeState:
    """Runs every step of a recipe that is not done; the survey of the finished lake.

    Raises StepFailed where a step's failures pass `max_failed`, where a step ends with requests
    that failed only for now, and where a training has nothing to learn from.
    """
    survey = _run(recipe, lake, progress, steps(recipe), None)
    for step in steps(recipe):  # folders are shared: what a step found first is not how it ended
        survey.look(step)
    survey.holdings.prune_memo()
    survey.save_memo()
    return survey


def preview_recipe(recipe: Recipe, lake: Lake, progress: Progress, limit: int) -> RecipeState:
    """Samples and judges the first prompts with M_0, and keeps the rows; a policy's references are
    judged beside them."""
    first = [
        step
        for step in steps(recipe)
        if step.stage == "prompts"
        or (step.iteration == 0 and step.name == "M_0" and step.role in ("current", "past"))
        or (step.iteration == 0 and step.name == REFERENCE)
    ]
    return _run(recipe, lake, progress, first, limit)


def _run(
    recipe: Recipe, lake: Lake, progress: Progress, wanted: list[Step], limit: int | None
) -> RecipeState:
    checked = False
    while True:
        survey = RecipeState(recipe, lake, download=True)
        with EngineCache(survey) as engines:
            try:
                for place, step in enumerate(wanted):
                    found = _look(survey, step, progress, limit)
                    if step.stage == "samples" and limit is None:
                        survey.check_chunks()
                    if not found.done:
                        if not checked:
                            check_before_run(survey, wanted)
                            checked = True
                        together = steps_of_one_pass(recipe, step, wanted[place + 1 :])
                        found = _do(survey, together, engines, progress, limit)
                    _check_failures(survey, found, limit)
                    if recipe.stop_if.is_on and limit is None:
                        check_limits(survey, found)
            except _LookAgain:
                continue
        return survey


def _look(survey: RecipeState, step: Step, progress: Progress, limit: int | None) -> StepState:
    """Looks at a step; shards of its folder that are broken by name or size are set aside."""
    try:
        found = survey.look(step, limit=limit)
    except UNREADABLE:
        # A shard that cannot be read: find out which, by their hashes.
        if not set_aside(read_folders(survey, step), progress, content=True):
            raise
        raise _LookAgain from None
    if step.stage == "train" and found.done and (folder_of(found).path / "checkpoints").exists():
        tidy(folder_of(found))
    if step.stage == "train" and not found.done and found.folder is not None:
        tell_broken_files(found.folder.path, survey.lake, progress)
    if found.folder is None:
        raise StepFailed(f"{step.label}: waits for {found.waits_for}, which no step makes")
    if step.stage != "train" and set_aside([found.folder], progress, content=False):
        found = survey.look(step, limit=limit)
    return found


def _do(
    survey: RecipeState,
    together: Sequence[Step],
    engines: "EngineCache",
    progress: Progress,
    limit: int | None,
) -> StepState:
    """Does a step and those that are asked in one pass with it; what the first then holds."""
    to_do = [found for step in together if not (found := _look(survey, step, progress, limit)).done]
    for found in to_do:
        broken = set_aside(read_folders(survey, found.step), progress, content=True)
        if broken or discard_broken_models(survey, found.step, progress):
            raise _LookAgain
    if together[0].stage == "train":
        engines.close()
    with _locks(survey, to_do, progress) as lock:
        looked = [survey.look(found.step, limit=limit) for found in to_do]
        if to_do := [found for found in looked if not found.done]:
            _work(survey, to_do, engines, progress, lock, limit)
            pa.default_memory_pool().release_unused()  # the next step may be an engine's
            survey.save_memo()
    for found in to_do[1:]:
        survey.look(found.step, limit=limit)
    return survey.look(together[0], limit=limit)


@contextlib.contextmanager
def _locks(survey: RecipeState, founds: Sequence[StepState], progress: Progress) -> Iterator[Any]:
    """Holds the folders of all steps; the file of the first one's lock. In the order of their
    names: two runs that want the same folders never hold one each."""
    folders = {repr(folder_of(found)): (folder_of(found), found.step) for found in founds}

    with ExitStack() as stack:
        files = {}
        for name, (folder, step) in sorted(folders.items()):

            def on_wait(holder: str, step: Step = step, folder: Folder = folder) -> None:
                progress.say(f"  {step.label}: waiting for {holder}, which holds {folder}")

            holder = f"process {os.getpid()} (factory run of {survey.recipe.name})"
            files[name] = stack.enter_context(folder.lock(holder, on_wait))
        yield files[repr(folder_of(founds[0]))] if founds else None


def _work(
    survey: RecipeState,
    founds: Sequence[StepState],
    engines: "EngineCache",
    progress: Progress,
    lock: Any,
    limit: int | None,
) -> None:
    found = founds[0]
    match found.step.stage:
        case "prompts":
            make_prompts(survey, found, progress)
        case "samples" | "judgments":
            _generate(survey, founds, engines, progress, limit)
        case "verdicts":
            make_verdicts(survey, found, progress, limit)
        case "pairs":
            make_pairs(survey, found, progress)
        case _:
            train_model(survey, found, lock, progress)


def _generate(
    survey: RecipeState,
    founds: Sequence[StepState],
    engines: "EngineCache",
    progress: Progress,
    limit: int | None,
) -> None:
    for found in founds:
        if found.carried:
            carry_over(survey, found, limit, progress)
    looked = [survey.look(found.step, limit=limit) for found in founds]
    if to_ask := [found for found in looked if found.missing]:
        with engines.for_step(to_ask[0].step) as engine:
            generate(survey, to_ask, engine, progress, limit)


def _check_failures(survey: RecipeState, found: StepState, limit: int | None) -> None:
    failed = found.failed + found.transient
    if failed > survey.recipe.max_failed * found.wanted:
        errors = first_errors(survey, found, limit)
        raise StepFailed(too_many(found.step, failed, found.wanted, survey.recipe, errors))
    if not found.done:
        errors = first_errors(survey, found, limit)
        raise StepFailed(
            f"{found.step.label}: {found.missing:,} of {found.wanted:,} have no answer "
            f"({found.transient:,} failed for now{': ' if errors else ''}{'; '.join(errors)}): "
            "run the same command again to ask them again"
        )
