"""Run every unfinished step of a recipe, in the order of the plan.

A run keeps no state except the rows in the lake. The stored rows determine what it does next.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum, auto

import pyarrow as pa

from factory.checks import check_before_run, check_packages
from factory.engines import share_cores
from factory.errors import StepFailed
from factory.lake import Lake, Lock
from factory.plan import (
    UNREADABLE,
    OpenedRecipe,
    RecipeState,
    Step,
    StepState,
    check_chunks,
    count_step,
    folder_of,
    locate_step,
    open_recipe,
    steps,
    steps_of_one_pass,
    write_views_sql,
)
from factory.progress import Progress
from factory.recipe import REFERENCE, Recipe
from factory.run.broken import are_inputs_whole, name_broken_files, repair_inputs
from factory.run.engine_cache import EngineCache
from factory.run.generate import first_errors, generate, reuse_rows, too_many
from factory.run.stop import check_limits
from factory.run.tabular import make_pairs, make_prompts, make_verdicts
from factory.train import tidy, train_model


def run_recipe(recipe: Recipe, lake: Lake, progress: Progress) -> RecipeState:
    """Run every unfinished step of a recipe, and return the final state.

    Raises StepFailed if more requests of a step fail than `max_failed` allows, if a step ends with
    temporary failures, if a limit in `stop_if` is exceeded, or if a training has no pairs.
    """
    state = _run(open_recipe(recipe, lake, download=True), steps(recipe), None, progress)
    state.stored.prune_cache()
    state.save_caches()
    write_views_sql(state)
    return state


def preview_recipe(recipe: Recipe, lake: Lake, progress: Progress, limit: int) -> RecipeState:
    """Sample and judge the base model's answers to the first `limit` training prompts.

    The rows are stored in the lake. If the policy uses references, they are judged too.
    """
    opened = open_recipe(recipe, lake, download=True)
    first = [
        step
        for step in steps(recipe)
        if step.stage == "prompts"
        or (step.iteration == 0 and step.name == "M_0" and step.role in ("current", "past"))
        or (step.iteration == 0 and step.name == REFERENCE)
    ]
    return _run(opened, first, limit, progress)


def _run(
    opened: OpenedRecipe, wanted: Sequence[Step], limit: int | None, progress: Progress
) -> RecipeState:
    share_cores()  # before the checks import torch
    state = RecipeState.of(opened)
    with EngineCache() as engines:
        run = _Run(state, wanted, limit, progress, engines)
        place = 0
        while place < len(wanted):
            together = run.next_pass(place)
            if run.do_pass(together):
                for step in together:
                    run.check(state.steps[step])
                place += len(together)
            else:  # earlier steps may lack rows now that broken shards are set aside
                run.state = state = RecipeState.of(opened)
                engines.close()  # a broken model is trained again under the same name
                place = 0
    return state


class _Ended(Enum):
    """Outcome of one attempt at a pass."""

    DONE = auto()
    BROKEN = auto()
    """A file that a step reads has changed since it was written."""
    BUSY = auto()
    """Rows are missing, and another process has locked a folder."""


@dataclass
class _Run:
    """One run of a list of steps."""

    state: RecipeState
    wanted: Sequence[Step]
    limit: int | None
    """Number of prompts of a preview; None for a full run."""
    progress: Progress
    engines: EngineCache
    is_checked: bool = False

    def next_pass(self, place: int) -> list[Step]:
        """Return the steps of the pass that starts at the given position in the plan."""
        first, later = self.wanted[place], self.wanted[place + 1 :]
        return steps_of_one_pass(self.state.recipe, first, later)

    def do_pass(self, together: Sequence[Step]) -> bool:
        """Run the unfinished steps of a pass, which share one engine.

        Returns False if broken files were found. They are set aside, so earlier steps may have
        missing rows.
        """
        try:
            located = [self._locate(step) for step in together]
            self._check_packages_before_reading(located)
        except UNREADABLE:
            if repair_inputs(self.state, together, (), self.progress):
                return False
            raise
        ended = self._do_new(located) if self._is_new_lake else self._do_stored(located)
        if ended is _Ended.BROKEN:
            folders = [folder_of(each) for each in located]
            repair_inputs(self.state, together, folders, self.progress)
        return ended is _Ended.DONE

    @property
    def _is_new_lake(self) -> bool:
        return not self.state.lake.root.is_dir()

    def _do_new(self, located: Sequence[StepState]) -> _Ended:
        """Run the first pass on a new lake. Nothing is created before the recipe is checked."""
        counted = self._count(located)
        self._check_before_work()
        with self._locks(located) as lock:
            if any(folder_of(each).shards() for each in located):
                return self._do(located, lock)  # another run stored rows in the meantime
            return self._finish(located, counted, lock)

    def _do_stored(self, located: Sequence[StepState]) -> _Ended:
        """Run a pass on an existing lake. Wait for locks only if rows are missing."""
        with self._locks(located, wait=False) as lock:
            ended = self._do(located, lock)
        if ended is _Ended.BUSY:
            with self._locks(located) as lock:
                ended = self._do(located, lock)
        return ended

    def _do(self, located: Sequence[StepState], lock: Lock | None) -> _Ended:
        """Count the rows of a pass, and produce the missing rows.

        `lock` is None if the folders are not locked.
        """
        if any(
            folder_of(each).broken(content=False) for each in located if each.step.stage != "train"
        ):
            return _Ended.BROKEN
        try:
            counted = self._count(located)
        except UNREADABLE:
            if all(are_inputs_whole(self.state, each) for each in located):
                raise
            return _Ended.BROKEN
        if all(each.done for each in counted):
            return _Ended.DONE
        if lock is None:
            return _Ended.BUSY
        for each in counted:
            if each.done:  # stop before more work if a finished step exceeds a limit
                self.check(each)
        self._check_before_work()
        return self._finish(located, counted, lock)

    def _finish(
        self, located: Sequence[StepState], counted: Sequence[StepState], lock: Lock | None
    ) -> _Ended:
        """Produce the missing rows of a pass, then count the rows of its steps again."""
        places = [place for place, each in enumerate(counted) if not each.done]
        to_do = [counted[place] for place in places]
        if not all(are_inputs_whole(self.state, each) for each in to_do):
            return _Ended.BROKEN
        self._work(to_do, lock)
        pa.default_memory_pool().release_unused()  # the next step may need memory for an engine
        for place in places:
            count_step(self.state, located[place], self.limit)
        self.state.save_caches()
        return _Ended.DONE

    def _locate(self, step: Step) -> StepState:
        """Locate a step. Raise StepFailed if it waits for a model or step that never runs."""
        located = locate_step(self.state, step, self.limit)
        if located.folder is None:
            raise StepFailed(
                step.label, f"the step waits for {located.waits_for}, which no step produces"
            )
        return located

    def _count(self, located: Sequence[StepState]) -> list[StepState]:
        return [count_step(self.state, each, self.limit) for each in located]

    def _check_packages_before_reading(self, located: Sequence[StepState]) -> None:
        """Raise MissingExtra before prompt files are read, if an engine or trainer is missing."""
        if any(each.step.stage == "prompts" and not folder_of(each).shards() for each in located):
            check_packages(self.state, self.wanted)

    def _check_before_work(self) -> None:
        """Check the recipe once, before the first rows are produced."""
        if not self.is_checked:
            check_packages(self.state, self.wanted)
            if self.limit is None:
                check_chunks(self.state)
            check_before_run(self.state, self.wanted)
            self.is_checked = True

    @contextmanager
    def _locks(self, located: Sequence[StepState], *, wait: bool = True) -> Iterator[Lock | None]:
        """Lock the folders of all steps, and yield the lock file of the first step's folder.

        Without `wait`, yield None if another process has locked one of the folders. Folders are
        locked in the order of their names, so that two runs cannot block each other forever.
        """
        doing = f"factory run of {self.state.recipe.name}"
        folders = {repr(folder_of(each)): folder_of(each) for each in located}
        files: dict[str, Lock | None] = {}
        with ExitStack() as stack:
            for name, folder in sorted(folders.items()):
                lock = folder.lock(doing, self.progress.say) if wait else folder.try_lock(doing)
                files[name] = stack.enter_context(lock)
                if files[name] is None:
                    stack.close()
                    break
            is_held = None not in files.values()
            yield files[repr(folder_of(located[0]))] if is_held else None

    def _work(self, to_do: Sequence[StepState], lock: Lock | None) -> None:
        state, progress, limit = self.state, self.progress, self.limit
        match to_do[0].step.stage:
            case "prompts":
                make_prompts(state, to_do[0], progress)
            case "samples" | "judgments":
                self._generate(to_do)
            case "verdicts":
                make_verdicts(state, to_do[0], progress, limit)
            case "pairs":
                make_pairs(state, to_do[0], progress)
            case _:
                self._train(to_do[0], lock)

    def _generate(self, to_do: Sequence[StepState]) -> None:
        for each in to_do:
            if each.reused:
                reuse_rows(self.state, each, self.limit, self.progress)
        remaining = [
            count_step(self.state, each, self.limit) if each.reused else each for each in to_do
        ]
        if missing := [each for each in remaining if each.missing]:
            with self.engines.for_step(self.state, missing[0].step) as engine:
                generate(self.state, missing, engine, self.progress, self.limit)

    def _train(self, step_state: StepState, lock: Lock | None) -> None:
        assert lock is not None, "a training step needs the lock of its model folder"
        self.engines.close()
        name_broken_files(folder_of(step_state).path, self.state.lake, self.progress)
        train_model(self.state, step_state, lock, self.progress)

    def check(self, step_state: StepState) -> None:
        """Raise StepFailed if a step is unfinished, failed too often, or exceeds a limit."""
        step, recipe = step_state.step, self.state.recipe
        failed = step_state.failed + step_state.transient
        if failed > recipe.max_failed * step_state.wanted:
            errors = first_errors(self.state, step_state, self.limit)
            raise too_many(step, failed, step_state.wanted, recipe, errors)
        if not step_state.done:
            errors = first_errors(self.state, step_state, self.limit)
            listed = f": {'; '.join(errors)}" if errors else ""
            raise StepFailed(
                step.label,
                f"{step_state.missing:,} of {step_state.wanted:,} rows are missing "
                f"({step_state.transient:,} requests failed with temporary errors{listed})",
                "run the same command again to retry the failed requests",
            )
        if step.stage == "train" and (folder_of(step_state).path / "checkpoints").exists():
            tidy(folder_of(step_state))
        if self.limit is None:
            check_limits(self.state, step_state)
