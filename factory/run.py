"""The loop over steps: look at one, do what is missing in it, go on to the next.

A run has no state of its own. What it leaves is rows; what it does next follows from them.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from factory.checkpoint import broken_files
from factory.checks import check
from factory.engines import Engine, function, open_engine, reference, reward
from factory.errors import LakeError, StepFailed
from factory.functions import Function
from factory.holdings import SHARD_KEYS, Scope
from factory.lake import Broken, Folder, Lake, writing
from factory.limits import check_step
from factory.plan import Step, asked_together, holder, steps
from factory.progress import Progress
from factory.recipe import REFERENCE, Recipe, TransformersEngine
from factory.survey import Found, Survey
from factory.training import tidy, train_model
from factory.work import (
    carry_over,
    first_errors,
    generate,
    key_of,
    make_pairs,
    make_prompts,
    make_verdicts,
    too_many,
)

UNREADABLE = (duckdb.Error, pa.ArrowException, OSError)
"""What a shard raises whose content is broken; other causes raise these too."""


class _LookAgain(Exception):
    """Shards were set aside: rows that an earlier step made are missing."""


def run(recipe: Recipe, lake: Lake, progress: Progress) -> Survey:
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


def preview(recipe: Recipe, lake: Lake, progress: Progress, limit: int) -> Survey:
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
) -> Survey:
    checked = False
    while True:
        survey = Survey(recipe, lake, download=True)
        with _Engines(survey) as engines:
            try:
                for place, step in enumerate(wanted):
                    found = _look(survey, step, progress, limit)
                    if step.stage == "samples" and limit is None:
                        survey.check_chunks()
                    if not found.done:
                        if not checked:
                            check(survey, wanted)
                            checked = True
                        together = asked_together(recipe, step, wanted[place + 1 :])
                        found = _do(survey, together, engines, progress, limit)
                    _check_failures(survey, found, limit)
                    if recipe.stop_if.is_on and limit is None:
                        check_step(survey, found)
            except _LookAgain:
                continue
        return survey


def _look(survey: Survey, step: Step, progress: Progress, limit: int | None) -> Found:
    """Looks at a step; shards of its folder that are broken by name or size are set aside."""
    try:
        found = survey.look(step, limit=limit)
    except UNREADABLE:
        # A shard that cannot be read: find out which, by their hashes.
        if not _set_aside(_read_folders(survey, step), progress, content=True):
            raise
        raise _LookAgain from None
    if step.stage == "train" and found.done and (key_of(found).path / "checkpoints").exists():
        tidy(key_of(found))
    if step.stage == "train" and not found.done and found.folder is not None:
        _tell_broken_files(found.folder.path, survey.lake, progress)
    if found.folder is None:
        raise StepFailed(f"{step.label}: waits for {found.waits_for}, which no step makes")
    if step.stage != "train" and _set_aside([found.folder], progress, content=False):
        found = survey.look(step, limit=limit)
    return found


def _do(
    survey: Survey,
    together: Sequence[Step],
    engines: "_Engines",
    progress: Progress,
    limit: int | None,
) -> Found:
    """Does a step and those that are asked in one pass with it; what the first then holds."""
    to_do = [found for step in together if not (found := _look(survey, step, progress, limit)).done]
    for found in to_do:
        set_aside = _set_aside(_read_folders(survey, found.step), progress, content=True)
        if set_aside or _discard_broken_models(survey, found.step, progress):
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
def _locks(survey: Survey, founds: Sequence[Found], progress: Progress) -> Iterator[Any]:
    """Holds the folders of all steps; the file of the first one's lock. In the order of their
    names: two runs that want the same folders never hold one each."""
    folders = {repr(key_of(found)): (key_of(found), found.step) for found in founds}

    with ExitStack() as stack:
        files = {}
        for name, (folder, step) in sorted(folders.items()):

            def on_wait(holder: str, step: Step = step, folder: Folder = folder) -> None:
                progress.say(f"  {step.label}: waiting for {holder}, which holds {folder}")

            holder = f"process {os.getpid()} (factory run of {survey.recipe.name})"
            files[name] = stack.enter_context(folder.lock(holder, on_wait))
        yield files[repr(key_of(founds[0]))] if founds else None


def _work(
    survey: Survey,
    founds: Sequence[Found],
    engines: "_Engines",
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
    survey: Survey,
    founds: Sequence[Found],
    engines: "_Engines",
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


def _check_failures(survey: Survey, found: Found, limit: int | None) -> None:
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


def _read_folders(survey: Survey, step: Step) -> list[Folder]:
    """The folders whose shards a step reads: its own, and those of its inputs."""
    keys: set[tuple[str, str]] = set()
    of_iteration = Scope(
        [row for row in survey.roles.values() if row["iteration"] == step.iteration],
        [row for row in survey.panel.values() if row["iteration"] == step.iteration],
    )
    keys |= {(table, key) for table in SHARD_KEYS for key in of_iteration.keys(table)}
    for other, found in survey.found.items():
        same_phase = (other.iteration, other.phase) == (step.iteration, step.phase)
        if found.folder and (other.stage == "prompts" or (other.stage == "pairs" and same_phase)):
            keys.add((other.stage, found.folder.key))
    if step in survey.found and (own := survey.found[step].folder) and step.stage != "train":
        keys.add((own.table, own.key))
    return [survey.lake.folder(table, key) for table, key in sorted(keys)]


def _set_aside(folders: list[Folder], progress: Progress, *, content: bool) -> bool:
    """Takes broken shards out of their folders and names them."""
    found: list[Broken] = []
    for folder in folders:
        broken = folder.broken(content=content)
        if broken:
            holder = f"process {os.getpid()} (setting broken shards aside)"
            with folder.lock(holder, lambda other: progress.say(f"  waiting for {other}")):
                folder.set_aside(broken)
        found += broken
    for shard in found:
        name = folders[0].lake.relative(shard.path)
        progress.say(f"  broken shard {name}: {shard.why}; its rows are made again")
    return bool(found)


def _discard_broken_models(survey: Survey, step: Step, progress: Progress) -> bool:
    """Whether a trained model that a step needs is not as it was written: it is then no model any
    more, and is trained again."""
    model = survey.models.get(step.parent if step.stage == "train" else step.loads or "")
    if model is None or model.folder is None or model.digest in survey.checked_models:
        return False
    survey.checked_models.add(model.digest)
    broken = _tell_broken_files(model.folder, survey.lake, progress)
    if broken:
        with writing(survey.lake.root):
            (model.folder / "manifest.json").unlink()
    return broken


def _tell_broken_files(folder: Path, lake: Lake, progress: Progress) -> bool:
    """Names the files of a trained model that are not as they were written; whether there are."""
    broken = broken_files(folder)
    for file, why in broken:
        progress.say(f"  broken model {lake.relative(file)}: {why}; it is trained again")
    return bool(broken)


class _Engines(AbstractContextManager["_Engines"]):
    """The one engine that is open at a time: kept while steps need the same model."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._stack = ExitStack()
        self._open: tuple[str, Engine] | None = None

    def __exit__(self, *exception: Any) -> None:
        self._open = None
        self._stack.__exit__(*exception)  # an engine that is left by an exception ends at once

    def close(self) -> None:
        self._open = None
        self._stack.close()

    @contextlib.contextmanager
    def for_step(self, step: Step) -> Iterator[Engine]:
        survey = self._survey
        judge = survey.judge(step) if step.stage == "judgments" else None
        if isinstance(judge, Function):
            section = survey.section(step) or survey.recipe.probe
            assert section is not None, "a function is a judge's, or the probe's"
            with function.open_engine(judge, section.timeout, survey.lake.root / "logs") as engine:
                yield engine
            return
        if step.stage == "samples" and step.loads is None:
            with reference.open_engine() as engine:
                yield engine
            return
        held = holder(survey.recipe, step)
        assert held is not None, f"{step.label} needs a model"
        if self._open is None or self._open[0] != held:
            self.close()
            self._open = (held, self._stack.enter_context(self._opened(step)))
        yield self._open[1]

    def _opened(self, step: Step) -> AbstractContextManager[Engine]:
        survey, name = self._survey, step.loads
        assert name is not None, f"{step.label} needs a model"
        model, settings = survey.models[name], survey.recipe.engine_of(name)
        section = survey.recipe.all_judges.get(name)
        if section and section.reward_model:
            assert isinstance(settings, TransformersEngine), "the recipe was checked for it"
            return reward.open_engine(settings, model)
        logs = survey.lake.root / "logs"
        return open_engine(settings, [model], survey.rank(name), survey.recipe.folder, logs)


def look_at_all(recipe: Recipe, lake: Lake) -> Survey:
    """A survey of every step, for verbs that only look. Raises LakeError where a shard is broken
    so that it cannot be read."""
    survey = Survey(recipe, lake)
    for step in steps(recipe):
        try:
            survey.look(step)
        except UNREADABLE as error:
            folders = _read_folders(survey, step)
            if not any(folder.broken(content=True) for folder in folders):
                raise
            raise LakeError(
                f"{step.label}: a shard cannot be read ({str(error).splitlines()[0]}): "
                "`factory verify` names it, and `factory run` makes its rows again"
            ) from None
    survey.save_memo()
    return survey
