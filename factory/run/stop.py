"""What stops a run before it costs more: the recipe's `stop_if`.

A share is looked at while a step still runs, once enough has come, and again when it ends.
"""

from itertools import pairwise
from typing import Any

from factory.errors import StepFailed
from factory.lake import Scope
from factory.plan import RecipeState, StepState
from factory.recipe import Recipe

EARLY = 200
"""Results of a step after which a share is looked at; ours. (At a limit of 0.3 the chance that so
many show it where the true share is 0.2 is about 1 in 5,000.)"""

SHOWN = 3
"""Examples in the sentence."""

_WHAT = {
    "truncated": "answers were cut off by max_tokens",
    "unparsed": "judgments have no score",
    "ties": "pairs are ties",
}

_QUERIES = {"samples": ("truncated", "truncated"), "verdicts": ("unparsed", "unscored")}
"""Of a stage: the field of `stop_if`, and the query that counts."""


class Watch:
    """Counts what a running step's results come to against one limit. The `held` results that the
    step had before are taken for good: those that are left may be the hard ones."""

    def __init__(self, recipe: Recipe, label: str, field: str, held: int) -> None:
        self._limit: float | None = getattr(recipe.stop_if, field)
        self._label, self._field = label, field
        self._held = held
        self._n = self._bad = 0
        self._examples: list[str] = []

    @property
    def is_on(self) -> bool:
        return self._limit is not None

    def see(self, is_bad: bool, text: str | None) -> None:
        """Counts a result. Raises StepFailed once too large a share is bad."""
        self._n += 1
        self._bad += is_bad
        if is_bad and len(self._examples) < SHOWN:
            self._examples.append(text or "")
        if self._n >= EARLY:
            n = self._held + self._n
            _compare(self._label, self._field, self._limit, n, self._bad, self._examples)


def check_limits(survey: RecipeState, found: StepState) -> None:
    """Raises StepFailed where what a finished step came to is beyond a limit of the recipe."""
    step, stop_if = found.step, survey.recipe.stop_if
    if step.stage == "verdicts" and step.role == "probe":
        _check_probe(survey)
    elif step.stage in _QUERIES and step.role != "probe":
        field, query = _QUERIES[step.stage]
        if (limit := getattr(stop_if, field)) is not None:
            (row,) = survey.step_views(found, None).all(query)
            _compare_row(step.label, field, limit, row)
    elif step.stage == "pairs" and stop_if.ties is not None and found.folder is not None:
        views = survey.views()
        views.shards("pairs", "pairs", found.folder.shards())
        _compare_row(step.label, "ties", stop_if.ties, views.one("ties"))


def _compare_row(label: str, field: str, limit: float, row: dict[str, Any]) -> None:
    _compare(label, field, limit, row["n"], row["bad"], row["examples"] or [])


def _compare(
    label: str, field: str, limit: float | None, n: int, bad: int, examples: list[str]
) -> None:
    if limit is None or n == 0 or bad <= limit * n:
        return
    shown = "".join(f"\n  {' '.join(text.split())[:200] or '(empty)'}" for text in examples)
    raise StepFailed(
        f"{label}: {bad:,} of {n:,} {_WHAT[field]} ({bad / n:.0%}), and stop_if.{field} is "
        f"{limit:g}. What was finished is kept; mend the cause, or raise the limit. "
        f"The first of them:{shown}"
    )


def _check_probe(survey: RecipeState) -> None:
    """Compares the models of the loop in their order: M_0, M_1, …; future models are not kept."""
    falls = survey.recipe.stop_if.probe_falls
    if falls is None:
        return
    roles = [row for row in survey.roles.values() if row["role"] == "probe" and row.get("parser")]
    panel = [row for row in survey.panel.values() if row["role"] == "probe" and row.get("parser")]
    views = survey.views(Scope(roles, panel))
    scores = {row["name"]: row["score"] for row in views.all("probe_scores")}
    names = [f"M_{i}" for i in range(survey.recipe.loop.iterations + 1)]
    known = [(name, scores[name]) for name in names if scores.get(name) is not None]
    last = known[-falls - 1 :]
    fell = all(before[1] > after[1] for before, after in pairwise(last))
    if len(last) == falls + 1 and fell:
        shown = ", ".join(f"{name} {score:.3f}" for name, score in last)
        times = "once" if falls == 1 else f"{falls} times in a row"
        raise StepFailed(
            f"the probe's score fell {times} ({shown}), and stop_if.probe_falls is {falls}: the "
            "loop has learned to please its judge; what was finished is kept"
        )
