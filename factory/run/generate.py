"""Send the missing requests of a step to an engine, and store the results in shards.

This module connects stages, engines, and the lake. Its callers lock the folders of the steps and
decide which steps run.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from factory import __version__
from factory.engines import Engine, Request, Result, checked_results
from factory.errors import CostLimitReached, StepFailed
from factory.lake import (
    STORED_KEYS,
    TABLES,
    Query,
    Row,
    ShardWriter,
    Views,
    join_scopes,
    load_query,
)
from factory.models import Checkpoint, text_counter
from factory.paths import home_folder
from factory.plan import RecipeState, Step, StepState, folder_of, reused_views
from factory.progress import Progress
from factory.recipe import REFERENCE, OpenaiEngine, Recipe
from factory.run.stop import EqualScores, ShareLimit
from factory.stages import judgments, samples, split_reasoning, verdicts
from factory.texts import clean_text, hide_paths

FIRST_ERRORS = 3
"""Number of failures that an error message lists."""


class _Maker(Protocol):
    """Converter of one stage: missing rows become requests, and results become rows."""

    reasoning: tuple[str, str] | None
    """Opening and closing tag of the reasoning in an answer."""

    def request(self, row: Row) -> Request: ...

    def row(self, result: Result, subject: "_Subject") -> Row: ...

    def assess(self, result: Result) -> "_Assessment":
        """Assess a result for the limits in the recipe's `stop_if`."""
        ...


class _Assessment(NamedTuple):
    """Whether a result is bad, and its score if it is a judgment."""

    is_bad: bool
    score: float | None = None


class _SampleMaker:
    """Converter of the samples stage."""

    def __init__(self, state: RecipeState, step_state: StepState) -> None:
        self._state, self._step_state = state, step_state
        self.reasoning = state.recipe.sampling.reasoning
        name = step_state.step.name
        self._model = None if name == REFERENCE else state.models[name]

    def request(self, row: Row) -> Request:
        sampling = self._state.recipe.sampling
        return samples.request(row, self._step_state.request_key, sampling, self._model)

    def row(self, result: Result, subject: "_Subject") -> Row:
        key, model = folder_of(self._step_state).key, self._model
        if model is not None:
            row = samples.row(result, subject.id, model.digest, key)
            return {**row, "dtype": model.dtype}
        row = samples.row(result, subject.id, REFERENCE, key)
        return {**row, "n_tokens": self._n_tokens(result.text), "dtype": None}

    def assess(self, result: Result) -> _Assessment:
        return _Assessment(result.finish_reason == "length")

    def _n_tokens(self, reference: str | None) -> int | None:
        """Return the token count of a reference. No engine generated it, so none counted it."""
        if reference is None or not self._state.opened.counts_references:
            return None
        return self._count_tokens(reference)

    @cached_property
    def _count_tokens(self) -> Callable[[str], int]:
        return text_counter(self._state.models["M_0"])


class _JudgmentMaker:
    """Converter of the judgments stage."""

    def __init__(self, state: RecipeState, step_state: StepState) -> None:
        opened, step = state.opened, step_state.step
        judge = state.judge(step)
        assert judge is not None, "the step started before the judge existed"
        self._judge, self._step_state = judge, step_state
        self._section = opened.section(step) or state.recipe.judge
        self.reasoning = self._section.reasoning
        self._rubric, self._scale = opened.reading(step)
        self._ranks_by = opened.choice.ranks_by(step.judge_name)

    def request(self, row: Row) -> Request:
        key = self._step_state.request_key
        return judgments.request(row, key, self._section, self._judge, self._rubric)

    def row(self, result: Result, subject: "_Subject") -> Row:
        key, judge = folder_of(self._step_state).key, self._judge
        row = judgments.row(result, subject.id, subject.other_id, subject.context, judge, key)
        return {**row, "dtype": judge.dtype if isinstance(judge, Checkpoint) else None}

    def assess(self, result: Result) -> _Assessment:
        judgment = asdict(result) | {"judgment_id": "", "sample_id": "", "judge": ""}
        verdict = verdicts.row(judgment, self._rubric, self._scale, "")
        return _Assessment(verdict["score"] is None, verdict[self._ranks_by or "score"])


class _Work:
    """Work of one step in a pass: it writes the rows of results and counts them."""

    def __init__(
        self,
        state: RecipeState,
        step_state: StepState,
        engine: Engine,
        writer: ShardWriter,
        *,
        has_limits: bool,
    ) -> None:
        """`has_limits` is whether the limits in `stop_if` apply."""
        self._recipe, self._step_state = state.recipe, step_state
        self._engine, self._writer = engine, writer
        is_sampling = step_state.step.stage == "samples"
        maker = _SampleMaker if is_sampling else _JudgmentMaker
        self.maker: _Maker = maker(state, step_state)
        self._local_paths = _local_paths(state)
        self._failed, self._errors = step_state.failed, list[str]()
        step, earlier = step_state.step, step_state.answered
        self._limit = ShareLimit.of(
            state, step, "truncated" if is_sampling else "unparsed", earlier
        )
        self._equal = EqualScores(state, step)
        self._has_limits = has_limits
        self.count = WorkCount()

    def take(self, result: Result, subject: "_Subject") -> None:
        """Store a result as a row, and count the result.

        Raises StepFailed once more requests of the step have failed than `max_failed` allows, or
        once too many results are bad for `stop_if`.
        """
        result = split_reasoning(result, self.maker.reasoning)
        self._writer.put(self._row(result, subject))
        self.count.add(result)
        if result.error is None:
            self._assess(result)
            return
        self._failed += 1
        if len(self._errors) < FIRST_ERRORS:
            self._errors.append(result.error)
        wanted = self._step_state.wanted
        if self._failed > self._recipe.max_failed * wanted:
            step = self._step_state.step
            raise too_many(step, self._failed, wanted, self._recipe, self._errors)

    def _assess(self, result: Result) -> None:
        if self._has_limits and (self._limit.is_on or self._equal.is_on):
            assessment = self.maker.assess(result)
            if self._limit.is_on:
                self._limit.see(assessment.is_bad, result.text)
            if self._equal.is_on:
                self._equal.see(assessment.score, result.text)

    def _row(self, result: Result, subject: "_Subject") -> Row:
        """Return the row of a result, without this machine's paths in its error."""
        row = self.maker.row(result, subject)
        if row["error"] is not None:
            row["error"] = hide_paths(row["error"], self._local_paths)
        engine = self._engine
        return {**row, "engine": engine.name, "engine_version": clean_text(str(engine.version))}

    def record(self, seconds: float) -> None:
        """Add the new counts and usage of the step to the manifest of the step's folder."""
        event = {**self.count.manifest(self._engine), "seconds": round(seconds, 3)}
        folder_of(self._step_state).record({"step": self._step_state.step.label, **event})
        self.count = WorkCount()


def _local_paths(state: RecipeState) -> dict[str, str]:
    """Return the folders of this machine that must not appear in rows, with their replacements."""
    folders = {str(state.recipe.folder): ".", str(state.lake.root.resolve()): "lake"}
    home = home_folder()
    return folders if home is None else {**folders, str(home): "~", str(home.resolve()): "~"}


@dataclass(frozen=True)
class _Subject:
    """The prompt or sample that a pending draw belongs to."""

    work: _Work
    id: str
    """Id of the prompt, or of the judged sample."""
    other_id: str | None
    """Id of the sample that the judged sample is compared with."""
    context: str
    """Hash of the prompt's fields that the judge reads in addition to the messages."""


def generate(
    state: RecipeState,
    step_states: Sequence[StepState],
    engine: Engine,
    progress: Progress,
    limit: int | None = None,
) -> None:
    """Send the missing requests of several steps to an engine in one pass.

    All steps belong to the same stage.

    Raises StepFailed once more requests of a step have failed than `max_failed` allows, or once a
    limit in `stop_if` is exceeded. Finished rows are saved in either case.
    """
    stage = step_states[0].step.stage
    works: list[_Work] = []
    in_flight: dict[tuple[str, int], _Subject] = {}

    def requests() -> Iterator[Request]:
        views = _pending_views(state, step_states, limit)
        for batch in views.stream(_request_query(state, step_states[0].step)):
            for row in batch.to_pylist():
                work = works[row["place"]]
                request = work.maker.request(row)
                id_ = row["sample_id" if stage == "judgments" else "prompt_id"]
                subject = _Subject(work, id_, row.get("other_id"), row["context"])
                for draw in request.draws:
                    in_flight[request.id, draw] = subject
                yield request

    began = time.monotonic()

    def record() -> None:
        """Record the work since the last call."""
        nonlocal began
        # Exclude the time in which a fleet's processes started during this pass.
        started, now = getattr(engine, "started", None) or began, time.monotonic()
        _record(works, now - max(began, started))
        began = now

    try:
        with ExitStack() as stack:
            writers = _open_writers(state.recipe, step_states, stack)
            for each in step_states:
                writer = writers[folder_of(each).key]
                works.append(_Work(state, each, engine, writer, has_limits=limit is None))
            unit = "answers" if stage == "samples" else "judgments"
            total = sum(each.missing for each in step_states)
            unrecorded = _most_unrecorded(state.recipe, step_states[0].step)
            task = stack.enter_context(progress.task(pass_title(step_states), total, unit))
            n_left = total
            try:
                for result in checked_results(engine, requests()):
                    n_left -= 1
                    subject = in_flight.pop((result.request_id, result.draw))
                    task.advance(1, result.n_tokens or 0)
                    subject.work.take(result, subject)
                    # Events let `factory plan` estimate the rest of a running step, and a killed
                    # run may forget only what was spent since the last one.
                    is_due = time.monotonic() - began >= state.recipe.shards.seconds
                    if is_due or sum(work.count.cost or 0.0 for work in works) > unrecorded:
                        record()
            except CostLimitReached as reached:
                left = f"{reached.fault}; {n_left:,} of {total:,} {unit} are missing"
                raise CostLimitReached(reached.field, left, reached.remedy) from None
    finally:
        record()


def _most_unrecorded(recipe: Recipe, step: Step) -> float:
    """Return the cost after which a step's usage is recorded: a hundredth of the engine's limit."""
    engine = None if step.loads is None else recipe.engine_of(step.loads)
    limit = engine.max_cost if isinstance(engine, OpenaiEngine) else None
    return math.inf if limit is None else limit / 100


def _open_writers(
    recipe: Recipe, step_states: Sequence[StepState], stack: ExitStack
) -> dict[str, ShardWriter]:
    """Open one shard writer for each folder of the steps, and return the writers by folder key."""
    writers: dict[str, ShardWriter] = {}
    for each in step_states:
        folder = folder_of(each)
        folder.create(each.settings)
        if folder.key not in writers:
            schema, shards = TABLES[each.step.stage], recipe.shards
            writer = ShardWriter(folder, schema, shards.rows, shards.seconds, journal=True)
            writers[folder.key] = stack.enter_context(writer)
    return writers


def _request_query(state: RecipeState, step: Step) -> Query:
    """Return the query that lists the requests of a generating step."""
    if step.stage == "samples":
        return load_query("run/sample_requests")
    compares = state.opened.opponents(step) is not None
    return load_query("run/comparison_requests" if compares else "run/judgment_requests")


def _record(works: Sequence[_Work], seconds: float) -> None:
    """Write the usage of each step to its manifest, even after an interrupted pass.

    The time of the pass is divided among the steps in proportion to their tokens.
    """
    tokens = sum(work.count.all_tokens for work in works)
    for work in works:
        share = work.count.all_tokens / tokens if tokens else 1 / len(works)
        if work.count.answered or work.count.failed:
            work.record(share * seconds)


def _pending_views(
    state: RecipeState, step_states: Sequence[StepState], limit: int | None
) -> Views:
    """Open the views of all steps of a pass, with the table `pending` of their missing requests.

    The table contains only ids, so that texts can be streamed instead of kept in memory.
    """
    models = list(dict.fromkeys(each.step.loads for each in step_states))
    missing = load_query("run/missing_requests")
    for place, each in enumerate(step_states):
        views = state.step_views(each, limit)
        values = {"place": place, "model": models.index(each.step.loads)}
        if place == 0:
            views.create_table("pending", missing, **values)
        else:
            views.insert("pending", missing, **values)
    views = state.views(join_scopes(state.step_scope(each.step) for each in step_states))
    views.use_table("pending")
    return views


def reuse_rows(
    state: RecipeState, step_state: StepState, limit: int | None, progress: Progress
) -> None:
    """Copy answers or judgments that were generated with a different `max_tokens`.

    A row is copied only if its text ended within both limits.
    """
    folder, stage = folder_of(step_state), step_state.step.stage
    folder.create(step_state.settings)
    views = reused_views(state, step_state, limit)
    column, schema = STORED_KEYS[stage], TABLES[stage]
    place = schema.get_field_index(column)
    batches = (
        batch.set_column(place, column, pa.array([folder.key] * batch.num_rows, pa.string()))
        for batch in views.stream(load_query("run/reused_rows"), schema)
    )
    folder.append_batches(schema, batches)
    unit = "answers" if stage == "samples" else "judgments"
    progress.say(
        f"  {step_state.step.label}: reused {step_state.reused:,} {unit} generated with a "
        "different max_tokens"
    )


def pass_title(step_states: Sequence[StepState]) -> str:
    """Return a title for one or more steps that run in the same engine pass."""
    first = step_states[0].step
    if len(step_states) == 1:
        return first.label
    players: dict[str, list[str]] = {}
    for each in step_states:
        if each.step.name == REFERENCE:
            continue
        roles = players.setdefault(each.step.name, [])
        if each.step.role not in roles:
            roles.append(each.step.role)
    played = [f"{name} as {' and '.join(roles)}" for name, roles in players.items()]
    given = {each.step.player for each in step_states if each.step.name == REFERENCE}
    who = ", ".join([*played, *given])
    by = f" by {first.judge_title}" if first.stage == "judgments" else ""
    return f"{first.stage} of {who}{by}, iteration {first.iteration}"


def first_errors(state: RecipeState, step_state: StepState, limit: int | None) -> list[str]:
    """Return the most frequent errors among a step's failed requests."""
    if step_state.step.stage not in ("samples", "judgments"):
        return []
    rows = state.step_views(step_state, limit).all(load_query("run/first_errors"))
    return [str(row["error"]) for row in rows]


def too_many(
    step: Step, failed: int, wanted: int, recipe: Recipe, errors: Sequence[str]
) -> StepFailed:
    """Return a StepFailed error that says how many requests of a step failed."""
    shown = "; ".join(dict.fromkeys(errors))
    return StepFailed(
        step.label,
        f"{failed:,} of {wanted:,} requests failed, but max_failed is {recipe.max_failed:g}"
        + (f" (first errors: {shown})" if shown else ""),
        "fix the cause or raise max_failed (finished rows are saved)",
    )


@dataclass
class WorkCount:
    """The numbers of answers, failures, and tokens that a step produced in one run."""

    answered: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0
    cost: float | None = None
    began: float = field(default_factory=time.time)

    @property
    def all_tokens(self) -> int:
        return self.prompt_tokens + self.tokens

    def add(self, result: Result) -> None:
        self.answered += result.error is None
        self.failed += result.error is not None
        self.prompt_tokens += result.n_prompt_tokens or 0
        self.cached_tokens += result.n_cached_tokens or 0
        self.tokens += result.n_tokens or 0
        if result.cost is not None:
            self.cost = (self.cost or 0.0) + result.cost

    def manifest(self, engine: Engine | None = None) -> dict[str, Any]:
        """Return the counts as an entry in the step's manifest."""
        versions = {"factory": __version__, **({engine.name: engine.version} if engine else {})}
        return {
            "answered": self.answered,
            "failed": self.failed,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "tokens": self.tokens,
            **({} if self.cost is None else {"cost": self.cost}),
            "began": round(self.began, 1),
            "seconds": round(time.time() - self.began, 3),
            "versions": versions,
        }
