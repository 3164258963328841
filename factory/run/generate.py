"""One step's work: what is missing → requests → engine → rows → shards.

The only place where stages, engines and the lake meet. It is given a step that was found
incomplete, holds its folder's lock, and does not decide what comes next.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from factory import __version__
from factory.engines import Engine, Request, Result
from factory.errors import StepFailed
from factory.lake import SHARD_KEYS, TABLES, Row, ShardWriter, Views, join_scopes, sql_text
from factory.models import Checkpoint, text_counter
from factory.plan import RecipeState, Step, StepState, folder_of
from factory.progress import Progress
from factory.recipe import REFERENCE, Recipe
from factory.run.stop import Watch
from factory.stages import judgments, samples, split_reasoning, verdicts

FIRST_ERRORS = 3
"""How many failures a person is shown."""


# generating stages


class StepRequests:
    """One step of a pass: its requests, the rows that their results make, and their count."""

    def __init__(
        self, survey: RecipeState, found: StepState, engine: Engine, writer: ShardWriter
    ) -> None:
        self._survey, self._found, self._engine = survey, found, engine
        self._stage = found.step.stage
        self._writer = writer
        self._failed, self._errors = found.failed, list[str]()
        field = "truncated" if self._stage == "samples" else "unparsed"
        self._watch = Watch(survey.recipe, found.step.label, field, found.answered)
        self._judge = survey.section(found.step) or survey.recipe.judge
        self._rubric = survey.rubrics.get(found.step.judge_name)
        self.count = WorkCount()

    def request(self, row: Row) -> Request:
        found, recipe = self._found, self._survey.recipe
        if self._stage == "samples":
            model = self._survey.models.get(found.step.name)
            return samples.request(row, found.asked, recipe.sampling, model)
        judge = self._survey.judge(found.step)
        assert judge is not None, "a step that waits for its judge is not run"
        return judgments.request(row, found.asked, self._judge, judge, self._rubric)

    def take(self, result: Result, subject: "_Subject") -> None:
        """Writes a result down. Raises StepFailed once more of the step's requests have failed
        than `max_failed` allows."""
        recipe = self._survey.recipe
        generation = recipe.sampling if self._stage == "samples" else self._judge
        result = split_reasoning(result, generation.reasoning)
        self._writer.put(self._row(result, subject))
        self.count.add(result)
        if result.error is None:
            if self._watch.is_on and self._found.step.role != "probe":
                self._watch.see(self._is_bad(result), result.text)
            return
        self._failed += 1
        if len(self._errors) < FIRST_ERRORS:
            self._errors.append(result.error)
        found = self._found
        if self._failed > recipe.max_failed * found.wanted:
            errors = self._errors
            raise StepFailed(too_many(found.step, self._failed, found.wanted, recipe, errors))

    def _is_bad(self, result: Result) -> bool:
        """Whether a result counts against `stop_if`."""
        if self._stage == "samples":
            return result.finish_reason == "length"
        rubric, scale = self._survey.reading(self._found.step)
        judgment = dataclasses.asdict(result) | {"judgment_id": "", "sample_id": "", "judge": ""}
        return verdicts.row(judgment, rubric, scale, "")["score"] is None

    def _row(self, result: Result, subject: "_Subject") -> Row:
        key = folder_of(self._found).key
        dtype: str | None
        if self._found.step.name == REFERENCE and self._stage == "samples":
            row, dtype = samples.row(result, subject.id, REFERENCE, key), None
            row["n_tokens"] = self._n_tokens(result.text)
        elif self._stage == "samples":
            model = self._survey.models[self._found.step.name]
            row, dtype = samples.row(result, subject.id, model.digest, key), model.dtype
        else:
            judge = self._survey.judge(self._found.step)
            assert judge is not None, "a step that waits for its judge is not run"
            row = judgments.row(result, subject.id, subject.other_id, subject.context, judge, key)
            dtype = judge.dtype if isinstance(judge, Checkpoint) else None
        if row["error"] is not None:
            row["error"] = self._without_paths(row["error"])
        return {
            **row,
            "engine": self._engine.name,
            "engine_version": self._engine.version,
            "dtype": dtype,
        }

    def _n_tokens(self, reference: str | None) -> int | None:
        """The length of a reference, which is no generated token that an engine would count."""
        if reference is None or not self._survey.counts_references:
            return None
        return self._counter(reference)

    @cached_property
    def _counter(self) -> Callable[[str], int]:
        return text_counter(self._survey.models["M_0"])

    def _without_paths(self, error: str) -> str:
        """Places of this machine are nobody's business who reads the lake."""
        recipe = self._survey.recipe.folder
        for place, shown in ((recipe, "."), (self._survey.lake.root.resolve(), "lake")):
            error = error.replace(str(place), shown)
        return error.replace(str(Path.home()), "~")

    def record(self, seconds: float) -> None:
        """Notes in the manifest what the step took."""
        event = {**self.count.manifest(self._engine), "seconds": round(seconds, 3)}
        folder_of(self._found).record({"step": self._found.step.label, **event})


@dataclasses.dataclass(frozen=True)
class _Subject:
    """What a draw in flight is about."""

    asking: StepRequests
    id: str
    """Of the prompt, or of the sample that is judged."""
    other_id: str | None
    """Of the sample that it is compared with."""
    context: str
    """For judgments: the hash of what is shown beside the messages."""


def generate(
    survey: RecipeState,
    founds: Sequence[StepState],
    engine: Engine,
    progress: Progress,
    limit: int | None = None,
) -> None:
    """Asks an engine, in one pass, for what steps of one stage miss. Raises StepFailed once more of
    a step's requests have failed than `max_failed` allows; what was finished is kept."""
    recipe = survey.recipe
    stage = founds[0].step.stage
    askings: list[StepRequests] = []
    in_flight: dict[tuple[str, int], _Subject] = {}

    def requests() -> Iterator[Request]:
        asked = survey.asked_query(founds[0].step)
        for batch in _to_ask(survey, founds, limit).stream(asked):
            for row in batch.to_pylist():
                asking = askings[row["place"]]
                request = asking.request(row)
                id_ = row["sample_id" if stage == "judgments" else "prompt_id"]
                subject = _Subject(asking, id_, row.get("other_id"), row["context"])
                for draw in request.draws:
                    in_flight[request.id, draw] = subject
                yield request

    began = time.monotonic()
    try:
        with ExitStack() as stack:
            writers: dict[str, ShardWriter] = {}
            for found in founds:
                folder = folder_of(found)
                folder.create(found.settings)
                if folder.key not in writers:
                    writer = ShardWriter(
                        folder, TABLES[stage], recipe.shards.rows, recipe.shards.seconds
                    )
                    writers[folder.key] = stack.enter_context(writer)
                askings.append(StepRequests(survey, found, engine, writers[folder.key]))
            unit = "answers" if stage == "samples" else "judgments"
            total = sum(found.missing for found in founds)
            task = stack.enter_context(progress.task(pass_title(founds), total, unit))
            for result in engine.generate(requests()):
                subject = in_flight.pop((result.request_id, result.draw))
                task.advance(1, result.n_tokens or 0)
                subject.asking.take(result, subject)
    finally:
        _record(askings, time.monotonic() - began)


def _record(askings: Sequence[StepRequests], seconds: float) -> None:
    """Notes in the manifests what each step took, also where the pass broke off. A step's share of
    the time is its share of the tokens."""
    tokens = sum(asking.count.all_tokens for asking in askings)
    for asking in askings:
        share = asking.count.all_tokens / tokens if tokens else 1 / len(askings)
        if asking.count.answered or asking.count.failed:
            asking.record(share * seconds)


def _to_ask(survey: RecipeState, founds: Sequence[StepState], limit: int | None) -> Views:
    """The views of all steps of a pass, with `to_ask`: what each misses. It holds ids alone; the
    texts stream past them."""
    models = list(dict.fromkeys(found.step.loads for found in founds))
    for place, found in enumerate(founds):
        views = survey.step_views(found, limit)
        model = models.index(found.step.loads)
        missing = f"select {place} as place, {model} as model, * from ({sql_text('missing')})"
        if place == 0:
            views.table("to_ask", missing)
        else:
            views.add("to_ask", missing)
    return survey.views(join_scopes(survey.step_scope(found.step) for found in founds))


def carry_over(
    survey: RecipeState, found: StepState, limit: int | None, progress: Progress
) -> None:
    """Takes over the answers that ended by themselves under another limit on their length."""
    folder, stage = folder_of(found), found.step.stage
    folder.create(found.settings)
    views = survey.carried(found, limit)
    column = SHARD_KEYS[stage]
    place = TABLES[stage].get_field_index(column)
    batches = (
        batch.set_column(place, column, pa.array([folder.key] * batch.num_rows, pa.string()))
        for batch in views.stream("all_carried", TABLES[stage])
    )
    folder.append_batches(TABLES[stage], batches)
    progress.say(
        f"  {found.step.label}: {found.carried:,} that had ended by themselves taken over from "
        "another max_tokens"
    )


def pass_title(founds: Sequence[StepState]) -> str:
    """What a pass makes: the title of its step, or those of several in one."""
    if len(founds) == 1:
        return founds[0].step.label
    players: dict[str, list[str]] = {}
    for found in founds:
        if found.step.name == REFERENCE:
            continue
        roles = players.setdefault(found.step.name, [])
        if found.step.role not in roles:
            roles.append(found.step.role)
    played = [f"{name} as {' and '.join(roles)}" for name, roles in players.items()]
    given = {found.step.player for found in founds if found.step.name == REFERENCE}
    who = ", ".join([*played, *given])
    by = f" by {founds[0].step.judge_title}" if founds[0].step.stage == "judgments" else ""
    return f"{founds[0].step.stage} of {who}{by}, iteration {founds[0].step.iteration}"


def first_errors(survey: RecipeState, found: StepState, limit: int | None) -> list[str]:
    """What the failed requests of a generating step failed with."""
    if found.step.stage not in ("samples", "judgments"):
        return []
    rows = survey.step_views(found, limit).all("first_errors")
    return [str(row["error"]) for row in rows]


def too_many(step: Step, failed: int, wanted: int, recipe: Recipe, errors: list[str]) -> str:
    """Why a step stops."""
    shown = "; ".join(dict.fromkeys(errors))
    return (
        f"{step.label}: {failed} of {wanted} failed, and max_failed is {recipe.max_failed:g}"
        + (f". The first: {shown}" if shown else "")
        + ". What was finished is kept; mend the cause, or raise max_failed"
    )


@dataclasses.dataclass
class WorkCount:
    """What a step's manifest says of one run of it."""

    answered: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0
    cost: float | None = None
    began: float = dataclasses.field(default_factory=time.time)

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
