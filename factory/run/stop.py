"""Stop a run early if it exceeds a limit in the recipe's `stop_if` section.

A share is compared with its limit during a step, once enough results are available, and again when
the step ends.
"""

from itertools import pairwise
from typing import Any, NoReturn

from factory.errors import StepFailed
from factory.lake import Folder, Scope, load_query
from factory.plan import RecipeState, Step, StepState, count_outcomes
from factory.recipe import PROBE, REFERENCE
from factory.stages import JUDGE_REMEDY

EARLY = 200
"""Number of results of a step before its share is first compared with a limit (our choice).

With a limit of 0.3 and a true share of 0.2, this many results exceed the limit by chance about once
in 5,000 steps."""

FIRST = 64
"""Number of judgments after which a judge stops that gives almost no scores (our choice)."""

UNPARSED = 0.95
"""Default of `stop_if.unparsed` for a judge model whose scores select pairs (our choice).

In simulations, a judge that gives a score for one judgment in ten exceeds it by chance in 14% of
the steps, and a judge that gives a score for one in five in 0.04%."""

FEWEST = 8
"""Number of judgments in a step below which equal scores are no reason to stop (our choice)."""

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

    If the recipe sets the limit, the `earlier` results from previous runs count as good, because
    the remaining requests may be the difficult ones. A default ignores them: otherwise, repeating a
    stopped run would exceed no limit.
    """

    def __init__(
        self, label: str, field: str, limit: float | None, earlier: int, *, is_own: bool
    ) -> None:
        """`is_own` is whether the recipe sets the limit, and not a default."""
        self._limit, self._is_own = limit, is_own
        self._label, self._field = label, field
        self._earlier = earlier
        self._n = self._bad = 0
        self._examples: list[str] = []

    @classmethod
    def of(cls, state: RecipeState, step: Step, field: str, earlier: int) -> "ShareLimit":
        """Return the limit of a step in a field of `stop_if`."""
        limit, is_own = _share(state, step, field)
        return cls(step.label, field, limit, earlier, is_own=is_own)

    @property
    def is_on(self) -> bool:
        """Whether further results can exceed the limit. A default only applies to the first
        results, so that not every judgment is parsed twice."""
        return self._limit is not None and (self._is_own or self._n < EARLY)

    def see(self, is_bad: bool, text: str | None) -> None:
        """Count a result, and raise StepFailed once the share of bad results exceeds the limit."""
        self._n += 1
        self._bad += is_bad
        if is_bad and len(self._examples) < SHOWN:
            self._examples.append(text or "")
        if self._limit is not None and self._n >= (EARLY if self._is_own else FIRST):
            n = self._n + (self._earlier if self._is_own else 0)
            _compare(
                self._label,
                self._field,
                self._limit,
                n,
                self._bad,
                self._examples,
                is_own=self._is_own,
            )


class EqualScores:
    """A check that a judge model does not give the first answers of M_0 the same score.

    Only iteration 0 is checked, because later models may give answers that all deserve the best
    score. So may references, which a policy compares with the answers of a model.
    """

    def __init__(self, state: RecipeState, step: Step) -> None:
        self._label = step.label
        self.is_on = _needs_different_scores(state, step)
        """Whether further judgments can fail the check."""
        self._n = 0
        self._score: float | None = None
        self._examples: list[str] = []

    def see(self, score: float | None, text: str | None) -> None:
        """Compare the score of a judgment with the earlier scores.

        Raises StepFailed if the first 200 scores are equal. Judgments without a score are ignored.
        """
        if score is None:
            return
        if self._n and score != self._score:
            self.is_on = False
            return
        self._n, self._score = self._n + 1, score
        if len(self._examples) < SHOWN:
            self._examples.append(text or "")
        if self._n >= EARLY:
            _stop_equal(self._label, f"the first {self._n:,}", score, self._examples)


def _needs_different_scores(state: RecipeState, step: Step) -> bool:
    return (
        state.recipe.stop_if.equal_scores
        and (step.iteration, step.name) == (0, "M_0")
        and REFERENCE not in state.policy.roles
        and _selects_pairs(state, step)
    )


def _stop_equal(label: str, which: str, score: float, examples: list[str]) -> NoReturn:
    raise StepFailed(
        label,
        f"each of {which} judgments has the score {score:g}, so the scores cannot rank the answers",
        f"{JUDGE_REMEDY}; to continue anyway, set stop_if.equal_scores to false (finished rows "
        f"are saved). Examples:{_list(examples)}",
    )


def _selects_pairs(state: RecipeState, step: Step) -> bool:
    """Return whether a step's judge is a model that writes text, and its scores select pairs."""
    section = state.opened.section(step)
    return (
        step.role != PROBE
        and section is not None
        and section.has_rubric
        and step.judge_name in state.opened.choice.judges
    )


def _share(state: RecipeState, step: Step, field: str) -> tuple[float | None, bool]:
    """Return a step's limit on the share of bad results, and whether the recipe sets it."""
    own: float | None = getattr(state.recipe.stop_if, field)
    if step.role == PROBE:
        return None, False
    if own is None and field == "unparsed" and _selects_pairs(state, step):
        return UNPARSED, False
    return own, own is not None


def check_limits(state: RecipeState, step_state: StepState) -> None:
    """Check a finished step against the limits in `stop_if`.

    Raises StepFailed if the step exceeds a limit.
    """
    step = step_state.step
    if step.stage == "verdicts" and step.role == PROBE:
        _check_probe(state)
    elif step.stage in _QUERIES:
        field, query = _QUERIES[step.stage]
        limit, is_own = _share(state, step, field)
        within = limit is None or (
            field == "unparsed" and step_state.unparsed <= limit * step_state.answered
        )
        if limit is not None and not within:
            row = state.step_views(step_state, None).one(load_query(f"run/{query}"))
            _compare_row(step.label, field, limit, row, is_own=is_own)
        if step.stage == "verdicts" and _needs_different_scores(state, step):
            _check_equal_scores(state, step_state)
    elif step.stage == "pairs" and step_state.folder is not None:
        _check_pairs(state, step_state, step_state.folder)


def _check_equal_scores(state: RecipeState, step_state: StepState) -> None:
    column = state.opened.choice.ranks_by(step_state.step.judge_name) or "score"
    row = state.step_views(step_state, None).one(load_query("run/equal_scores"))
    lowest, highest = row[f"lowest_{column}"], row[f"highest_{column}"]
    if row["n"] >= FEWEST and lowest is not None and lowest == highest:
        _stop_equal(step_state.step.label, f"the {row['n']:,}", lowest, row["examples"])


def _check_pairs(state: RecipeState, step_state: StepState, build: Folder) -> None:
    """Raise StepFailed if too many pairs are ties, or if no pair was kept for the dataset.

    If the loop trains models, the training refuses to start without pairs.
    """
    step, ties = step_state.step, state.recipe.stop_if.ties
    if ties is not None:
        views = state.views()
        views.register_shards("pairs", "pairs", build.shards())
        _compare_row(step.label, "ties", ties, views.one(load_query("run/ties")))
    if state.recipe.loop.trains_models:
        return
    outcomes = count_outcomes(state, build)
    if "kept" not in outcomes:
        counted = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items())
        raise StepFailed(
            step.label,
            f"no pair was kept ({counted or 'no prompts'}), so the dataset would be empty",
            "look at the judgments with `factory preview` or `factory sql RECIPE 'from judgments'`",
        )


def _compare_row(
    label: str, field: str, limit: float, row: dict[str, Any], *, is_own: bool = True
) -> None:
    _compare(label, field, limit, row["n"], row["bad"], row["examples"] or [], is_own=is_own)


def _compare(
    label: str, field: str, limit: float, n: int, bad: int, examples: list[str], *, is_own: bool
) -> None:
    """Raise StepFailed if the share of bad results exceeds a limit.

    `is_own` is whether the recipe sets the limit.
    """
    if n == 0 or bad <= limit * n:
        return
    fault = f"{bad:,} of {n:,} {_WHAT[field]} ({bad / n:.0%})"
    if is_own:
        fault += f", more than stop_if.{field} allows ({limit:g})"
        remedy = f"fix the cause or raise stop_if.{field}"
    else:
        remedy = f"{JUDGE_REMEDY}; to continue anyway, set stop_if.{field} to 1"
    raise StepFailed(
        label, fault, f"{remedy} (finished rows are saved). Examples:{_list(examples)}"
    )


def _list(examples: list[str]) -> str:
    return "".join(f"\n  {' '.join(text.split())[:200] or '(empty)'}" for text in examples)


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
