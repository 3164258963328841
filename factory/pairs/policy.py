"""Pair policies: SQL files that choose the chosen and the rejected answer of each prompt."""

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, cast, get_args

from factory.errors import RecipeError
from factory.recipe import REFERENCE, Method, Pairs, Recipe

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


def shipped_policies() -> list[str]:
    """The names of the policies of `factory/pairs/policies/`."""
    files = (resources.files("factory.pairs") / "policies").iterdir()
    return sorted(file.name.removesuffix(".sql") for file in files if file.name.endswith(".sql"))


def load_policy(recipe: Recipe) -> Policy:
    """The policy that a recipe names: one that ships, or a file of the user's own.

    Raises RecipeError where there is none of that name, or where its comment does not say which
    roles it chooses from (`-- Roles: past, current`), and where `pairs` is about a rejected side
    and the policy has none (`-- Trains: sft`).
    """
    policy = _load(recipe.loop.policy, recipe.folder)
    if policy.trains == "sft":
        for name in changed_fields(recipe.pairs):
            if name in OF_TWO_SIDES:
                raise RecipeError(
                    f"pairs.{name}",
                    f"is about the rejected side of a pair, and loop.policy {policy.name} has none",
                    "remove it, or choose another policy",
                )
    return policy


def _load(name: str, folder: Path) -> Policy:
    own = name.endswith(".sql")
    file = resources.files("factory.pairs") / "policies" / f"{name}.sql"
    if not own and name not in shipped_policies():
        raise RecipeError(
            "loop.policy",
            f"got {name!r}",
            f"expected one of {', '.join(shipped_policies())}, or a file of your own that ends in "
            ".sql",
        )
    try:
        sql = (folder / Path(name).expanduser() if own else file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            "loop.policy",
            f"{name} cannot be read ({type(error).__name__})",
            "expected a file with one query",
        ) from None
    header = _HEADER.search(sql)
    roles = tuple(role.strip() for role in header[1].split(",")) if header else ()
    if not roles or set(roles) - set(ROLES) or "current" not in roles:
        raise RecipeError(
            "loop.policy",
            f"{name} does not name its roles",
            "expected a comment that names the roles that it chooses from, current among them "
            f"(-- Roles: {', '.join(ROLES)})",
        )
    trained = _TRAINS.search(sql)
    method = trained[1].strip() if trained else "dpo"
    if method not in get_args(Method):
        raise RecipeError(
            "loop.policy",
            f"{name} has -- Trains: {method}",
            "expected dpo (on pairs) or sft (on the chosen answers alone)",
        )
    return Policy(name, sql, roles, cast(Method, method))


def changed_fields(spec: Pairs) -> dict[str, Any]:
    """The fields that are not at their defaults."""
    silent = Pairs()
    return {name: value for name, value in spec if value != getattr(silent, name)}
