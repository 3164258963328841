"""What the lake holds of a recipe's steps: each step's folder, and what is missing in it.

A survey is taken step by step, in the plan's order, since a step's key may hang on rows that an
earlier one made. It reads the lake and writes none of its tables.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from factory.checkpoint import (
    Checkpoint,
    adapter_rank,
    model_manifest,
    open_checkpoint,
    trained_model,
)
from factory.errors import ModelError, PromptsError
from factory.fingerprint import canonical, folder_key, short_hash
from factory.functions import Function, find_function
from factory.holdings import Holdings
from factory.judge import Rubric, load_rubric
from factory.lake import Folder, Lake
from factory.plan import Step, first_draw
from factory.prompt_files import PromptFiles
from factory.query import Views, sql_text
from factory.recipe import JUDGE, REFERENCE, Generation, Recipe, resolved
from factory.schema import TABLES, Row
from factory.stages import judgments, pairs, prompts, samples, train, verdicts
from factory.stages.pairs import policy_of


@dataclass(frozen=True)
class Found:
    """A step, as the lake has it."""

    step: Step
    folder: Folder | None = None
    """None where its key is not known yet."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What the key was made of."""
    asked: str = ""
    """Of generating steps: the key without the limit on length, which requests are made of."""
    waits_for: str | None = None
    wanted: int = 0
    answered: int = 0
    failed: int = 0
    """Failed for good."""
    transient: int = 0
    """Failed for now: asked again by the next run."""
    filtered: int = 0
    """Not asked for: their input failed."""
    unparsed: int = 0
    carried: int = 0
    """Of what is missing: answered under another limit on length, and taken over from there."""

    @property
    def missing(self) -> int:
        return self.wanted - self.answered - self.failed - self.filtered

    @property
    def done(self) -> bool:
        return self.waits_for is None and self.missing == 0


class Survey:
    def __init__(self, recipe: Recipe, lake: Lake, *, download: bool = False) -> None:
        """Checks what a recipe points to: its model, rubric and functions."""
        self.lake = lake
        self._digests = lake.load_json("digests.json")
        model = open_checkpoint("M_0", recipe.model, recipe, self._digests, download=download)
        if lake.root.is_dir():
            lake.save_json("digests.json", self._digests)
        self.written = recipe
        """The recipe as it was written; `recipe` has what generation_config decides."""
        judge = self._open_judge(recipe, download=download)
        self.recipe = recipe = resolved(
            recipe, model.generation_config, (judge or model).generation_config
        )
        self.models: dict[str, Checkpoint] = {"M_0": model, **({JUDGE: judge} if judge else {})}
        """The models that are there, by name."""
        self.roles: dict[tuple[int, str, str], Row] = {}
        """Rows of `roles` by iteration, role and name."""
        self.found: dict[Step, Found] = {}
        """The steps that were looked at, in that order."""
        self.left_out: dict[str, list[prompts.Problem]] = {}
        """By loop or probe: lines of prompts that were read and cannot be used."""
        self.holdings = Holdings(recipe, lake)
        self._n_prompts: dict[int, tuple[int, int]] = {}
        self._read: dict[str, str] = {}
        self.checked_models: set[str] = set()
        """Digests of trained models whose files were read and found whole."""
        self.policy = policy_of(recipe)
        self.rubric = None if recipe.judge.function else load_rubric(recipe.judge, recipe.folder)
        self.function = self._find(recipe.judge.function)
        self.probe_function = self._find(recipe.probe.function if recipe.probe else None)

    def _open_judge(self, recipe: Recipe, *, download: bool) -> Checkpoint | None:
        """The fixed judge, where the recipe names one."""
        model = recipe.judge.model
        if model is None:
            return None
        try:
            return open_checkpoint(JUDGE, model, recipe, self._digests, download=download)
        except ModelError as error:  # its sentence begins with the field, as M_0's does
            raise type(error)(f"judge.{error}") from None

    def rank(self, name: str) -> int:
        """The largest of the adapters that the engine of a model will be asked for; 0 where there
        are none."""
        fixed = [name] if name == JUDGE else self.models.keys() - {JUDGE}
        adapters = [adapter for held in fixed if (adapter := self.models[held].adapter)]
        ranks = [adapter_rank(adapter) for adapter in adapters]
        fields = train.adapter_fields(self.recipe.train)
        if fields is not None and self.recipe.one_engine and name != JUDGE:
            ranks += [fields["r"], *(fields.get("rank_pattern") or {}).values()]
        return max(ranks, default=0)

    def save_memo(self) -> None:
        """Keeps what took time to work out, for the next command."""
        if self.lake.root.is_dir():
            self.lake.save_json("digests.json", self._digests)
            self.holdings.save_memo()

    def _find(self, name: str | None) -> Function | None:
        return find_function(name, self.recipe.folder) if name else None

    def look(self, step: Step, *, limit: int | None = None) -> Found:
        """Finds a step's folder and counts what it holds. `limit` looks at the first prompts of
        the training split only."""
        match step.stage:
            case "prompts":
                found = self._prompts(step)
            case "samples":
                found = self._samples(step, limit)
            case "judgments":
                found = self._judgments(step, limit)
            case "verdicts":
                found = self._verdicts(step, limit)
            case "pairs":
                found = self._pairs(step)
            case _:
                found = self._train(step)
        self.found[step] = found
        return found

    # prompts

    def _prompts(self, step: Step) -> Found:
        files = PromptFiles(self.recipe, step.role, self.models["M_0"])
        settings = files.settings()
        folder = self.lake.folder("prompts", folder_key("prompts", prompts.VERSION, settings))
        if shards := folder.shards():
            self.holdings.prompts[step.role] = shards
            n_rows = _n_rows(folder)
            found = Found(step, folder, settings, wanted=n_rows, answered=n_rows)
        else:
            if self._read.get(step.role) != folder.key:  # once, however often it is looked at
                rows, self.left_out[step.role] = files.read()
                self.holdings.prompts[step.role] = rows
                self._read[step.role] = folder.key
            rows = self.holdings.prompts[step.role]
            found = Found(step, folder, settings, wanted=len(rows))
        self._count_prompts()
        if step.role == "probe":
            self._check_apart()
        return found

    def _count_prompts(self) -> None:
        counts = self.holdings.recall(
            "count_prompts", [], [], lambda: {"counts": self.views([]).all("count_prompts")}
        )
        self._n_prompts = {
            row["iteration"]: (row["prompts"], row["trained_on"]) for row in counts["counts"]
        }

    def n_prompts(self, step: Step, limit: int | None) -> int:
        """How many prompts a step is about."""
        iteration = -1 if step.role == "probe" else step.iteration
        every, trained_on = self._n_prompts.get(iteration, (0, 0))
        return every if limit is None else min(limit, trained_on)

    def check_chunks(self) -> None:
        """Raises PromptsError where an iteration has no prompt to learn from."""
        for iteration in range(self.recipe.loop.iterations):
            if self._n_prompts.get(iteration, (0, 0))[1] == 0:
                total = sum(every for place, (every, _) in self._n_prompts.items() if place >= 0)
                raise PromptsError(
                    f"prompts.files: of {total} prompts none that is not held out falls to "
                    f"iteration {iteration} of {self.recipe.loop.n_chunks}: add prompts, or take "
                    "fewer iterations or a smaller prompts.test_fraction"
                )

    def _check_apart(self) -> None:
        shared = self.holdings.recall(
            "shared_prompts", [], [], lambda: self.views([]).one("shared_prompts")
        )
        if shared["n"]:
            raise PromptsError(
                f"probe.files: {shared['n']} of its prompts are also in prompts.files; expected "
                "others, since the probe measures what the loop never learned from"
            )

    # samples, judgments, verdicts

    def _samples(self, step: Step, limit: int | None) -> Found:
        model = self.models.get(step.name)
        n_draws = self._n_draws(step)
        wanted = self.n_prompts(step, limit) * n_draws
        generation = None
        if step.name == REFERENCE:
            counts = self.counts_references
            tokenizer = self.models["M_0"].tokenizer_digest if counts else None
            settings = samples.reference_settings(tokenizer)
        elif model is None:
            return Found(step, waits_for=step.name, wanted=wanted)
        else:
            generation = self.recipe.sampling
            settings = samples.settings(model, generation, self.recipe.seed)
        folder, asked, settings = self._generating("samples", samples.VERSION, settings, generation)
        self.role(step).update(
            model=model.digest if model else REFERENCE,
            sampling=folder.key,
            asked=asked,
            first_draw=first_draw(step),
            n_draws=n_draws,
        )
        found = Found(step, folder, settings, asked, wanted=wanted)
        row = self._count(found, "count", limit)
        _check_count(found, row["wanted"], wanted)
        return self._with_carried(_counted(found, row), limit)

    @property
    def counts_references(self) -> bool:
        """Whether references have a length, in M_0's tokens; a scripted model has no tokens."""
        return self.recipe.engine.name != "scripted"

    def _judgments(self, step: Step, limit: int | None) -> Found:
        waits_for = self._waits(step)
        judge = self.judge(step)
        wanted = self.n_prompts(step, limit) * self._n_draws(step) * self._n_judge_draws(step)
        if waits_for or judge is None:
            return Found(step, waits_for=waits_for or step.judge, wanted=wanted)
        generation = self.recipe.judge
        rubric = self.rubric if isinstance(judge, Checkpoint) else None
        settings = judgments.settings(judge, rubric, generation, self.recipe.seed)
        folder, asked, settings = self._generating(
            "judgments",
            judgments.VERSION,
            settings,
            generation if rubric else None,
        )
        self.role(step).update(
            judge=folder.key,
            judge_reads=self._judge_reads(step),
            n_judge_draws=self._n_judge_draws(step),
        )
        if rubric and step.role != "probe":
            self._judge_role(step, judge.digest, folder.key)
        found = Found(step, folder, settings, asked, wanted=wanted)
        row = self._count(found, "count", limit)
        sampled = self.found[Step("samples", step.iteration, step.role, step.name)]
        held = sampled.answered + sampled.failed + sampled.transient
        _check_count(found, row["wanted"], held * self._n_judge_draws(step))
        return self._with_carried(_counted(found, row), limit)

    def _verdicts(self, step: Step, limit: int | None) -> Found:
        judged = self.found[replace(step, stage="judgments")]
        if judged.folder is None:
            return Found(step, waits_for=judged.waits_for, wanted=judged.wanted)
        rubric, scale = self.reading(step)
        settings = verdicts.settings(judged.folder.key, rubric, scale)
        folder = self.lake.folder("verdicts", folder_key("verdicts", verdicts.VERSION, settings))
        self.role(step).update(parser=folder.key)
        found = Found(step, folder, settings, wanted=judged.wanted)
        row = self._count(found, "count_verdicts", limit)
        _check_count(found, row["wanted"], judged.answered + judged.failed + judged.transient)
        row["filtered"] += judged.filtered
        return _counted(found, row)

    def _generating(
        self, table: str, version: int, settings: dict[str, Any], generation: Generation | None
    ) -> tuple[Folder, str, dict[str, Any]]:
        """The folder of a generating step, what its requests are made of, and what the folder is
        made of: the limit on an answer's length names the folder and not the request, so that an
        answer that ended within two limits has one id under both."""
        asked = folder_key(f"asked {table}", version, settings)
        if generation:
            settings = {**settings, "max_tokens": generation.max_tokens}
        return self.lake.folder(table, folder_key(table, version, settings)), asked, settings

    def _with_carried(self, found: Found, limit: int | None) -> Found:
        if not found.missing or not self.others(found):
            return found
        return replace(found, carried=self.carried(found, limit).one("count_carried")["n"])

    def others(self, found: Found) -> list[Path]:
        """The shards of the folders that were asked the same under another limit on length."""
        if found.folder is None or "max_tokens" not in found.settings:
            return []
        mine = canonical({**found.settings, "max_tokens": None})
        return [
            shard
            for folder in self.lake.folders(found.folder.table)
            if folder.key != found.folder.key
            and canonical({**folder.settings(), "max_tokens": None}) == mine
            for shard in folder.shards()
        ]

    def carried(self, found: Found, limit: int | None) -> Views:
        """The step's views, with `carried`: the rows of those shards that answer what is
        missing."""
        views = self.step_views(found, limit)
        views.shards("other", found.step.stage, self.others(found))
        views.setting("limits", {"max_tokens": found.settings["max_tokens"]})
        # Its columns are those of the table: a view of one name cannot change them unseen.
        views.define("carried", f"-- {found.step.stage}\n{sql_text('carried')}")
        return views

    def judge(self, step: Step) -> Checkpoint | Function | None:
        """Who judges in a step; None for a model that is not there yet."""
        if step.role == "probe":
            return self.probe_function
        return self.models.get(step.judge) if step.judge else self.function

    def reading(self, step: Step) -> tuple[Rubric | None, tuple[float, float] | None]:
        """How a step's judgments are read: by a rubric's parser, or as numbers within a scale."""
        if step.role == "probe":
            return None, None
        return self.rubric, self.recipe.judge.scale

    def role(self, step: Step) -> Row:
        """The row of `roles` that a step's samples belong to."""
        key = (step.iteration, step.role, step.name)
        return self.roles.setdefault(
            key,
            {
                "recipe": self.recipe.name,
                "iteration": step.iteration,
                "role": step.role,
                "name": step.name,
            },
        )

    def _judge_role(self, step: Step, digest: str, key: str) -> None:
        role = replace(step, role="judge", name=step.judge)
        self.role(role).update(model=digest, judge=key, n_judge_draws=self._n_judge_draws(step))

    def _n_draws(self, step: Step) -> int:
        if step.role == "probe" and self.recipe.probe:
            return self.recipe.probe.draws
        return 1 if step.role == REFERENCE else self.recipe.sampling.draws

    def _n_judge_draws(self, step: Step) -> int:
        return 1 if step.role == "probe" else self.recipe.judge.n_draws

    # pairs and trainings

    def _pairs(self, step: Step) -> Found:
        if waits_for := self._waits(step):
            return Found(step, waits_for=waits_for)
        roles = self.phase_roles(step)
        rows = self.holdings.recall(
            f"rows_read {step.iteration} {step.phase}",
            [roles],
            roles,
            lambda: self.views(roles).one("rows_read"),
        )["digest"]
        settings = pairs.settings(
            step.iteration,
            step.phase,
            self.policy,
            self.recipe.pairs,
            self._pairs_sql(),
            self.pair_judge(step),
            rows if not self.policy.is_own else rows + self.holdings.names(roles),
        )
        folder = self.lake.folder("pairs", folder_key("pairs", pairs.VERSION, settings))
        n_rows = _n_rows(folder)
        wanted = n_rows if folder.shards() else max(1, self.n_prompts(step, None))
        return Found(step, folder, settings, wanted=wanted, answered=n_rows)

    def _pairs_sql(self) -> str:
        names = ["macros", *pairs.views(self.recipe.pairs).values(), "pairs"]
        return short_hash("".join(map(sql_text, names)))

    def pair_judge(self, step: Step) -> str:
        """The digest of what scored the candidates of a pairs step."""
        fixed = self.models.get(JUDGE)
        return (self.function or fixed or self.models[f"M_{step.iteration}"]).digest

    def phase_roles(self, step: Step) -> list[Row]:
        """The roles whose samples are candidates for a pairs step."""
        wanted = self.policy.candidates(step.phase)
        return [
            row
            for (iteration, role, _), row in self.roles.items()
            if iteration == step.iteration and role in wanted
        ]

    def _train(self, step: Step) -> Found:
        built = self.found[Step("pairs", step.iteration, phase=step.phase)]
        if built.folder is None or not built.done:
            return Found(step, waits_for=built.waits_for or f"pairs {step.phase}", wanted=1)
        views = self.views([])
        views.shards("pairs", "pairs", built.folder.shards())
        learned = short_hash(views.one("learned")["pair_ids"])
        parent = self.models[step.parent]
        spec, method = self.recipe.train, self.policy.trains
        settings = train.settings(spec, method, parent.digest, learned, self.recipe.seed)
        folder = self.lake.folder("models", folder_key("train", train.VERSION, settings))
        model = trained_model(step.name, folder.path, self.models["M_0"], self.recipe)
        if model is None:
            self.models.pop(step.name, None)
            return Found(step, folder, settings, wanted=1)
        self.models[step.name] = model
        return Found(step, folder, settings, wanted=1, answered=1)

    def _waits(self, step: Step) -> str | None:
        """What an earlier step that this one reads is still waiting for, or its title."""
        for found in self._inputs(step):
            if found.waits_for:
                return found.waits_for
            if step.stage == "pairs" and not found.done:
                return found.step.title
        return None

    def _inputs(self, step: Step) -> list[Found]:
        if step.stage == "judgments":
            return [self.found[Step("samples", step.iteration, step.role, step.name)]]
        wanted = self.policy.candidates(step.phase)
        return [
            found
            for other, found in self.found.items()
            if other.iteration == step.iteration and other.role in wanted
        ]

    # views

    def views(self, roles: Sequence[Row]) -> Views:
        """The lake's tables as views, holding what these roles read: see `Holdings.views`."""
        return self.holdings.views(roles)

    def step_views(self, found: Found, limit: int | None) -> Views:
        """The views that the queries of a step are made on."""
        return self.holdings.step_views(
            found.step.stage, self.role(found.step), self._step_row(found, limit)
        )

    def _count(self, found: Found, query: str, limit: int | None) -> dict[str, Any]:
        return self.holdings.count_step(
            query, found.step.stage, self.role(found.step), self._step_row(found, limit)
        )

    def _step_row(self, found: Found, limit: int | None) -> Row:
        step = found.step
        samples_step = step.stage == "samples"
        return {
            "asked": found.asked,
            "iteration": step.iteration,
            "role": step.role,
            "of_probe": step.role == "probe",
            "first_prompts": limit,
            "first_draw": first_draw(step),
            "n_draws": self._n_draws(step) if samples_step else self._n_judge_draws(step),
            "judge_reads": self._judge_reads(step),
        }

    def _judge_reads(self, step: Step) -> str:
        function = step.role == "probe" or self.function is not None
        return judgments.reads(None if function else self.rubric)

    def models_table(self) -> pa.Table:
        """The models of the recipe that are there, as rows of `models`."""
        rows: list[Row] = []
        for model in self.models.values():
            row: Row = {"digest": model.digest, "dtype": model.dtype}
            manifest = model_manifest(model.folder) if model.folder else None
            if model.folder and manifest:
                row.update(
                    key=model.folder.name,
                    parent=manifest["parent"],
                    build=manifest["build"],
                    n_pairs=manifest["n_pairs"],
                    settings=json.dumps(manifest["settings"]),
                )
            rows.append(row)
        return pa.Table.from_pylist(rows, TABLES["models"])


def _n_rows(folder: Folder) -> int:
    return sum(pq.read_metadata(shard).num_rows for shard in folder.shards())


def _check_count(found: Found, counted: int, expected: int) -> None:
    """The rows that a step is about, counted in the lake, are as many as it was asked for: no row
    of another prompt, draw or context is among them, and none is missing."""
    assert counted == expected, f"{found.step.label}: {counted} rows, expected {expected}"


def _counted(found: Found, row: dict[str, Any]) -> Found:
    counts: dict[str, Any] = {name: int(row[name]) for name in row if name != "wanted"}
    return replace(found, **counts)
