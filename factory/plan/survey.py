"""What the lake holds of a recipe's steps: each step's folder, and what is missing in it.

A survey is taken step by step, in the plan's order, since a step's key may hang on rows that an
earlier one made. It reads the lake and writes none of its tables.
"""

import json
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from factory.errors import LakeError, PromptsError, QueryError, RecipeError
from factory.fingerprint import canonical, file_digest, folder_key, short_hash
from factory.functions import Function, find_function
from factory.lake import SHARD_KEYS, TABLES, Folder, Lake, RecipeViews, Row, Scope, Views, sql_text
from factory.models import (
    Checkpoint,
    adapter_rank,
    declared_checkpoint,
    model_manifest,
    open_checkpoint,
    trained_model,
)
from factory.pairs import (
    PAIRS_VERSION,
    PLAIN_SCORES,
    build_settings,
    choice_views,
    combined,
    combines,
    evaluated,
    judges_used,
    load_policy,
)
from factory.plan.state import StepState
from factory.plan.step import Step, first_draw, steps
from factory.recipe import (
    JUDGE,
    PROBE,
    REFERENCE,
    Generation,
    Judge,
    OpenaiEngine,
    Recipe,
    resolved,
)
from factory.stages import (
    TRAINING_VERSION,
    PromptFiles,
    Rubric,
    adapter_fields,
    judgments,
    load_rubric,
    possible_files,
    samples,
    training_settings,
    verdicts,
)
from factory.stages.prompts import lines as prompts

PUBLIC_VIEWS = (
    "prompts",
    "samples",
    "judgments",
    "verdicts",
    "scores",
    "candidates",
    "pairs",
    "models",
    "roles",
    "panel",
    "judges",
    "judge_scores",
    "gaps",
)
"""What `factory sql` opens, in the order in which rows come to be."""


NOTHING = Scope()


class RecipeState:
    def __init__(self, recipe: Recipe, lake: Lake, *, download: bool = False) -> None:
        """Checks what a recipe points to: its model, rubric and functions."""
        self.lake = lake
        self._digests = lake.load_json("digests.json")
        model = open_checkpoint(
            "M_0", recipe.model, recipe, self._digests, field="model", download=download
        )
        if lake.root.is_dir():
            lake.save_json("digests.json", self._digests)
        self.written = recipe
        """The recipe as it was written; `recipe` has what generation_config decides."""
        judges = self._open_judges(recipe, download=download)
        said = {"sampling": model.generation_config}
        for name, judge in recipe.all_judges.items():
            own = recipe.model_of_judge(name) if judge.has_model else ""
            said[name] = judges.get(own, model).generation_config
        self.recipe = recipe = resolved(recipe, said)
        self.models: dict[str, Checkpoint] = {"M_0": model, **judges}
        """The models that are there, by name."""
        self.roles: dict[tuple[int, str, str], Row] = {}
        """Rows of `roles` by iteration, role and name."""
        self.panel: dict[tuple[int, str, str, str], Row] = {}
        """Rows of `panel` by iteration, role, name and the judge's name."""
        self.found: dict[Step, StepState] = {}
        """The steps that were looked at, in that order."""
        self.left_out: dict[str, list[prompts.Problem]] = {}
        """By loop or probe: lines of prompts that were read and cannot be used."""
        self.holdings = RecipeViews(recipe, lake)
        self._n_prompts: dict[int, tuple[int, int]] = {}
        self._read: dict[str, str] = {}
        self.checked_models: set[str] = set()
        """Digests of trained models whose files were read and found whole."""
        self.policy = load_policy(recipe)
        self.rubrics: dict[str, Rubric | None] = {PROBE: None}
        """What judges are shown and how they are read, by their names; None for one that gives a
        number itself."""
        self.functions: dict[str, Function | None] = {}
        """Judges that are functions, by their names."""
        for name, judge in recipe.all_judges.items():
            self.rubrics[name] = load_rubric(judge, recipe.folder) if judge.has_rubric else None
            self.functions[name] = self._find(judge.function)
        self.functions[PROBE] = self._find(recipe.probe.function if recipe.probe else None)
        self.check_expressions()

    def _open_judges(self, recipe: Recipe, *, download: bool) -> dict[str, Checkpoint]:
        """The judges with a model of their own, by the names of these models."""
        found: dict[str, Checkpoint] = {}
        for name, judge in recipe.all_judges.items():
            if not judge.has_model or recipe.model_of_judge(name) != name:
                continue
            if judge.declared is not None:
                assert isinstance(judge.engine, OpenaiEngine), "the recipe was checked for it"
                found[name] = declared_checkpoint(name, judge.declared, judge.engine)
                continue
            model = judge.model or judge.reward_model
            assert model is not None, "a judge with a model of its own names it"
            field = f"{recipe.field_of(name)}.{'reward_model' if judge.reward_model else 'model'}"
            found[name] = open_checkpoint(
                name, model, recipe, self._digests, field=field, download=download
            )
        return found

    def check_expressions(self) -> None:
        """Raises RecipeError where the recipe's SQL over its judges cannot be run, or names scores
        that no judge makes."""
        spec = self.recipe.pairs
        expected = {
            "score": ("a number over the judges", "DOUBLE DECIMAL FLOAT INTEGER BIGINT HUGEINT"),
            "chosen_if": ("a condition over the judges", "BOOLEAN"),
            "rejected_if": ("a condition over the judges", "BOOLEAN"),
        }
        names = ", ".join(self.recipe.all_judges)
        for place, (what, kinds) in expected.items():
            text = getattr(spec, place)
            if text is None or text in PLAIN_SCORES:
                continue
            try:
                relation = self.views().read_only(evaluated(self.recipe, text))
                came = str(relation.types[0])
                problem = "" if came.partition("(")[0] in kinds.split() else f"is of type {came}"
            except QueryError as error:
                problem = str(error)
            if problem:
                raise RecipeError(
                    f"pairs.{place}: {text!r}: {problem}: expected SQL for {what} ({names})"
                )
            self._check_expected(place, text)
        if not judges_used(self.recipe, of_score=True):
            raise RecipeError(
                f"pairs.score: {spec.score!r} names no judge: expected mean, expected, or an "
                f"expression over {names}"
            )
        if combines(spec):
            self.views().read_only(combined(self.recipe))
        self._check_opponents()

    def _check_expected(self, place: str, text: str) -> None:
        words = set(re.findall(r"\w+", text.lower()))
        for name, judge in self.recipe.all_judges.items():
            named = {f"{name}_expected", *(["expected_score"] if name == JUDGE else [])} & words
            if named and not (judge.expected_score and judge.has_rubric):
                raise RecipeError(
                    f"pairs.{place}: names {min(named)}, and {self.recipe.field_of(name)} makes no "
                    "expected scores: set its expected_score: true, which takes a judge that is a "
                    "model with a rubric"
                )

    def _check_opponents(self) -> None:
        """Judges that differ in nothing but their opponents share their judgments."""
        compare = {
            name: judge
            for name, judge in self.recipe.all_judges.items()
            if (rubric := self.rubrics[name]) and rubric.compares
        }
        for (one, a), (two, b) in combinations(compare.items(), 2):
            if a != b and a == b.model_copy(update={"opponents": a.opponents}):
                raise RecipeError(
                    f"{self.recipe.field_of(two)}.opponents: {two} differs from {one} in nothing "
                    "else: take one of them out"
                )

    def rank(self, name: str) -> int:
        """The largest of the adapters that the engine of a model will be asked for; 0 where there
        are none."""
        judges = self.recipe.all_judges.keys()
        together = [name] if name in judges else self.models.keys() - judges
        adapters = [adapter for held in together if (adapter := self.models[held].adapter)]
        ranks = [adapter_rank(adapter) for adapter in adapters]
        fields = adapter_fields(self.recipe.train)
        if fields is not None and self.recipe.one_engine and name not in judges:
            ranks += [fields["r"], *(fields.get("rank_pattern") or {}).values()]
        return max(ranks, default=0)

    def save_memo(self) -> None:
        """Keeps what took time to work out, for the next command."""
        if self.lake.root.is_dir():
            self.lake.save_json("digests.json", self._digests)
            self.holdings.save_memo()

    def _find(self, name: str | None) -> Function | None:
        return find_function(name, self.recipe.folder) if name else None

    def look(self, step: Step, *, limit: int | None = None) -> StepState:
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

    def _prompts(self, step: Step) -> StepState:
        files = PromptFiles(self.recipe, step.role, self.models["M_0"])
        settings = files.settings()
        folder = self.lake.folder("prompts", folder_key("prompts", prompts.VERSION, settings))
        if shards := folder.shards():
            self.holdings.prompts[step.role] = shards
            n_rows = _n_rows(folder)
            found = StepState(step, folder, settings, wanted=n_rows, answered=n_rows)
        else:
            if self._read.get(step.role) != folder.key:  # once, however often it is looked at
                rows, self.left_out[step.role] = files.read()
                self.holdings.prompts[step.role] = rows
                self._read[step.role] = folder.key
            rows = self.holdings.prompts[step.role]
            found = StepState(step, folder, settings, wanted=len(rows))
        self._count_prompts()
        if step.role == "probe":
            self._check_apart()
        return found

    def _count_prompts(self) -> None:
        counts = self.holdings.recall(
            "count_prompts", [], Scope(), lambda: {"counts": self.views().all("count_prompts")}
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
            "shared_prompts", [], Scope(), lambda: self.views().one("shared_prompts")
        )
        if shared["n"]:
            raise PromptsError(
                f"probe.files: {shared['n']} of its prompts are also in prompts.files; expected "
                "others, since the probe measures what the loop never learned from"
            )

    # samples, judgments, verdicts

    def _samples(self, step: Step, limit: int | None) -> StepState:
        model = self.models.get(step.name)
        n_draws = self._n_draws(step)
        wanted = self.n_prompts(step, limit) * n_draws
        generation = None
        if step.name == REFERENCE:
            counts = self.counts_references
            tokenizer = self.models["M_0"].tokenizer_digest if counts else None
            settings = samples.reference_settings(tokenizer)
        elif model is None:
            return StepState(step, waits_for=step.name, wanted=wanted)
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
        found = StepState(step, folder, settings, asked, wanted=wanted)
        row = self._count(found, "count", limit)
        _check_count(found, row["wanted"], wanted)
        return self._with_carried(_counted(found, row), limit)

    @property
    def counts_references(self) -> bool:
        """Whether references have a length, in M_0's tokens; a scripted model has no tokens."""
        return self.recipe.engine.name != "scripted"

    def _judgments(self, step: Step, limit: int | None) -> StepState:
        waits_for = self._waits(step)
        judge = self.judge(step)
        n_samples = self.n_prompts(step, limit) * self._n_draws(step)
        n_judgments = self._n_judge_draws(step) * (self._opponents(step) or 1)
        if waits_for or judge is None:
            return StepState(
                step, waits_for=waits_for or step.judge, wanted=n_samples * n_judgments
            )
        section, rubric = self.section(step), self.rubrics[step.judge_name]
        generation = section or self.recipe.judge
        settings = judgments.settings(judge, rubric, generation, self.recipe.seed)
        folder, asked, settings = self._generating(
            "judgments", judgments.VERSION, settings, generation if rubric else None
        )
        of_panel = {
            "title": self._title(step),
            "judge_model": judge.digest,
            "judge": folder.key,
            "judge_reads": judgments.reads(section, rubric),
            "n_judge_draws": self._n_judge_draws(step),
            "opponents": self._opponents(step),
        }
        self.panel_row(step).update(of_panel)
        if step.judge_name in (JUDGE, PROBE):
            self.role(step).update(n_judge_draws=of_panel["n_judge_draws"])
        if step.judge_name == JUDGE and step.judge:
            self.role(replace(step, role="judge", name=step.judge)).update(model=judge.digest)
        found = StepState(step, folder, settings, asked, wanted=n_samples * n_judgments)
        row = self._count(found, "count", limit)
        if self._opponents(step) is None:
            sampled = self.found[Step("samples", step.iteration, step.role, step.name)]
            held = sampled.answered + sampled.failed + sampled.transient
            _check_count(found, row["wanted"], held * n_judgments)
        elif all(sampled.done for sampled in self._inputs(step)):
            # No answer is compared with itself, with an empty one or with one that failed.
            found = replace(found, wanted=row["wanted"])
        return self._with_carried(_counted(found, row), limit)

    def _verdicts(self, step: Step, limit: int | None) -> StepState:
        judged = self.found[replace(step, stage="judgments")]
        if judged.folder is None:
            return StepState(step, waits_for=judged.waits_for, wanted=judged.wanted)
        rubric, scale = self.reading(step)
        settings = verdicts.settings(judged.folder.key, rubric, scale)
        folder = self.lake.folder("verdicts", folder_key("verdicts", verdicts.VERSION, settings))
        self.panel_row(step).update(parser=folder.key)
        if step.judge_name in (JUDGE, PROBE):
            self.role(step).update(parser=folder.key)
        found = StepState(step, folder, settings, wanted=judged.wanted)
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

    def _with_carried(self, found: StepState, limit: int | None) -> StepState:
        if not found.missing or not self.others(found):
            return found
        return replace(found, carried=self.carried(found, limit).one("count_carried")["n"])

    def others(self, found: StepState) -> list[Path]:
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

    def carried(self, found: StepState, limit: int | None) -> Views:
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
        return self.models.get(step.judge) if step.judge else self.functions[step.judge_name]

    def section(self, step: Step) -> Judge | None:
        """What the recipe says of a step's judge; of the probe's, nothing but its function."""
        return self.recipe.all_judges.get(step.judge_name)

    def reading(self, step: Step) -> tuple[Rubric | None, tuple[float, float] | None]:
        """How a step's judgments are read: by a rubric's parser, or as numbers within a scale."""
        section = self.section(step)
        return self.rubrics[step.judge_name], section.scale if section else None

    def _title(self, step: Step) -> str:
        """The judge of a step in `panel`: one of `judges` by its name, the others by who they
        are."""
        if step.judge_name in (JUDGE, PROBE):
            return step.judge or "function"
        return step.judge_name

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

    def panel_row(self, step: Step) -> Row:
        """The row of `panel` that a judging step fills."""
        key = (step.iteration, step.role, step.name, step.judge_name)
        names = ("iteration", "role", "name", "judge_name")
        row = {"recipe": self.recipe.name, **dict(zip(names, key, strict=True))}
        return self.panel.setdefault(key, row)

    def _n_draws(self, step: Step) -> int:
        if step.role == "probe" and self.recipe.probe:
            return self.recipe.probe.draws
        return 1 if step.role == REFERENCE else self.recipe.sampling.draws

    def _n_judge_draws(self, step: Step) -> int:
        """Judgments of an answer; of a comparison, those of both orders."""
        section = self.section(step)
        orders = 1 if self._opponents(step) is None else 2
        return orders * section.n_draws if section else 1

    def _opponents(self, step: Step) -> int | None:
        """With how many answers a step's judge compares each; None where it compares none."""
        section, rubric = self.section(step), self.rubrics.get(step.judge_name)
        return section.opponents if section and rubric and rubric.compares else None

    # pairs and trainings

    def _pairs(self, step: Step) -> StepState:
        if waits_for := self._waits(step):
            return StepState(step, waits_for=waits_for)
        scope = self.phase_scope(step)
        rows = self._digest("rows_read", step, scope)
        if combines(self.recipe.pairs):
            rows += " " + self._digest("rows_judged", step, scope)
        settings = build_settings(
            step.iteration,
            step.phase,
            self.policy,
            self.recipe.pairs,
            self._pairs_sql(),
            self.pair_judge(step),
            rows if not self.policy.is_own else rows + self.holdings.names(scope),
        )
        folder = self.lake.folder("pairs", folder_key("pairs", PAIRS_VERSION, settings))
        n_rows = _n_rows(folder)
        wanted = n_rows if folder.shards() else max(1, self.n_prompts(step, None))
        return StepState(step, folder, settings, wanted=wanted, answered=n_rows)

    def _digest(self, query: str, step: Step, scope: Scope) -> str:
        place = f"{query} {step.iteration} {step.phase}"
        found = self.holdings.recall(place, [], scope, lambda: self.views(scope).one(query))
        return str(found["digest"])

    def _pairs_sql(self) -> str:
        between = choice_views(self.recipe, sql_text).values()
        return short_hash("".join([sql_text("macros"), *between, sql_text("pairs")]))

    def pair_judge(self, step: Step) -> str:
        """The digests of what scored the candidates of a pairs step, in the order of the recipe."""
        used = judges_used(self.recipe, of_score=True)
        digests = [
            row["judge_model"]
            for name in used
            for row in self.phase_scope(step).panel
            if row["judge_name"] == name
        ]
        return "+".join(dict.fromkeys(digests))

    def phase_scope(self, step: Step) -> Scope:
        """The roles whose samples are candidates for a pairs step, and the judges that it uses."""
        wanted, used = self.policy.candidates(step.phase), judges_used(self.recipe)
        return Scope(
            [
                row
                for (iteration, role, _), row in self.roles.items()
                if iteration == step.iteration and role in wanted
            ],
            [
                row
                for (iteration, role, _, judge), row in self.panel.items()
                if iteration == step.iteration and role in wanted and judge in used
            ],
        )

    def _train(self, step: Step) -> StepState:
        built = self.found[Step("pairs", step.iteration, phase=step.phase)]
        if built.folder is None or not built.done:
            return StepState(step, waits_for=built.waits_for or f"pairs {step.phase}", wanted=1)
        views = self.views()
        views.shards("pairs", "pairs", built.folder.shards())
        learned = short_hash(views.one("learned")["pair_ids"])
        parent = self.models[step.parent]
        spec, method = self.recipe.train, self.policy.trains
        files = {
            word: file_digest(file)
            for word in possible_files(spec, method)
            if (file := self.recipe.beside(word))
        }
        settings = training_settings(spec, method, parent.digest, learned, self.recipe.seed, files)
        folder = self.lake.folder("models", folder_key("train", TRAINING_VERSION, settings))
        model = trained_model(step.name, folder.path, self.models["M_0"], self.recipe)
        if model is None:
            self.models.pop(step.name, None)
            return StepState(step, folder, settings, wanted=1)
        self.models[step.name] = model
        return StepState(step, folder, settings, wanted=1, answered=1)

    def _waits(self, step: Step) -> str | None:
        """What an earlier step that this one reads is still waiting for, or its title."""
        for found in self._inputs(step):
            if found.waits_for:
                return found.waits_for
            if step.stage == "pairs" and not found.done:
                return found.step.title
        return None

    def _inputs(self, step: Step) -> list[StepState]:
        if step.stage == "judgments":
            roles = {(step.role, step.name)}
            if self._opponents(step) is not None:
                roles.add(("current", f"M_{step.iteration}"))
            return [self.found[Step("samples", step.iteration, *role)] for role in sorted(roles)]
        wanted, used = self.policy.candidates(step.phase), judges_used(self.recipe)
        return [
            found
            for other, found in self.found.items()
            if other.iteration == step.iteration
            and other.role in wanted
            and (other.stage == "samples" or other.judge_name in used)
        ]

    # views

    @property
    def everything(self) -> Scope:
        """All roles of the recipe with all their judges."""
        return Scope(list(self.roles.values()), list(self.panel.values()))

    def views(self, scope: Scope = NOTHING) -> Views:
        """The lake's tables as views, holding what a scope reads: see `Holdings.views`."""
        return self.holdings.views(scope)

    def step_scope(self, step: Step) -> Scope:
        """What the queries of a step read: its role, and of a judging step its judge; where that
        compares answers, the current role too, in the first place."""
        roles = [self.role(step)]
        if step.stage not in ("judgments", "verdicts"):
            return Scope(roles)
        if self._opponents(step) is not None and step.role != "current":
            roles.insert(0, self.roles[step.iteration, "current", f"M_{step.iteration}"])
        return Scope(roles, [self.panel_row(step)])

    def asked_query(self, step: Step) -> str:
        """The named query of the requests of a generating step."""
        if step.stage == "judgments" and self._opponents(step) is not None:
            return "asked_comparisons"
        return f"asked_{step.stage}"

    def step_views(self, found: StepState, limit: int | None) -> Views:
        """The views that the queries of a step are made on."""
        step = found.step
        return self.holdings.step_views(
            step.stage, self.step_scope(step), self._step_row(found, limit)
        )

    def _count(self, found: StepState, query: str, limit: int | None) -> dict[str, Any]:
        step = found.step
        return self.holdings.count_step(
            query, step.stage, self.step_scope(step), self._step_row(found, limit)
        )

    def _step_row(self, found: StepState, limit: int | None) -> Row:
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
            "judge_reads": None if samples_step else self.panel_row(step)["judge_reads"],
            "opponents": None if samples_step else self._opponents(step),
        }

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


def _check_count(found: StepState, counted: int, expected: int) -> None:
    """The rows that a step is about, counted in the lake, are as many as it was asked for: no row
    of another prompt, draw or context is among them, and none is missing."""
    assert counted == expected, f"{found.step.label}: {counted} rows, expected {expected}"


def _counted(found: StepState, row: dict[str, Any]) -> StepState:
    counts: dict[str, Any] = {name: int(row[name]) for name in row if name != "wanted"}
    return replace(found, **counts)


def pair_outcomes(survey: RecipeState, folder: Folder) -> dict[str, int]:
    """How many pairs of a build had which outcome."""
    views = survey.views()
    views.shards("pairs", "pairs", folder.shards())
    rows = views.con.sql(
        "select outcome, count(*) from pairs_shards group by outcome order by 2 desc, 1"
    ).fetchall()
    return {str(outcome): int(count) for outcome, count in rows}


def all_views(survey: RecipeState) -> Views:
    """Every view of a recipe, as `factory sql` opens them."""
    views = survey.views(survey.everything)
    builds = [
        found.folder
        for step, found in survey.found.items()
        if step.stage == "pairs" and found.folder
    ]
    views.shards("pairs", "pairs", [path for folder in builds for path in folder.shards()])
    views.define("pairs", "select * exclude (filename) from pairs_shards")
    views.rows("models", survey.models_table())
    views.view("judges", "gaps")
    return views


UNREADABLE = (duckdb.Error, pa.ArrowException, OSError)
"""What a shard raises whose content is broken; other causes raise these too."""


def read_folders(survey: RecipeState, step: Step) -> list[Folder]:
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


def read_state(recipe: Recipe, lake: Lake) -> RecipeState:
    """A survey of every step, for verbs that only look. Raises LakeError where a shard is broken
    so that it cannot be read."""
    survey = RecipeState(recipe, lake)
    for step in steps(recipe):
        try:
            survey.look(step)
        except UNREADABLE as error:
            folders = read_folders(survey, step)
            if not any(folder.broken(content=True) for folder in folders):
                raise
            raise LakeError(
                f"{step.label}: a shard cannot be read ({str(error).splitlines()[0]}): "
                "`factory verify` names it, and `factory run` makes its rows again"
            ) from None
    survey.save_memo()
    return survey
