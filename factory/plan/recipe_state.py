"""The state of a recipe in a lake, including its models, roles, judges, and steps.

The state grows as steps are inspected in the plan's order, because a step's key may depend on the
rows of an earlier step. This module only reads the lake's tables.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from factory.functions import Function
from factory.lake import TABLES, Folder, Lake, RecipeViews, Row, Scope, Views, load_query
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
"""Schema of the relation `step`, which has one row that the queries of a step read."""

RoleKey = tuple[int, str, str]
"""The iteration, role, and model name that identify a row of `roles`."""


@dataclass
class RecipeState:
    """The state of a recipe in a lake, including its models, roles, judges, and steps."""

    opened: OpenedRecipe
    stored: RecipeViews
    """Views of the recipe's stored rows, with a cache of counts."""
    models: dict[str, Checkpoint]
    """Existing models by name: M_0, F_0, M_1, …, and the judges' own models."""
    roles: dict[RoleKey, Row] = field(default_factory=dict)
    """Rows of `roles` by iteration, role, and model name."""
    panel: dict[tuple[int, str, str, str], Row] = field(default_factory=dict)
    """Rows of `panel` by iteration, role, model name, and judge name."""
    steps: dict[Step, StepState] = field(default_factory=dict)
    """States of the inspected steps, in the order of inspection."""
    n_prompts: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Numbers of all prompts and of training prompts, by iteration (-1 for the probe)."""
    unusable: dict[str, list[Problem]] = field(default_factory=dict)
    """Unusable lines of the prompt files, by `loop` or `probe`."""
    checked_models: set[str] = field(default_factory=set)
    """Digests of trained models whose files were checked and are intact."""

    @classmethod
    def of(cls, opened: OpenedRecipe) -> "RecipeState":
        """Create the initial state of an opened recipe, without inspecting any step."""
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

    @property
    def folders(self) -> dict[str, Folder]:
        """The lake folders of all inspected steps, indexed by key. Steps may share a folder."""
        found = (step_state.folder for step_state in self.steps.values())
        return {folder.key: folder for folder in found if folder}

    @property
    def undone(self) -> list[Step]:
        """The inspected steps that are not done."""
        return [step for step, found in self.steps.items() if not found.done]

    def with_pairs_of(self, changed: Recipe) -> "RecipeState":
        """Return a copy of this state with the policy and `pairs` section of another recipe.

        Samples and scores stay the same.
        """
        return replace(self, opened=self.opened.with_pairs_of(changed), steps=dict(self.steps))

    def save_caches(self) -> None:
        """Save file digests and row counts for the next command, if the lake has rows."""
        if self.lake.has_rows:
            self.lake.save_json(DIGESTS, self.opened.digests)
            self.stored.save_cache()

    def judge(self, step: Step) -> Checkpoint | Function | None:
        """Return a step's judge, or None if the judge's model is not trained yet."""
        if step.judge:
            return self.models.get(step.judge)
        return self.opened.functions[step.judge_name]

    def rank(self, name: str) -> int:
        """Return the largest LoRA rank that a model's engine must support, or 0 if none is
        needed."""
        return largest_rank(self.recipe, self.models, name)

    def count_prompts(self, step: Step, limit: int | None) -> int:
        """Return the number of prompts that a step uses.

        With a `limit`, count at most that many, and only prompts of the training split.
        """
        every, training = self.n_prompts.get(-1 if step.role == PROBE else step.iteration, (0, 0))
        return every if limit is None else min(limit, training)

    # roles and judges

    def role(self, step: Step) -> Row:
        """Return a step's row in the `roles` table. Create the row if it is missing."""
        key = (step.iteration, step.role, step.name)
        row = dict(zip(("iteration", "role", "name"), key, strict=True))
        return self.roles.setdefault(key, {"recipe": self.recipe.name, **row})

    def panel_row(self, step: Step) -> Row:
        """Return a judging step's row in the `panel` table. Create the row if it is missing."""
        key = (step.iteration, step.role, step.name, step.judge_name)
        row = dict(zip(("iteration", "role", "name", "judge_name"), key, strict=True))
        return self.panel.setdefault(key, {"recipe": self.recipe.name, **row})

    @property
    def everything(self) -> Scope:
        """All roles and judges of the recipe, as the scope of a query."""
        ranks_by = self.opened.choice.ranks_by
        panel = [{**row, "ranks_by": ranks_by(row["judge_name"])} for row in self.panel.values()]
        return Scope(list(self.roles.values()), panel)

    def phase_scope(self, step: Step) -> Scope:
        """Return the roles and judges that a step uses to choose pairs."""
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
        """Return the role and the judge whose rows a step's queries read.

        A step that does not judge has only a role. If the judge compares answers, the scope starts
        with the current role, whose answers are the opponents.
        """
        roles = [self.role(step)]
        if step.stage not in ("judgments", "verdicts"):
            return Scope(roles)
        if self.opened.opponents(step) is not None and step.role != "current":
            roles.insert(0, self.roles[step.iteration, "current", f"M_{step.iteration}"])
        return Scope(roles, [self.panel_row(step)])

    def score_digests(self, step: Step) -> str:
        """Return the joined digests of the judges that score a step's candidate answers.

        The digests are separated by `+`.
        """
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
        """Create SQL views of the rows that belong to the given roles and judges.

        Without a scope, the views contain only the prompts. Views opened earlier can no longer be
        used.
        """
        return self.stored.open(scope or Scope())

    def step_views(self, located: StepState, limit: int | None) -> Views:
        """Create the SQL views for a step's queries."""
        return self._define_step(self.views(self.step_scope(located.step)), located, limit)

    def _define_step(self, views: Views, located: StepState, limit: int | None) -> Views:
        """Define the relations of a step on views of its scope."""
        step, row = located.step, self._step_row(located, limit)
        views.register("step", pa.Table.from_pylist([row], STEP))
        # SQL's `limit` cannot read its number from a relation, and a window function would hold
        # every prompt in memory.
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
        """Return the row that a query computes from a step's views, using the cache if possible."""
        step, scope = located.step, self.step_scope(located.step)
        place = f"{query} {step.stage} {step.iteration} {step.role} {step.name} {step.judge_name}"

        def compute() -> dict[str, Any]:
            return self.step_views(located, limit).one(load_query(f"plan/{query}"))

        return self.stored.recall(place, [self._step_row(located, limit)], scope, compute)

    def recall(self, place: str, scope: Scope, compute: Callable[[Views], Row]) -> Row:
        """Return a cached row, or compute and cache the row if it is missing.

        `place` names the computation in the cache. `compute` gets the views of the scope.
        """
        return self.stored.recall(place, [], scope, lambda: compute(self.views(scope)))

    def _step_row(self, located: StepState, limit: int | None) -> Row:
        """Return the only row of the relation `step`."""
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
        """Return an Arrow table of the recipe's existing models, with one row per model."""
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
