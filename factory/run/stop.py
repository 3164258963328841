"""Stop a run early if it exceeds a limit in the recipe's `stop_if` section.

A share is compared with its limit during a step, once enough results are available, and again when
the step ends.
"""

from itertools import pairwise
from typing import Any

from factory.errors import StepFailed
from factory.lake import Scope, load_query
from factory.plan import RecipeState, StepState
from factory.recipe import PROBE, Recipe

EARLY = 200
"""Number of results of a step before its share is first compared with a limit (our choice).

With a limit of 0.3 and a true share of 0.2, this many results exceed the limit by chance about once
in 5,000 steps."""

SHOWN = 3
"""Number of examples in the error message."""

_WHAT = {
    "truncated": "answers were cut off by max_tokens",
    "unparsed": "judgments have no score",
    "ties": "pairs are ties",
}

_QUERIES = {"samples": ("truncated", "truncated"), "verdicts": ("unparsed", "unscored")}
"""The field of `stop_if` and the query that counts bad results, by stage."""


class ShareLimit:
    """A limit on the share of bad results while a step runs.

    `earlier` results from previous runs count as good, because the remaining requests may be the
    difficult ones.
    """

    def __init__(self, recipe: Recipe, label: str, field: str, earlier: int) -> None:
        self._limit: float | None = getattr(recipe.stop_if, field)
        self._label, self._field = label, field
        self._earlier = earlier
        self._n = self._bad = 0
        self._examples: list[str] = []

    @property
    def is_on(self) -> bool:
        return self._limit is not None

    def see(self, is_bad: bool, text: str | None) -> None:
        """Count a result, and raise StepFailed once the share of bad results exceeds the limit."""
        self._n += 1
        self._bad += is_bad
        if is_bad and len(self._examples) < SHOWN:
            self._examples.append(text or "")
        if self._n >= EARLY:
            n = self._earlier + self._n
            _compare(self._label, self._field, self._limit, n, self._bad, self._examples)


def check_limits(state: RecipeState, step_state: StepState) -> None:
    """Check a finished step against the limits in `stop_if`.

    Raises StepFailed if the step exceeds a limit.
    """
    step, stop_if = step_state.step, state.recipe.stop_if
    if step.stage == "verdicts" and step.role == PROBE:
        _check_probe(state)
    elif step.stage in _QUERIES and step.role != PROBE:
        field, query = _QUERIES[step.stage]
        if (limit := getattr(stop_if, field)) is not None:
            row = state.step_views(step_state, None).one(load_query(f"run/{query}"))
            _compare_row(step.label, field, limit, row)
    elif step.stage == "pairs" and stop_if.ties is not None and step_state.folder is not None:
        views = state.views()
        views.register_shards("pairs", "pairs", step_state.folder.shards())
        _compare_row(step.label, "ties", stop_if.ties, views.one(load_query("run/ties")))


def _compare_row(label: str, field: str, limit: float, row: dict[str, Any]) -> None:
    _compare(label, field, limit, row["n"], row["bad"], row["examples"] or [])


def _compare(
    label: str, field: str, limit: float | None, n: int, bad: int, examples: list[str]
) -> None:
    """Raise StepFailed if the share of bad results exceeds a limit."""
    if limit is None or n == 0 or bad <= limit * n:
        return
    shown = "".join(f"\n  {' '.join(text.split())[:200] or '(empty)'}" for text in examples)
    raise StepFailed(
        label,
        f"{bad:,} of {n:,} {_WHAT[field]} ({bad / n:.0%}), more than stop_if.{field} allows "
        f"({limit:g})",
        f"fix the cause or raise stop_if.{field} (finished rows are saved). Examples:{shown}",
    )


def _check_probe(state: RecipeState) -> None:
    """Raise StepFailed if the probe's score fell too often in a row from M_0 to M_1, M_2, ….

    Future models are ignored, because they only last for one iteration.
    """
    falls = state.recipe.stop_if.probe_falls
    if falls is None:
        return
    roles = [row for row in state.roles.values() if row["role"] == PROBE and "parser_key" in row]
    panel = [row for row in state.panel.values() if row["role"] == PROBE and "parser_key" in row]
    rows = state.views(Scope(roles, panel)).all(load_query("lake/probe_scores"))
    scores = {row["name"]: row["score"] for row in rows}
    names = [f"M_{i}" for i in range(state.recipe.loop.iterations + 1)]
    known = [(name, scores[name]) for name in names if scores.get(name) is not None]
    last = known[-falls - 1 :]
    fell = all(before[1] > after[1] for before, after in pairwise(last))
    if len(last) == falls + 1 and fell:
        shown = ", ".join(f"{name} {score:.3f}" for name, score in last)
        times = "once" if falls == 1 else f"{falls} times in a row"
        raise StepFailed(
            "stop_if.probe_falls",
            f"the probe's score fell {times} ({shown}), which is the limit set by "
            "stop_if.probe_falls",
            "check whether the models exploit the judge (finished rows are saved)",
        )
