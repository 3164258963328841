"""Score and filter candidate answers according to the `pairs` section of a recipe.

This module builds the queries between the candidates and a policy, builds the settings that
identify a set of pairs, and checks the rows that a policy returns.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import duckdb

from factory.errors import QueryError, RecipeError, one_line
from factory.fingerprint import short_hash
from factory.lake import Value, Views, check_columns, load_query, open_database, statement_of
from factory.pairs.policy import Policy, changed_fields
from factory.recipe import JUDGE, Pairs, Recipe

PAIRS_VERSION = 3

PLAIN_SCORES = {"mean": "score", "expected": "expected_score"}
"""The values of `pairs.score` that are not SQL expressions. Each selects a column of the judge's
scores."""

_COLUMNS_OF_JUDGE = ("score", "expected_score", "spread", "n_judgments", "n_unparsed")
"""Columns of `candidates` with the results of the judge `judge`. Expressions may use them."""

EVERY_COLUMN = "*"
"""Placeholder for a star or `columns(…)` in an expression, which may name any column."""

_SCORE_OF_JUDGE = """
        max(score) filter (judge_name = '{name}') as "{name}",
        max(expected_score) filter (judge_name = '{name}') as "{name}_expected",
        max(n_judgments) filter (judge_name = '{name}') as "{name}_judgments","""

_SCORED_BY_ALL = """\
with judged as (
    select{scores}
        iteration, role, name, sample_id
    from judge_scores
    group by iteration, role, name, sample_id
)

select {columns}
from candidates
{join} judged using (iteration, role, name, sample_id)
"""

_WITH_PAIR_SCORE = """\
with candidates as (
{candidates}
),

ranked as (
{ranked}
)

select * replace (
    case when role = 'probe' then score when isfinite(pair_score) then pair_score end as pair_score
)
from ranked
"""

_DECISIONS = """
    candidates.*,
    ({score})::double as deciding_score,
    least({n_judgments}) as deciding_judgments,
    coalesce(({chosen_if}), false) as may_be_chosen,
    coalesce(({rejected_if}), false) as may_be_rejected,
    [{votes}]::double[] as votes"""


@dataclass(frozen=True)
class Choice:
    """How a recipe chooses its preference pairs: the policy, the judges, and the SQL queries."""

    recipe: Recipe
    policy: Policy
    judges: tuple[str, ...]
    """Names of the judges that affect which pairs are chosen, in the recipe's order."""
    score_judges: tuple[str, ...]
    """Names of the judges that `pairs.score` uses."""
    queries: Mapping[str, str]
    """SQL of the views between the candidates and the policy. Each view reads those before it."""

    @property
    def combines(self) -> bool:
        """Whether the recipe uses SQL expressions or `pairs.agree` to choose pairs."""
        return _combines(self.recipe.pairs)

    @property
    def digest(self) -> str:
        """Hash of the SQL that turns candidate answers into pairs, excluding the policy's SQL."""
        statements = [statement_of(query) for query in self.queries.values()]
        shared = [load_query(name).statement for name in ("lake/macros", "pairs/pairs")]
        return short_hash("\n".join([*shared, *statements]))

    @property
    def parameters(self) -> dict[str, Value]:
        """The recipe's pair settings, as the only row of the table `pair_settings`."""
        spec = self.recipe.pairs
        return {
            "trains": self.policy.trains,
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

    @property
    def candidates(self) -> str:
        """The query of the view `candidates` with the column `pair_score`.

        `pair_score` is the score that ranks an answer in the pairs. Probe answers are never in a
        pair, so their `pair_score` is their score."""
        rule = self.recipe.pairs.score
        if rule in PLAIN_SCORES:
            ranked = f"select candidates.*, {PLAIN_SCORES[rule]} as pair_score from candidates"
        else:
            columns = f"candidates.*, ({rule})::double as pair_score"
            ranked = _scored_by(self.score_judges, columns, join="left join")
        base = load_query("lake/candidates").statement
        return _WITH_PAIR_SCORE.format(candidates=base, ranked=ranked)

    def ranks_by(self, judge: str) -> str | None:
        """Return the column of a judge's verdicts that ranks the answers: `score` or
        `expected_score`. Return None if the pairs do not rank by this judge."""
        rule = self.recipe.pairs.score
        if judge not in self.score_judges:
            return None
        if rule in PLAIN_SCORES:
            return PLAIN_SCORES[rule]
        columns = named_columns(rule)
        plain = {judge, EVERY_COLUMN, *(["score"] if judge == JUDGE else [])}
        expected = {f"{judge}_expected", *(["expected_score"] if judge == JUDGE else [])}
        return "expected_score" if expected & columns and not plain & columns else "score"

    def evaluated(self, expression: str) -> str:
        """Return a query that evaluates a SQL expression for each candidate answer.

        The expression may use the scores of all judges. Its value is in the column `value`.
        """
        return _scored_by(list(self.recipe.all_judges), f"({expression}) as value")

    def build_settings(self, iteration: int, phase: str, judge: str, rows: str) -> dict[str, Any]:
        """Return the settings whose hash identifies one set of preference pairs.

        `judge` has the digests of the judges that score, and `rows` is a digest of the candidates.
        """
        changed = changed_fields(self.recipe.pairs)
        return {
            "iteration": iteration,
            "phase": phase,
            "policy": statement_of(self.policy.sql),
            "roles": list(self.policy.roles),
            "trains": self.policy.trains,
            "sql": self.digest,
            "judge": judge,
            "rows": rows,
            **({"pairs": changed} if changed else {}),
        }


def make_choice(recipe: Recipe, policy: Policy) -> Choice:
    """Build the SQL queries that choose a recipe's preference pairs.

    The result also contains the policy, and the judges whose scores the queries use. The recipe's
    SQL expressions are parsed but not evaluated.
    """
    spec = recipe.pairs
    of_score = [JUDGE if spec.score in PLAIN_SCORES else spec.score]
    conditions = [text for text in (spec.chosen_if, spec.rejected_if) if text]
    score_judges = _judges_named(recipe, of_score)
    judges = _judges_named(recipe, [*of_score, *conditions], spec.agree)
    ordered = "by_score" if spec.length_control is None else "by_length"
    own = _combines(spec)
    queries = {
        "decisions": _decisions(spec, judges, score_judges)
        if own
        else load_query("pairs/decisions").text,
        "measured": load_query("pairs/measured").text,
        "eligible": load_query("pairs/eligible").text,
        "ordered": load_query(f"pairs/{ordered}").text,
        "extremes": load_query("pairs/extremes").text,
    }
    return Choice(recipe, policy, judges, score_judges, queries)


def _combines(spec: Pairs) -> bool:
    return bool(spec.score not in PLAIN_SCORES or spec.chosen_if or spec.rejected_if or spec.agree)


def _judges_named(
    recipe: Recipe, expressions: Sequence[str], names: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the judges whose scores the expressions read, and the judges in `names`, in the
    recipe's order."""
    columns = set(names).union(*(named_columns(text) for text in expressions))
    if EVERY_COLUMN in columns:
        return tuple(recipe.all_judges)
    if columns & set(_COLUMNS_OF_JUDGE):
        columns.add(JUDGE)
    return tuple(
        name
        for name in recipe.all_judges
        if {name, f"{name}_expected", f"{name}_judgments"} & columns
    )


@cache
def named_columns(expression: str) -> frozenset[str]:
    """Return the names of the columns in a SQL expression, in lower case.

    DuckDB parses the expression, so words inside strings and comments do not count. A star or
    `columns(…)` becomes EVERY_COLUMN. The result is empty for an invalid expression.
    """
    with open_database() as con:
        ((text,),) = con.execute(
            "select json_serialize_sql(?)", [f"select {expression}"]
        ).fetchall()
    return frozenset(_column_names(json.loads(text)))


def _column_names(node: Any) -> set[str]:
    match node:
        case {"class": "COLUMN_REF", "column_names": [*_, str(name)]}:
            return {name.lower()}
        case {"class": "STAR"}:
            return {EVERY_COLUMN}
        case dict():
            return set[str]().union(*map(_column_names, node.values()))
        case list():
            return set[str]().union(*map(_column_names, node))
    return set()


def _decisions(spec: Pairs, judges: Sequence[str], score_judges: Sequence[str]) -> str:
    """Return the query that defines the view `decisions` for a recipe that combines judges."""
    columns = _DECISIONS.format(
        score=PLAIN_SCORES.get(spec.score, spec.score),
        n_judgments=", ".join(f'"{name}_judgments"' for name in score_judges),
        chosen_if=spec.chosen_if or "true",
        rejected_if=spec.rejected_if or "true",
        votes=", ".join(f'"{name}"' for name in spec.agree),
    )
    return _scored_by(judges, columns)


def _scored_by(judges: Sequence[str], columns: str, join: str = "join") -> str:
    scores = "".join(_SCORE_OF_JUDGE.format(name=name) for name in judges)
    return _SCORED_BY_ALL.format(scores=scores, columns=columns, join=join)


def define_policy(views: Views, choice: Choice) -> None:
    """Define the DuckDB view `policy`, which selects the pairs, and the views that it reads.

    `measured` becomes a table without texts, so that it is computed only once. Raises RecipeError
    if an expression of the recipe fails, or if the policy is not a valid query.
    """
    views.register_row("pair_settings", choice.parameters)
    for name, query in choice.queries.items():
        define = views.create_table if name == "measured" else views.define
        try:
            define(name, query)
        except duckdb.Error as error:
            if name not in ("decisions", "measured") or not choice.combines:
                raise
            raise RecipeError(
                "pairs",
                f"a SQL expression failed: {one_line(error, 300)}",
                "correct the expression in pairs.score, pairs.chosen_if, or pairs.rejected_if",
            ) from None
    try:
        if choice.policy.is_own:
            check_columns(views.read_only(choice.policy.sql).columns)
        views.define("policy", choice.policy.sql)
    except (duckdb.Error, QueryError) as error:
        cause = one_line(error, 300).removeprefix("the query failed: ")
        fault = f"the file is not a valid SQL query: {cause}"
        raise _policy_error(choice.policy, fault) from None


def check_policy(views: Views, policy: Policy) -> None:
    """Run the pair policy once, and check the pairs that it returns.

    The view `policy` then reads the stored result. Raises RecipeError if a row cannot be a pair.
    """
    try:
        relation = views.con.sql("from policy")
        types = dict(zip(relation.columns, map(str, relation.types), strict=True))
        for column in ("prompt_id", "chosen_id", "rejected_id"):
            if types.get(column) != "VARCHAR":
                got = f"has the type {types[column]}" if column in types else "is missing"
                raise _policy_error(
                    policy, f"expected the column {column} of type VARCHAR, but it {got}"
                )
        views.create_table("chosen_pairs", "select prompt_id, chosen_id, rejected_id from policy")
        views.define("policy", "from chosen_pairs")
        # Shipped policies choose both sides from the eligible candidates, so they need no check.
        faults = views.all(load_query("pairs/policy_faults")) if policy.is_own else []
    except duckdb.Error as error:
        raise _policy_error(policy, f"the query failed: {one_line(error, 300)}") from None
    if faults:
        fault = faults[0]
        raise _policy_error(
            policy, f"the query returned {fault['fault']} (prompt_id {fault['prompt_id']})"
        )


def _policy_error(policy: Policy, fault: str) -> RecipeError:
    return RecipeError(
        "loop.policy",
        f"{policy.name}: {fault}",
        "write one query that returns the columns prompt_id, chosen_id, and rejected_id",
    )
