"""Pairs: a policy's choice among scored candidates. SQL does the work; this says what it hangs
on.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, cast, get_args

from factory.errors import RecipeError
from factory.recipe import JUDGE, REFERENCE, Method, Pairs, Recipe

VERSION = 2

FIRST, SECOND = "D1", "D2"
"""Phases: D1 trains the future model; D2 trains the next model and is what is published."""

ROLES = ("past", "current", "future", REFERENCE)
"""Whose samples a policy may choose from."""

OF_TWO_SIDES = (
    "min_margin",
    "min_margin_to_noise",
    "max_length_ratio",
    "max_similarity",
    "rejected_if",
    "agree",
)
"""Fields of `pairs` that are about a rejected side."""

_HEADER = re.compile(r"^-- Roles:(.*)$", re.MULTILINE)
_TRAINS = re.compile(r"^-- Trains:(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Policy:
    name: str
    sql: str
    roles: tuple[str, ...]
    """The roles that it chooses from. With a future role there are two phases, and D1 is the same
    query before there are future candidates."""
    trains: Method = "dpo"
    """How a model learns from what it chose; with sft there is no rejected side."""

    @property
    def is_own(self) -> bool:
        """Whether it is a file of the user's, which may read more than the candidates."""
        return self.name.endswith(".sql")

    @property
    def phases(self) -> tuple[str, ...]:
        return (FIRST, SECOND) if "future" in self.roles else (SECOND,)

    def candidates(self, phase: str) -> tuple[str, ...]:
        """The roles whose samples are candidates in a phase."""
        return tuple(role for role in self.roles if (role, phase) != ("future", FIRST))


def shipped() -> list[str]:
    """The names of the policies of `factory/policies/`."""
    files = (resources.files("factory") / "policies").iterdir()
    return sorted(file.name.removesuffix(".sql") for file in files if file.name.endswith(".sql"))


def policy_of(recipe: Recipe) -> Policy:
    """The policy that a recipe names: one that ships, or a file of the user's own.

    Raises RecipeError where there is none of that name, or where its comment does not say which
    roles it chooses from (`-- Roles: past, current`), and where `pairs` is about a rejected side
    and the policy has none (`-- Trains: sft`).
    """
    policy = _load(recipe.loop.policy, recipe.folder)
    if policy.trains == "sft":
        for name in changes(recipe.pairs):
            if name in OF_TWO_SIDES:
                raise RecipeError(
                    f"pairs.{name}: is about the rejected side of a pair, and loop.policy "
                    f"{policy.name} has none: take it out, or take another policy"
                )
    return policy


def _load(name: str, folder: Path) -> Policy:
    own = name.endswith(".sql")
    file = resources.files("factory") / "policies" / f"{name}.sql"
    if not own and name not in shipped():
        raise RecipeError(
            f"loop.policy: got {name!r}, expected one of {', '.join(shipped())}, or a file of "
            "your own that ends in .sql"
        )
    try:
        sql = (folder / Path(name).expanduser() if own else file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"loop.policy: {name} cannot be read ({type(error).__name__}): expected a file with "
            "one query"
        ) from None
    said = _HEADER.search(sql)
    roles = tuple(role.strip() for role in said[1].split(",")) if said else ()
    if not roles or set(roles) - set(ROLES) or "current" not in roles:
        raise RecipeError(
            f"loop.policy: {name}: expected a comment that names the roles that it chooses from, "
            f"current among them (-- Roles: {', '.join(ROLES)})"
        )
    trained = _TRAINS.search(sql)
    method = trained[1].strip() if trained else "dpo"
    if method not in get_args(Method):
        raise RecipeError(
            f"loop.policy: {name}: got -- Trains: {method}, expected dpo (on pairs) or sft (on the "
            "chosen answers alone)"
        )
    return Policy(name, sql, roles, cast(Method, method))


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


def parameters(spec: Pairs, trains: Method) -> dict[str, Any]:
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


def views(recipe: Recipe, texts: Callable[[str], str]) -> dict[str, str]:
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


def changes(spec: Pairs) -> dict[str, Any]:
    """The fields that are not at their defaults."""
    silent = Pairs()
    return {name: value for name, value in spec if value != getattr(silent, name)}


def settings(
    iteration: int, phase: str, policy: Policy, spec: Pairs, sql: str, judge: str, rows: str
) -> dict[str, Any]:
    """What decides the pairs of a phase: `sql` is a digest of all queries between the candidates
    and the pairs but the policy's own, `rows` of the candidates."""
    changed = changes(spec)
    return {
        "iteration": iteration,
        "phase": phase,
        "policy": policy.sql,
        "sql": sql,
        "judge": judge,
        "rows": rows,
        **({"pairs": changed} if changed else {}),
    }
