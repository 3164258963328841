"""What is known of a recipe in its lake: models, roles, judges, and the state of each step.

It grows as steps are inspected in the plan's order, since a step's key may depend on rows that an
earlier step made. Reads the lake and writes none of its tables.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from factory.functions import Function
from factory.lake import TABLES, Lake, RecipeViews, Row, Scope, Views, load_query
from factory.models import Checkpoint, model_manifest
from factory.pairs import Policy
from factory.plan.opened import DIGESTS, OpenedRecipe, largest_rank
from factory.plan.state import StepState
from factory.plan.step import Step, first_draw
from factory.recipe import PROBE, Recipe
from factory.stages import Problem

STEP = pa.schema(
    [
        ("request_key", pa.string()),
        ("iteration", pa.int32()),
        ("role", pa.string()),
        ("of_probe", pa.bool_()),
        ("first_prompts", pa.int64()),
        ("first_draw", pa.int32()),
        ("n_draws", pa.int32()),
        ("judge_reads", pa.string()),
        ("opponents", pa.int32()),
    ]
)
"""The relation `step` that the queries of a step read: one row."""

RoleKey = tuple[int, str, str]
"""Iteration, role, and model name."""


@dataclass
class RecipeState:
    opened: OpenedRecipe
    stored: RecipeViews
    """The views of the recipe's rows, with a cache of counts."""
    models: dict[str, Checkpoint]
    """The models that exist, by name: M_0, F_0, M_1, …, and judges with a model of their own."""
    roles: dict[RoleKey, Row] = field(default_factory=dict)
    """Rows of `roles` by iteration, role, and model name."""
    panel: dict[tuple[int, str, str, str], Row] = field(default_factory=dict)
    """Rows of `panel` by iteration, role, model name, and judge name."""
    steps: dict[Step, StepState] = field(default_factory=dict)
    """The steps that were inspected, in that order."""
    n_prompts: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By iteration (-1 for the probe): prompts, and prompts of the training split."""
    unusable: dict[str, list[Problem]] = field(default_factory=dict)
    """By loop or probe: lines of prompts files that cannot be used."""
    checked_models: set[str] = field(default_factory=set)
    """Digests of trained models whose files were read and are whole."""

    @classmethod
    def of(cls, opened: OpenedRecipe) -> "RecipeState":
        """The state of a recipe of which no step has been inspected."""
        return cls(opened, RecipeViews(opened.recipe, opened.lake), dict(opened.models))

    @property
    def recipe(self) -> Recipe:
        return self.opened.recipe

    @property
    def lake(self) -> Lake:
        return self.opened.lake

    @property
    def policy(self) -> Policy:
        return self.opened.policy

    def with_pairs_of(self, changed: Recipe) -> "RecipeState":
        """The same samples and scores, with another recipe's choice of pairs."""
        return replace(self, opened=self.opened.with_pairs_of(changed), steps=dict(self.steps))

    def save_caches(self) -> None:
        """Keep file digests and counts for the next command."""
        if self.lake.root.is_dir():
            self.lake.save_json(DIGESTS, self.opened.digests)
            self.stored.save_cache()

    def judge(self, step: Step) -> Checkpoint | Function | None:
        """The model or function that judges in a step; None for a model that does not exist yet."""
        if step.judge:
            return self.models.get(step.judge)
        return self.opened.functions[step.judge_name]

    def rank(self, name: str) -> int:
        """The largest LoRA rank that the engine of a model has to hold; 0 if it holds none."""
        return largest_rank(self.recipe, self.models, name)

    def count_prompts(self, step: Step, limit: int | None) -> int:
        """How many prompts a step is about; with a `limit`, the first of the training split."""
        every, training = self.n_prompts.get(-1 if step.role == PROBE else step.iteration, (0, 0))
        return every if limit is None else min(limit, training)

    # roles and judges

    def role(self, step: Step) -> Row:
        """The row of `roles` that a step's samples belong to, which is created if missing."""
        key = (step.iteration, step.role, step.name)
        row = dict(zip(("iteration", "role", "name"), key, strict=True))
        return self.roles.setdefault(key, {"recipe": self.recipe.name, **row})

    def panel_row(self, step: Step) -> Row:
        """The row of `panel` of a judging step, which is created if missing."""
        key = (step.iteration, step.role, step.name, step.judge_name)
        row = dict(zip(("iteration", "role", "name", "judge_name"), key, strict=True))
        return self.panel.setdefault(key, {"recipe": self.recipe.name, **row})

    @property
    def everything(self) -> Scope:
        """All roles of the recipe, with all their judges."""
        return Scope(list(self.roles.values()), list(self.panel.values()))

    def phase_scope(self, step: Step) -> Scope:
        """The roles whose samples are candidates in a pairs step, and the judges that it uses."""
        wanted, used = self.policy.candidates(step.phase), self.opened.choice.judges
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

    def step_scope(self, step: Step) -> Scope:
        """What the queries of a step read: its role and, for a judging step, its judge. If that
        judge compares answers, the current role comes first."""
        roles = [self.role(step)]
        if step.stage not in ("judgments", "verdicts"):
            return Scope(roles)
        if self.opened.opponents(step) is not None and step.role != "current":
            roles.insert(0, self.roles[step.iteration, "current", f"M_{step.iteration}"])
        return Scope(roles, [self.panel_row(step)])

    def score_digests(self, step: Step) -> str:
        """The digests of the judges that score the candidates of a pairs step, joined by `+`."""
        panel = self.phase_scope(step).panel
        digests = [
            row["judge_model"]
            for name in self.opened.choice.score_judges
            for row in panel
            if row["judge_name"] == name
        ]
        return "+".join(dict.fromkeys(digests))

    # queries

    def views(self, scope: Scope | None = None) -> Views:
        """The lake's tables as views, with the rows that a scope reads: by default the prompts
        alone. Views that were opened before can no longer be used."""
        return self.stored.open(scope or Scope())

    def step_views(self, located: StepState, limit: int | None) -> Views:
        """The views that the queries of one step read."""
        return self._define_step(self.views(self.step_scope(located.step)), located, limit)

    def _define_step(self, views: Views, located: StepState, limit: int | None) -> Views:
        step, row = located.step, self._step_row(located, limit)
        views.register("step", pa.Table.from_pylist([row], STEP))
        # A limit cannot be taken from a relation, and a window would hold every prompt in memory.
        first = "" if limit is None else f"limit {limit}"
        views.define("scope_prompts", f"{load_query('plan/scope_prompts').text} {first}")
        views.define("scope_placed", load_query("plan/scope_placed"))
        if step.stage in ("samples", "judgments"):
            compares = step.stage == "judgments" and self.opened.opponents(step) is not None
            name = "wanted_comparisons" if compares else f"wanted_{step.stage}"
            views.define("wanted", load_query(f"plan/{name}"))
            views.define("answers", f"from {step.stage}")
        return views

    def count_rows(self, query: str, located: StepState, limit: int | None) -> dict[str, Any]:
        """The only row of a query of this package on a step's views, cached."""
        step, scope = located.step, self.step_scope(located.step)
        place = f"{query} {step.stage} {step.iteration} {step.role} {step.name} {step.judge_name}"

        def compute() -> dict[str, Any]:
            return self.step_views(located, limit).one(load_query(f"plan/{query}"))

        return self.stored.recall(place, [self._step_row(located, limit)], scope, compute)

    def recall(self, place: str, scope: Scope, compute: Callable[[Views], Row]) -> Row:
        """The result of `compute` on the views of a scope, cached."""
        return self.stored.recall(place, [], scope, lambda: compute(self.views(scope)))

    def _step_row(self, located: StepState, limit: int | None) -> Row:
        step = located.step
        judging = step.stage != "samples"
        n_draws = self.opened.n_judge_draws(step) if judging else self.opened.n_draws(step)
        return {
            "request_key": located.request_key,
            "iteration": step.iteration,
            "role": step.role,
            "of_probe": step.role == PROBE,
            "first_prompts": limit,
            "first_draw": first_draw(step),
            "n_draws": n_draws,
            "judge_reads": self.panel_row(step)["judge_reads"] if judging else None,
            "opponents": self.opened.opponents(step) if judging else None,
        }

    def models_table(self) -> pa.Table:
        """The models of the recipe that exist, as rows of `models`."""
        rows: list[Row] = []
        for model in self.models.values():
            row: Row = {"digest": model.digest, "dtype": model.dtype}
            manifest = model_manifest(model.folder) if model.folder else None
            if model.folder and manifest:
                row.update(
                    model_key=model.folder.name,
                    parent=manifest["parent"],
                    build_key=manifest["build"],
                    n_pairs=manifest["n_pairs"],
                    settings=json.dumps(manifest["settings"]),
                )
            rows.append(row)
        return pa.Table.from_pylist(rows, TABLES["models"])
