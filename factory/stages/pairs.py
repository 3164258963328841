"""Pairs: a policy's choice among scored candidates. SQL does the work; this says what it hangs
on.
"""

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, cast, get_args

from factory.errors import RecipeError
from factory.recipe import REFERENCE, Method, Pairs, Recipe

VERSION = 2

FIRST, SECOND = "D1", "D2"
"""Phases: D1 trains the future model; D2 trains the next model and is what is published."""

ROLES = ("past", "current", "future", REFERENCE)
"""Whose samples a policy may choose from."""

OF_TWO_SIDES = ("min_margin", "min_margin_to_noise", "max_length_ratio", "max_similarity")
"""Fields of `pairs` that compare the two sides."""

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
    roles it chooses from (`-- Roles: past, current`), and where `pairs` compares the two sides and
    the policy has one alone (`-- Trains: sft`).
    """
    policy = _load(recipe.loop.policy, recipe.folder)
    if policy.trains == "sft":
        for name in OF_TWO_SIDES:
            if getattr(recipe.pairs, name) != Pairs.model_fields[name].default:
                raise RecipeError(
                    f"pairs.{name}: compares the two sides of a pair, and loop.policy "
                    f"{policy.name} has no rejected side: take it out, or take another policy"
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


def views(spec: Pairs) -> dict[str, str]:
    """The views between the candidates and a policy, in their order: name, and named query."""
    ordered = "by_score" if spec.length_control is None else "by_length"
    return {
        "measured": "measured",
        "eligible": "eligible",
        "ordered": ordered,
        "extremes": "extremes",
    }


def settings(
    iteration: int, phase: str, policy: Policy, spec: Pairs, sql: str, judge: str, rows: str
) -> dict[str, Any]:
    """What decides the pairs of a phase: `sql` is a digest of all queries between the candidates
    and the pairs but the policy's own, `rows` of the candidates."""
    changed = {name: value for name, value in spec if value != Pairs.model_fields[name].default}
    return {
        "iteration": iteration,
        "phase": phase,
        "policy": policy.sql,
        "sql": sql,
        "judge": judge,
        "rows": rows,
        **({"pairs": changed} if changed else {}),
    }
