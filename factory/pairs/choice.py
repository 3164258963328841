"""How a recipe's `pairs` section scores and filters candidates.

Builds the queries between candidates and a policy, the settings that identify a set of pairs, and
checks what a policy returns.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import duckdb

from factory.errors import RecipeError
from factory.lake import Views, sql_text
from factory.pairs.policy import Policy, changed_fields
from factory.recipe import JUDGE, Method, Pairs, Recipe

PAIRS_VERSION = 2


PLAIN_SCORES = ("mean", "expected")
"""What `pairs.score` may be beside an expression: the two scores of the judge `judge`."""


_OF_JUDGE = ("score", "expected_score", "spread", "n_judgments", "n_unparsed")
"""Columns that an expression may name and that are those of the judge `judge`."""


_OPINION = """
        max(score) filter (judge_name = '{name}') as "{name}",
        max(expected_score) filter (judge_name = '{name}') as "{name}_expected",
        max(n_judgments) filter (judge_name = '{name}') as "{name}_judgments","""


_WITH_OPINIONS = """
-- Grain: as measured.sql. What several judges make of a candidate, combined as the recipe says.
with opinions as (
    select{opinions}
        iteration, role, name, sample_id
    from judge_scores
    group by iteration, role, name, sample_id
),

decided as (
    select *, {columns}
    from candidates
    join opinions using (iteration, role, name, sample_id)
)
"""


_DECISIONS = """
        ({score})::double as combined,
        coalesce(({chosen_if}), false) as may_be_chosen,
        coalesce(({rejected_if}), false) as may_be_rejected
"""


_COMBINED = """
select
    iteration,
    prompt_id,
    split,
    role,
    sample_id,
    draw,
    if(isfinite(combined), combined, null) as score,
    spread,
    least({n_judgments}) as n_judgments,
    model,
    n_prompt_tokens,
    n_tokens,
    finish_reason,
    may_be_chosen,
    may_be_rejected,
    [{votes}]::double[] as votes
from decided
"""


def judges_used(recipe: Recipe, *, of_score: bool = False) -> list[str]:
    """The judges that the choice of pairs hangs on, or that the score alone does, in the recipe's
    order."""
    spec = recipe.pairs
    texts = [JUDGE if spec.score in PLAIN_SCORES else spec.score]
    if not of_score:
        texts += [spec.chosen_if or "", spec.rejected_if or "", *spec.agree]
    words = set(re.findall(r"\w+", " ".join(texts).lower()))
    if words & set(_OF_JUDGE):
        words.add(JUDGE)
    return [
        name
        for name in recipe.all_judges
        if {name, *(f"{name}_{of}" for of in ("expected", "judgments"))} & words
    ]


def combines(spec: Pairs) -> bool:
    """Whether more than the one judge's score decides."""
    return bool(spec.score not in PLAIN_SCORES or spec.chosen_if or spec.rejected_if or spec.agree)


def combined(recipe: Recipe) -> str:
    """The query `measured` of a recipe that combines judges."""
    spec = recipe.pairs
    plain = {"mean": "score", "expected": "expected_score"}
    decisions = _DECISIONS.format(
        score=plain.get(spec.score, spec.score),
        chosen_if=spec.chosen_if or "true",
        rejected_if=spec.rejected_if or "true",
    )
    return _with_opinions(judges_used(recipe), decisions) + _COMBINED.format(
        n_judgments=", ".join(f'"{name}_judgments"' for name in judges_used(recipe, of_score=True)),
        votes=", ".join(f'"{name}"' for name in spec.agree),
    )


def evaluated(recipe: Recipe, expression: str) -> str:
    """The query with an expression of the recipe as its only column, for looking at its type."""
    columns = f"({expression}) as value"
    return _with_opinions(list(recipe.all_judges), columns) + "select value from decided"


def _with_opinions(names: Sequence[str], columns: str) -> str:
    opinions = "".join(_OPINION.format(name=name) for name in names)
    return _WITH_OPINIONS.format(opinions=opinions, columns=columns)


def pair_parameters(spec: Pairs, trains: Method) -> dict[str, Any]:
    """The one row of `pair_settings`, which the policies' queries read."""
    return {
        "trains": trains,
        "decides": spec.score,
        "ties": spec.ties,
        "per_prompt": spec.per_prompt,
        "drop_truncated": spec.drop_truncated,
        "length_control": spec.length_control,
        "min_margin": spec.min_margin,
        "min_margin_to_noise": spec.min_margin_to_noise,
        "max_length_ratio": spec.max_length_ratio,
        "max_similarity": spec.max_similarity,
    }


def choice_views(recipe: Recipe, texts: Callable[[str], str]) -> dict[str, str]:
    """The views between the candidates and a policy, in their order: name, and query; `texts` gives
    the text of a named one."""
    spec = recipe.pairs
    ordered = "by_score" if spec.length_control is None else "by_length"
    return {
        "measured": combined(recipe) if combines(spec) else texts("measured"),
        "eligible": texts("eligible"),
        "ordered": texts(ordered),
        "extremes": texts("extremes"),
    }


def build_settings(
    iteration: int, phase: str, policy: Policy, spec: Pairs, sql: str, judge: str, rows: str
) -> dict[str, Any]:
    """What decides the pairs of a phase: `sql` is a digest of all queries between the candidates
    and the pairs but the policy's own, `rows` of the candidates."""
    changed = changed_fields(spec)
    return {
        "iteration": iteration,
        "phase": phase,
        "policy": policy.sql,
        "sql": sql,
        "judge": judge,
        "rows": rows,
        **({"pairs": changed} if changed else {}),
    }


def define_policy(views: Views, policy: Policy, recipe: Recipe) -> None:
    """Makes `policy` a view over the candidates, with the views that policies are written on. What
    they measure is computed once, and held without the texts."""
    views.setting("pair_settings", pair_parameters(recipe.pairs, policy.trains))
    for name, query in choice_views(recipe, sql_text).items():
        define = views.table if name == "measured" else views.define
        try:
            define(name, query)
        except duckdb.Error as error:
            if name != "measured" or not combines(recipe.pairs):
                raise
            raise RecipeError(
                f"pairs: its SQL over the judges failed: {' '.join(str(error).split())[:300]}: "
                "expected score, chosen_if and rejected_if to be defined for every answer"
            ) from None
    try:
        views.define("policy", policy.sql)
    except duckdb.Error as error:
        raise policy_error(policy, f"is no query: {' '.join(str(error).split())[:300]}") from None


def check_policy(views: Views, policy: Policy) -> None:
    """Runs a policy, and makes `policy` what it returned. Raises RecipeError where a row of it
    cannot be a pair."""
    try:
        relation = views.con.sql("from policy")
        types = dict(zip(relation.columns, map(str, relation.types), strict=True))
        for column in ("prompt_id", "chosen_id", "rejected_id"):
            if types.get(column) != "VARCHAR":
                came = types.get(column, "no such column")
                raise policy_error(policy, f"{column}: got {came}, expected text (VARCHAR)")
        views.table("chosen_pairs", "select prompt_id, chosen_id, rejected_id from policy")
        views.define("policy", "from chosen_pairs")
        # Those that ship take their sides from the eligible alone: they can have no such fault.
        faults = views.all("policy_faults") if policy.is_own else []
    except duckdb.Error as error:
        raise policy_error(policy, f"failed: {' '.join(str(error).split())[:300]}") from None
    if faults:
        fault = faults[0]
        raise policy_error(policy, f"returned {fault['fault']} (prompt_id {fault['prompt_id']})")


def policy_error(policy: Policy, why: str) -> RecipeError:
    return RecipeError(
        f"loop.policy: {policy.name} {why}: expected one query that gives prompt_id, chosen_id and "
        "rejected_id of candidates; no pair was written"
    )
