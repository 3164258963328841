"""What the lake holds of a recipe's steps: each step's folder, and what is missing in it.

A survey is taken step by step, in the plan's order, since a step's key may hang on rows that an
earlier one made. It reads the lake and never writes to it.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from factory.checkpoint import Checkpoint, open_checkpoint, token_counter
from factory.errors import PromptsError
from factory.fingerprint import canonical, file_digest, folder_key, short_hash
from factory.functions import Function, find_function
from factory.judge import Rubric, load_rubric
from factory.lake import Folder, Lake
from factory.plan import Step, first_draw
from factory.query import Views, sql_text
from factory.recipe import Generation, Prompts, Recipe
from factory.schema import TABLES, Row
from factory.stages import judgments, pairs, prompts, samples, train, verdicts

ROLE_KEYS = {"samples": "sampling", "judgments": "judge", "verdicts": "parser"}
"""The tables that a role's rows lie in, and the column of `roles` with the folder's key."""

MEMO_VERSION = 1
"""To be raised when a query whose result is remembered gives other results."""

_STEP = pa.schema(
    [
        ("asked", pa.string()),
        ("iteration", pa.int32()),
        ("of_probe", pa.bool_()),
        ("first_prompts", pa.int64()),
        ("first_draw", pa.int32()),
        ("n_draws", pa.int32()),
        ("reads_context", pa.bool_()),
        ("reads_meta", pa.bool_()),
    ]
)


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
    prompt_tokens: int = 0
    tokens: int = 0

    @property
    def missing(self) -> int:
        return self.wanted - self.answered - self.failed - self.filtered

    @property
    def done(self) -> bool:
        return self.waits_for is None and self.missing == 0


@dataclass
class Survey:
    recipe: Recipe
    lake: Lake
    models: dict[str, Checkpoint] = field(default_factory=dict)
    roles: dict[tuple[int, str, str], Row] = field(default_factory=dict)
    """Rows of `roles` by iteration, role and name."""
    found: dict[Step, Found] = field(default_factory=dict)
    prompt_rows: dict[str, pa.Table | list[Any]] = field(default_factory=dict)
    """By loop or probe: the shards, or the rows that were read and are not in the lake yet."""
    readings: dict[str, prompts.Reading] = field(default_factory=dict)
    n_prompts: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By iteration (-1 for the probe's): all prompts, and those that are not held out."""
    memo: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What queries came to before: see `_remembered`."""
    used: set[str] = field(default_factory=set)
    """The part of it that this survey used."""

    @classmethod
    def begin(cls, recipe: Recipe, lake: Lake, *, download: bool = False) -> "Survey":
        """Checks what a recipe points to: its model, rubric and functions."""
        survey = cls(recipe, lake)
        known = lake.load_json("digests.json")
        survey.models["M_0"] = open_checkpoint(
            "M_0", recipe.model, recipe, known, download=download
        )
        if lake.root.is_dir():
            lake.save_json("digests.json", known)
        survey.memo = lake.load_json(survey._memo_name)
        assert survey.rubric or survey.function, "a judge is a model with a rubric or a function"
        return survey

    @property
    def _memo_name(self) -> str:
        return f"memo-{self.recipe.name}.json"

    def remember(self) -> None:
        """Keeps what was counted for the next command."""
        self.lake.save_json(self._memo_name, {name: self.memo[name] for name in sorted(self.used)})

    @cached_property
    def function(self) -> Function | None:
        name = self.recipe.judge.function
        return find_function(name, self.recipe.folder) if name else None

    @cached_property
    def rubric(self) -> Rubric | None:
        if self.recipe.judge.function:
            return None
        return load_rubric(self.recipe.judge, self.recipe.folder)

    @cached_property
    def probe_function(self) -> Function | None:
        probe = self.recipe.probe
        return find_function(probe.function, self.recipe.folder) if probe else None

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
        settings = self._prompt_settings(step)
        folder = self.lake.folder("prompts", folder_key("prompts", prompts.VERSION, settings))
        shards = folder.shards()
        if shards:
            self.prompt_rows[step.role] = shards
            n_rows = sum(pq.read_metadata(shard).num_rows for shard in shards)
            found = Found(step, folder, settings, wanted=n_rows, answered=n_rows)
        else:
            reading = self._read(step)
            self.readings[step.role] = reading
            self.prompt_rows[step.role] = pa.Table.from_pylist(reading.rows, TABLES["prompts"])
            found = Found(step, folder, settings, wanted=max(1, len(reading.rows)))
        self._count_prompts()
        if step.role == "probe":
            self._check_apart()
        return found

    def _count_prompts(self) -> None:
        counts = self._remembered(["count_prompts"], [], self._read_counts)["counts"]
        self.n_prompts = {iteration: (every, train) for iteration, every, train in counts}

    def _read_counts(self) -> dict[str, Any]:
        rows = self.views([]).con.sql(
            "select coalesce(iteration, -1), count(*), count(*) filter (split != 'test') "
            "from prompts group by iteration order by iteration"
        )
        return {"counts": [list(row) for row in rows.fetchall()]}

    def _prompt_settings(self, step: Step) -> dict[str, Any]:
        spec = self._prompt_spec(step)
        digests = []
        for name in spec.files:
            file = self.recipe.resolve(name)
            if not file.is_file():
                raise PromptsError(f"{name}: no such file beside the recipe; expected JSON lines")
            digests.append(file_digest(file))
        if self.recipe.engine.name == "scripted":
            return prompts.settings(spec, digests, None, None)
        model = self.models["M_0"]
        return prompts.settings(spec, digests, model.tokenizer_digest, self._most_tokens)

    def _prompt_spec(self, step: Step) -> Prompts:
        spec = self.recipe.prompts
        if step.role == "loop":
            return spec
        assert self.recipe.probe is not None, "only a recipe with a probe has that step"
        return spec.model_copy(update={"files": self.recipe.probe.files})

    @property
    def _most_tokens(self) -> int | None:
        context = self.models["M_0"].context_length
        return context - self.recipe.sampling.max_tokens if context else None

    def _read(self, step: Step) -> prompts.Reading:
        spec = self._prompt_spec(step)
        limit = None
        if self.recipe.engine.name != "scripted" and (most := self._most_tokens) is not None:
            model = self.models["M_0"]
            why = (
                f"(the model's context is {model.context_length}, "
                f"and sampling.max_tokens {self.recipe.sampling.max_tokens})"
            )
            limit = prompts.Limit(token_counter(model), most, why)
        files = [(name, self.recipe.resolve(name)) for name in spec.files]
        reading = prompts.read(
            ((name, path.read_bytes().splitlines()) for name, path in files), spec, limit
        )
        if reading.problems and spec.on_error == "stop":
            raise PromptsError(problem_list(reading.problems))
        if not reading.rows:
            raise PromptsError(f"{', '.join(spec.files)}: no prompt in it; expected JSON lines")
        return reading

    def _check_apart(self) -> None:
        shared = self._remembered(["shared"], [], lambda: self.views([]).one("shared_prompts"))
        if shared["n"]:
            raise PromptsError(
                f"probe.files: {shared['n']} of its prompts are also in prompts.files; expected "
                "others, since the probe measures what the loop never learned from"
            )

    # samples, judgments, verdicts

    def _samples(self, step: Step, limit: int | None) -> Found:
        model = self.models.get(step.name)
        n_draws = self._n_draws(step)
        wanted = self._n_prompts(step, limit) * n_draws
        if model is None:
            return Found(step, waits_for=step.name, wanted=wanted)
        settings = samples.settings(model, self.recipe.sampling, self.recipe.seed)
        folder, asked = self._generating("samples", samples.VERSION, settings, self.recipe.sampling)
        self._role(step).update(
            model=model.digest,
            sampling=folder.key,
            first_draw=first_draw(step),
            n_draws=n_draws,
        )
        found = Found(step, folder, settings, asked, wanted=wanted)
        return _counted(found, self._count(found, "count", limit))

    def _judgments(self, step: Step, limit: int | None) -> Found:
        waits_for = self._waits(step)
        judge = self.judge(step)
        wanted = self._n_prompts(step, limit) * self._n_draws(step) * self._n_judge_draws(step)
        if waits_for or judge is None:
            return Found(step, waits_for=waits_for or step.judge, wanted=wanted)
        generation = self.recipe.judge
        rubric = self.rubric if isinstance(judge, Checkpoint) else None
        settings = judgments.settings(judge, rubric, generation, self.recipe.seed)
        folder, asked = self._generating(
            "judgments",
            judgments.VERSION,
            settings,
            generation if rubric else None,
        )
        self._role(step).update(judge=folder.key, n_judge_draws=self._n_judge_draws(step))
        if rubric and step.role != "probe":
            self._judge_role(step, judge.digest, folder.key)
        found = Found(step, folder, settings, asked, wanted=wanted)
        return _counted(found, self._count(found, "count", limit))

    def _verdicts(self, step: Step, limit: int | None) -> Found:
        judged = self.found[replace(step, stage="judgments")]
        if judged.folder is None:
            return Found(step, waits_for=judged.waits_for, wanted=judged.wanted)
        rubric, scale = self.reading(step)
        settings = verdicts.settings(judged.folder.key, rubric, scale)
        folder = self.lake.folder("verdicts", folder_key("verdicts", verdicts.VERSION, settings))
        self._role(step).update(parser=folder.key)
        found = Found(step, folder, settings, wanted=judged.wanted)
        row = self._count(found, "count_verdicts", limit)
        row["filtered"] += judged.filtered
        return _counted(found, row)

    def _generating(
        self, table: str, version: int, settings: dict[str, Any], generation: Generation | None
    ) -> tuple[Folder, str]:
        """The folder of a generating step, and what its requests are made of: the limit on an
        answer's length names the folder and not the request, so that an answer that ended within
        two limits has one id under both."""
        asked = folder_key(f"asked {table}", version, settings)
        limit = {"max_tokens": generation.max_tokens} if generation else {}
        return self.lake.folder(table, folder_key(table, version, {**settings, **limit})), asked

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

    def _role(self, step: Step) -> Row:
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
        self._role(role).update(model=digest, judge=key, n_judge_draws=self._n_judge_draws(step))

    def _n_draws(self, step: Step) -> int:
        if step.role == "probe" and self.recipe.probe:
            return self.recipe.probe.draws
        return self.recipe.sampling.draws

    def _n_judge_draws(self, step: Step) -> int:
        return 1 if step.role == "probe" else self.recipe.judge.n_draws

    def _n_prompts(self, step: Step, limit: int | None) -> int:
        iteration = -1 if step.role == "probe" else step.iteration
        every, trained_on = self.n_prompts.get(iteration, (0, 0))
        return every if limit is None else min(limit, trained_on)

    # pairs and trainings

    def _pairs(self, step: Step) -> Found:
        if waits_for := self._waits(step):
            return Found(step, waits_for=waits_for)
        roles = self.phase_roles(step)
        rows = self._remembered(
            ["rows_read", roles], roles, lambda: self.views(roles).one("rows_read")
        )["digest"]
        settings = pairs.settings(
            step.iteration, step.phase, sql_text(self.recipe.loop.policy), sql_text("pairs"), rows
        )
        folder = self.lake.folder("pairs", folder_key("pairs", pairs.VERSION, settings))
        n_rows = sum(pq.read_metadata(shard).num_rows for shard in folder.shards())
        wanted = n_rows if folder.shards() else max(1, self._n_prompts(step, None))
        return Found(step, folder, settings, wanted=wanted, answered=n_rows)

    def phase_roles(self, step: Step) -> list[Row]:
        """The roles whose samples are candidates for a pairs step."""
        wanted = pairs.roles(self.recipe.loop.policy, step.phase)
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
        views.define(
            "learned",
            "select pair_id from pairs_shards where outcome = 'kept' and split = 'train'",
        )
        rows = views.con.sql(
            "select string_agg(pair_id, ' ' order by pair_id) from learned"
        ).fetchall()
        parent = self.models[step.parent]
        settings = train.settings(
            self.recipe.train, parent.digest, short_hash(str(rows[0][0])), self.recipe.seed
        )
        folder = self.lake.folder("models", folder_key("train", train.VERSION, settings))
        model = trained_model(step.name, folder)
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

    def _inputs(self, step: Step) -> Iterable[Found]:
        if step.stage == "judgments":
            return [self.found[Step("samples", step.iteration, step.role, step.name)]]
        wanted = pairs.roles(self.recipe.loop.policy, step.phase)
        return [
            found
            for other, found in self.found.items()
            if other.stage == "verdicts"
            and other.iteration == step.iteration
            and other.role in wanted
        ]

    # views

    @cached_property
    def _views(self) -> Views:
        return Views()

    def views(self, roles: list[Row]) -> Views:
        """The lake's tables as views, holding what these roles read. There is one connection: the
        next call changes what its views hold."""
        views = self._views
        views.setting("recipe_settings", self._recipe_settings)
        for role, view in (("loop", "prompts"), ("probe", "probe")):
            held = self.prompt_rows.get(role, [])
            if isinstance(held, pa.Table):
                filename = pa.nulls(len(held), pa.string())
                views.rows(f"{view}_shards", held.append_column("filename", filename))
            else:
                views.shards(view, "prompts", held)
        views.rows("roles", pa.Table.from_pylist(roles, TABLES["roles"]))
        for table in ROLE_KEYS:
            views.shards(table, table, self._role_shards(roles, table))
        return views

    def models_table(self) -> pa.Table:
        """The models of the recipe that are there, as rows of `models`."""
        rows: list[Row] = []
        for name, model in self.models.items():
            row: Row = {"digest": model.digest, "dtype": model.dtype}
            if name != "M_0":
                folder = self.lake.folder("models", model.path.parent.name)
                manifest = model_manifest(folder)
                assert manifest is not None, "a trained model has a manifest"
                row.update(
                    key=folder.key,
                    parent=manifest["parent"],
                    build=manifest["build"],
                    n_pairs=manifest["n_pairs"],
                    settings=json.dumps(manifest["settings"]),
                )
            rows.append(row)
        return pa.Table.from_pylist(rows, TABLES["models"])

    @property
    def _recipe_settings(self) -> dict[str, Any]:
        return {
            "chunks": self.recipe.loop.n_chunks,
            "test_fraction": self.recipe.prompts.test_fraction,
        }

    def _role_shards(self, roles: list[Row], table: str) -> list[Path]:
        keys = sorted({row[ROLE_KEYS[table]] for row in roles if row.get(ROLE_KEYS[table])})
        return [path for key in keys for path in self.lake.folder(table, key).shards()]

    def step_views(self, found: Found, limit: int | None = None) -> Views:
        """The views that the queries of a generating step, or of verdicts, are made on."""
        step = found.step
        views = self.views([self._role(step)])
        views.rows("step", pa.Table.from_pylist([self._step_settings(found, limit)], _STEP))
        views.view("scope_prompts", "scope_placed")
        if step.stage in ("samples", "judgments"):
            views.view(f"wanted_{step.stage}")
            views.define("wanted", f"from wanted_{step.stage}")
            views.define("answers", f"from {step.stage}")
            views.view("missing")
        return views

    def _step_settings(self, found: Found, limit: int | None) -> dict[str, Any]:
        step = found.step
        samples_step = step.stage == "samples"
        function = isinstance(self.judge(step), Function)
        return {
            "asked": found.asked,
            "iteration": step.iteration,
            "of_probe": step.role == "probe",
            "first_prompts": limit,
            "first_draw": first_draw(step),
            "n_draws": self._n_draws(step) if samples_step else self._n_judge_draws(step),
            "reads_context": function or judgments.reads_context(self.rubric),
            "reads_meta": function,
        }

    def _count(self, found: Found, query: str, limit: int | None) -> dict[str, Any]:
        """The counts of a step, remembered by all that they follow from."""
        roles = [self._role(found.step)]
        return self._remembered(
            [query, found.step.stage, self._step_settings(found, limit), roles],
            roles,
            lambda: self.step_views(found, limit).one(query),
        )

    def _remembered(
        self, asked: list[Any], roles: list[Row], compute: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """What a query on shards comes to. Shards are named by their content, so the same query on
        the same names has the same rows, and a run with nothing to do opens no shard."""
        held = self.prompt_rows.values()
        if any(isinstance(rows, pa.Table) for rows in held):
            return compute()
        shards = list(held) + [self._role_shards(roles, t) for t in ROLE_KEYS]
        names = [[path.name for path in paths] for paths in shards]
        signature = short_hash(canonical([MEMO_VERSION, asked, self._recipe_settings, names]))
        if signature not in self.memo:
            self.memo[signature] = compute()
        self.used.add(signature)
        return dict(self.memo[signature])


def _counted(found: Found, row: dict[str, Any]) -> Found:
    counts: dict[str, Any] = {name: int(row[name]) for name in row if name != "wanted"}
    return replace(found, **counts)


def trained_model(name: str, folder: Folder) -> Checkpoint | None:
    """The model that a training left, if it came to its end and all files are there."""
    manifest = model_manifest(folder)
    if manifest is None:
        return None
    path = folder.path / "model"
    for file, (size, _) in manifest["files"].items():
        if not (path / file).is_file() or (path / file).stat().st_size != size:
            return None
    return Checkpoint(name, path, manifest["digest"], manifest["dtype"])


def model_manifest(folder: Folder) -> dict[str, Any] | None:
    """What a training wrote last; without it the model does not exist."""
    try:
        manifest: dict[str, Any] = json.loads((folder.path / "manifest.json").read_text())
    except FileNotFoundError:
        return None
    return manifest


def problem_list(problems: list[prompts.Problem], most: int = 10) -> str:
    """Problems of a prompts file, a line each."""
    lines = [f"{problem.place}: {problem.reason}" for problem in problems[:most]]
    if len(problems) > most:
        lines.append(f"… and {len(problems) - most} more lines that cannot be used")
    return "\n".join(lines)
