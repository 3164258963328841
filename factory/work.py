"""One step's work: what is missing → requests → engine → rows → shards.

The only place where stages, engines and the lake meet. It is given a step that was found
incomplete, holds its folder's lock, and does not decide what comes next.
"""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from factory import __version__
from factory.checkpoint import (
    Checkpoint,
    adapter_digest,
    as_run,
    cached_digest,
    folder_digest,
    model_files,
    text_counter,
)
from factory.engines import Engine, Request, Result
from factory.errors import RecipeError, StepFailed, TrainError
from factory.holdings import SHARD_KEYS, joined
from factory.lake import Folder, ShardWriter, write_parquet, write_whole, writing
from factory.limits import Watch
from factory.plan import Step
from factory.progress import Progress
from factory.prompt_files import problem_list
from factory.query import Views, sql_text
from factory.recipe import REFERENCE, Method, Recipe
from factory.schema import BARE_MESSAGE, TABLES, Row
from factory.stages import judgments, pairs, samples, train, verdicts
from factory.stages.pairs import Policy
from factory.stages.reasoning import thought
from factory.survey import Found, Survey
from factory.train import Job
from factory.trainer import LOG, run_trainer

TRL_MAX_LENGTH = 1024
"""What TRL 1.16 takes for max_length where the recipe is silent."""

FIRST_ERRORS = 3
"""How many failures a person is shown."""


def key_of(found: Found) -> Folder:
    assert found.folder is not None, f"{found.step.label} has no key yet"
    return found.folder


# generating stages


class _Asking:
    """One step of a pass: its requests, the rows that their results make, and their count."""

    def __init__(self, survey: Survey, found: Found, engine: Engine, writer: ShardWriter) -> None:
        self._survey, self._found, self._engine = survey, found, engine
        self._stage = found.step.stage
        self._writer = writer
        self._failed, self._errors = found.failed, list[str]()
        field = "truncated" if self._stage == "samples" else "unparsed"
        self._watch = Watch(survey.recipe, found.step.label, field, found.answered)
        self._judge = survey.section(found.step) or survey.recipe.judge
        self._rubric = survey.rubrics.get(found.step.judge_name)
        self.count = _Count()

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
        result = thought(result, generation.reasoning)
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
        key = key_of(self._found).key
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
        key_of(self._found).record({"step": self._found.step.label, **event})


@dataclasses.dataclass(frozen=True)
class _Subject:
    """What a draw in flight is about."""

    asking: _Asking
    id: str
    """Of the prompt, or of the sample that is judged."""
    other_id: str | None
    """Of the sample that it is compared with."""
    context: str
    """For judgments: the hash of what is shown beside the messages."""


def generate(
    survey: Survey,
    founds: Sequence[Found],
    engine: Engine,
    progress: Progress,
    limit: int | None = None,
) -> None:
    """Asks an engine, in one pass, for what steps of one stage miss. Raises StepFailed once more of
    a step's requests have failed than `max_failed` allows; what was finished is kept."""
    recipe = survey.recipe
    stage = founds[0].step.stage
    askings: list[_Asking] = []
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
                folder = key_of(found)
                folder.create(found.settings)
                if folder.key not in writers:
                    writer = ShardWriter(
                        folder, TABLES[stage], recipe.shards.rows, recipe.shards.seconds
                    )
                    writers[folder.key] = stack.enter_context(writer)
                askings.append(_Asking(survey, found, engine, writers[folder.key]))
            unit = "answers" if stage == "samples" else "judgments"
            total = sum(found.missing for found in founds)
            task = stack.enter_context(progress.task(pass_title(founds), total, unit))
            for result in engine.generate(requests()):
                subject = in_flight.pop((result.request_id, result.draw))
                task.advance(1, result.n_tokens or 0)
                subject.asking.take(result, subject)
    finally:
        _record(askings, time.monotonic() - began)


def _record(askings: Sequence[_Asking], seconds: float) -> None:
    """Notes in the manifests what each step took, also where the pass broke off. A step's share of
    the time is its share of the tokens."""
    tokens = sum(asking.count.all_tokens for asking in askings)
    for asking in askings:
        share = asking.count.all_tokens / tokens if tokens else 1 / len(askings)
        if asking.count.answered or asking.count.failed:
            asking.record(share * seconds)


def _to_ask(survey: Survey, founds: Sequence[Found], limit: int | None) -> Views:
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
    return survey.views(joined(survey.step_scope(found.step) for found in founds))


def carry_over(survey: Survey, found: Found, limit: int | None, progress: Progress) -> None:
    """Takes over the answers that ended by themselves under another limit on their length."""
    folder, stage = key_of(found), found.step.stage
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


def pass_title(founds: Sequence[Found]) -> str:
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


def first_errors(survey: Survey, found: Found, limit: int | None) -> list[str]:
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
class _Count:
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


# tabular stages


def make_prompts(survey: Survey, found: Found, progress: Progress) -> None:
    """Writes the prompts that were read, and says which lines were left out."""
    folder = key_of(found)
    rows, problems = survey.holdings.prompts[found.step.role], survey.left_out[found.step.role]
    assert isinstance(rows, pa.Table), "prompts that are not in the lake were read"
    folder.create(found.settings)
    folder.append(rows)
    left_out = [dataclasses.asdict(problem) for problem in problems]
    folder.record({"step": found.step.label, "answered": len(rows), "left_out": left_out})
    progress.say(f"  {found.step.label}: {len(rows):,} read")
    if problems:
        progress.say(f"  {len(problems):,} lines left out:\n" + problem_list(problems))


def make_verdicts(
    survey: Survey, found: Found, progress: Progress, limit: int | None = None
) -> None:
    """Reads the judgments that have no verdict yet."""
    folder, recipe = key_of(found), survey.recipe
    rubric, scale = survey.reading(found.step)
    folder.create(found.settings)
    count, unscored = _Count(), 0
    writer = ShardWriter(folder, TABLES["verdicts"], recipe.shards.rows, recipe.shards.seconds)
    views = survey.step_views(found, limit)
    with writer:
        for batch in views.stream("unparsed"):
            for judgment in batch.to_pylist():
                row = verdicts.row(judgment, rubric, scale, folder.key)
                writer.put(row)
                count.answered += 1
                unscored += row["score"] is None
    folder.record({"step": found.step.label, **count.manifest()})
    said = f", {unscored:,} without a score" if unscored else ""
    progress.say(f"  {found.step.label}: {count.answered:,}{said}")


def make_pairs(survey: Survey, found: Found, progress: Progress) -> None:
    """Writes every pair that the policy considers, with its outcome."""
    step, folder = found.step, key_of(found)
    folder.create(found.settings)
    began = time.time()
    views = pair_views(survey, step, folder.key)
    check_policy(views, survey.policy)
    views.read_texts("from policy")
    folder.append_batches(TABLES["pairs"], views.stream("pairs", TABLES["pairs"]))
    views.drop("measured", "chosen_pairs")  # the texts stay: what comes next is written of them
    folder.record({"step": step.label, "seconds": round(time.time() - began, 3)})
    outcomes = pair_outcomes(survey, folder)
    shown = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items())
    progress.say(f"  {step.label}: {shown or 'no prompts'}")


def pair_views(survey: Survey, step: Step, build: str) -> Views:
    """The views that a policy is run on."""
    views = survey.views(survey.phase_scope(step))
    views.setting(
        "build_settings",
        {
            "build": build,
            "iteration": step.iteration,
            "phase": step.phase,
            "judge_model": survey.pair_judge(step),
        },
    )
    define_policy(views, survey.policy, survey.recipe)
    return views


def define_policy(views: Views, policy: Policy, recipe: Recipe) -> None:
    """Makes `policy` a view over the candidates, with the views that policies are written on. What
    they measure is computed once, and held without the texts."""
    views.setting("pair_settings", pairs.parameters(recipe.pairs, policy.trains))
    for name, query in pairs.views(recipe, sql_text).items():
        define = views.table if name == "measured" else views.define
        define(name, query)
    try:
        views.define("policy", policy.sql)
    except duckdb.Error as error:
        raise _policy_error(policy, f"is no query: {' '.join(str(error).split())[:300]}") from None


def check_policy(views: Views, policy: Policy) -> None:
    """Runs a policy, and makes `policy` what it returned. Raises RecipeError where a row of it
    cannot be a pair."""
    try:
        relation = views.con.sql("from policy")
        types = dict(zip(relation.columns, map(str, relation.types), strict=True))
        for column in ("prompt_id", "chosen_id", "rejected_id"):
            if types.get(column) != "VARCHAR":
                came = types.get(column, "no such column")
                raise _policy_error(policy, f"{column}: got {came}, expected text (VARCHAR)")
        views.table("chosen_pairs", "select prompt_id, chosen_id, rejected_id from policy")
        views.define("policy", "from chosen_pairs")
        # Those that ship take their sides from the eligible alone: they can have no such fault.
        faults = views.all("policy_faults") if policy.is_own else []
    except duckdb.Error as error:
        raise _policy_error(policy, f"failed: {' '.join(str(error).split())[:300]}") from None
    if faults:
        fault = faults[0]
        raise _policy_error(policy, f"returned {fault['fault']} (prompt_id {fault['prompt_id']})")


def _policy_error(policy: Policy, why: str) -> RecipeError:
    return RecipeError(
        f"loop.policy: {policy.name} {why}: expected one query that gives prompt_id, chosen_id and "
        "rejected_id of candidates; no pair was written"
    )


def pair_outcomes(survey: Survey, folder: Folder) -> dict[str, int]:
    """How many pairs of a build had which outcome."""
    views = survey.views()
    views.shards("pairs", "pairs", folder.shards())
    rows = views.con.sql(
        "select outcome, count(*) from pairs_shards group by outcome order by 2 desc, 1"
    ).fetchall()
    return {str(outcome): int(count) for outcome, count in rows}


# training


def train_model(survey: Survey, found: Found, lock: Any, progress: Progress) -> None:
    """Trains a model, in a process of its own, and writes its manifest last."""
    step, folder, recipe = found.step, key_of(found), survey.recipe
    parent = survey.models[step.parent]
    folder.create(found.settings)
    (folder.path / "manifest.json").unlink(missing_ok=True)
    built = key_of(survey.found[Step("pairs", step.iteration, phase=step.phase)])
    began = time.time()
    n_pairs = _training_rows(survey, step, built, folder)
    if n_pairs == 0:
        outcomes = pair_outcomes(survey, built)
        counted = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items())
        raise StepFailed(
            f"pairs {step.phase} of iteration {step.iteration}: no pair of the training split was "
            f"kept ({counted or 'no prompts'}), so there is nothing for {step.name} to learn from; "
            "look at the judgments with `factory preview`, or at "
            f'"select * from judgments" with `factory sql`'
        )
    if recipe.train.with_ == "trl":
        _tell_too_long(survey, step, built, n_pairs, progress)
        _run_trainer(recipe, survey.policy.trains, found, parent, n_pairs, lock, progress)
    else:
        _scripted_trainer(found, parent)
    model = folder.path / "model"
    hashes: dict[str, str] = {}
    lora = recipe.train.lora is not None and recipe.train.with_ == "trl"
    digest = (
        adapter_digest(model, parent.base, hashes)
        if lora
        else folder_digest(model, parent.dtype, hashes)
    )
    manifest = {
        "digest": digest,
        "as_run": as_run(digest, recipe.engine),
        "dtype": parent.dtype,
        "parent": parent.digest,
        "build": built.key,
        "n_pairs": n_pairs,
        "settings": found.settings,
        "seconds": round(time.time() - began, 1),
        "versions": {"factory": __version__, **_trainer_versions(recipe)},
        "files": {
            file.name: [file.stat().st_size, cached_digest(file, hashes)]
            for file in model_files(model)
        },
    }
    with writing(folder.lake.root):
        write_whole(folder.path / "manifest.json", json.dumps(manifest, indent=1))
    tidy(folder)


def tidy(folder: Folder) -> None:
    """Removes what a finished training no longer needs. The manifest comes first: until it is
    there, a kill costs no more than what came after the last checkpoint."""
    with writing(folder.lake.root):
        for name in ("data.parquet", "job.json"):
            (folder.path / name).unlink(missing_ok=True)
        if (folder.path / "checkpoints").exists():
            shutil.rmtree(folder.path / "checkpoints")


_LEARNED: dict[Method, tuple[str, tuple[str, ...]]] = {
    "dpo": ("training_rows", ("prompt", "chosen", "rejected")),
    "sft": ("training_completions", ("prompt", "completion")),
}
"""What a trainer reads: the query, and its columns."""


def _training_rows(survey: Survey, step: Step, built: Folder, folder: Folder) -> int:
    """Writes what the trainer reads: kept pairs of the training split, in the order of pair_id."""
    query, columns = _LEARNED[survey.policy.trains]
    schema = pa.schema([(column, pa.list_(BARE_MESSAGE)) for column in columns])
    views = survey.views(survey.phase_scope(step))
    views.shards("pairs", "pairs", built.shards())
    views.define("pairs", "from pairs_shards")
    views.read_texts("from pairs where outcome = 'kept' and split = 'train'")
    with writing(folder.lake.root):
        n_rows = write_parquet(folder.path / "data.parquet", schema, views.stream(query, schema))
    views.forget_texts()  # training takes long, and its process may want the memory
    return n_rows


def _tell_too_long(
    survey: Survey, step: Step, built: Folder, n_pairs: int, progress: Progress
) -> None:
    """Says how many pairs TRL will cut, or drop where the prompt alone fills its max_length."""
    method = survey.policy.trains
    max_length = train.effective(survey.recipe.train, method).get("max_length", TRL_MAX_LENGTH)
    if max_length is None:
        return
    views = survey.views()
    views.shards("pairs", "pairs", built.shards())
    views.setting("limits", {"max_length": max_length})
    if n := views.one("too_long")["n"]:
        progress.say(
            f"  {step.label}: {n:,} of {n_pairs:,} pairs are longer than max_length {max_length} "
            f"and are cut, or dropped where the prompt alone fills it (train.{method}.max_length)"
        )


def _scripted_trainer(found: Found, parent: Checkpoint) -> None:
    """Trains nothing: the scripted engine's models are told apart by what they learned from."""
    folder = key_of(found)
    with writing(folder.lake.root):
        model = folder.path / "model"
        model.mkdir(exist_ok=True)
        learned = {"parent": parent.digest, "rows": found.settings["rows"], "key": folder.key}
        write_whole(model / "scripted.json", json.dumps(learned))


def _run_trainer(
    recipe: Recipe,
    method: Method,
    found: Found,
    parent: Checkpoint,
    n_pairs: int,
    lock: Any,
    progress: Progress,
) -> None:
    folder = key_of(found).path
    fields = {"seed": recipe.seed, **train.effective(recipe.train, method)}
    job = Job(
        method,
        str(parent.path),
        parent.dtype,
        fields,
        recipe.train.checkpoint_seconds,
        lora=train.adapter_fields(recipe.train),
        adapter=str(parent.adapter) if parent.adapter else None,
    )
    with writing(key_of(found).lake.root):
        write_whole(folder / "job.json", json.dumps(dataclasses.asdict(job)))
    title = f"{found.step.label} ({n_pairs:,} pairs)"
    # The trainer inherits the folder's lock: a killed run leaves no folder that two write to.
    failure = run_trainer(folder, recipe.train.launcher, title, progress, lock.fileno())
    if failure is not None:
        log = key_of(found).lake.relative(folder / LOG)
        raise TrainError(f"{found.step.label}: {failure} (all of it: {log} in the lake)")


def _trainer_versions(recipe: Recipe) -> dict[str, str]:
    if recipe.train.with_ != "trl":
        return {}
    from importlib.metadata import version

    names = ("trl", "transformers", "torch", *(["peft"] if recipe.train.lora is not None else []))
    return {name: version(name) for name in names}
