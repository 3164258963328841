"""Pair policies: SQL files that select the chosen and the rejected answer to each prompt."""

import re
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, cast, get_args

from factory.errors import RecipeError
from factory.input_files import read_text, reason_of
from factory.paths import user_path
from factory.recipe import REFERENCE, Method, Pairs, Recipe

FIRST, SECOND = "D1", "D2"
"""The two phases of an iteration. D1 trains the future model. D2 trains the next model and is
published. If the loop trains no models, the first phase of the policy is published."""


ROLES = ("past", "current", "future", REFERENCE)
"""Roles whose samples a policy may choose from."""


OF_TWO_SIDES = (
    "min_margin",
    "min_margin_to_noise",
    "max_length_ratio",
    "max_similarity",
    "rejected_if",
    "agree",
)
"""Fields of `pairs` that apply only if the policy selects rejected answers."""


_HEADER = re.compile(r"^-- Roles:(.*)$", re.MULTILINE)


_TRAINS = re.compile(r"^-- Trains:(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Policy:
    """A pair policy: a SQL query that selects the chosen and the rejected answer to each prompt."""

    name: str
    """Name of a shipped policy, or the path of the user's file."""
    sql: str
    roles: tuple[str, ...]
    """Roles that the policy chooses from. A policy with the future role has two phases, and D1 runs
    the same query without future candidates."""
    trains: Method = "dpo"
    """Training method for the chosen pairs. With sft there is no rejected side."""
    trains_models: bool = True
    """Whether the loop trains models on the pairs. Otherwise, there is no future model, and only
    the first phase runs."""

    @property
    def is_own(self) -> bool:
        """Whether the policy is a user's own SQL file rather than a shipped policy."""
        return self.name.endswith(".sql")

    @property
    def phases(self) -> tuple[str, ...]:
        """Phases of each iteration: two if the policy uses a future model, otherwise one.

        D1 trains the future model, and D2 trains the next model. A single phase is D2. If the loop
        trains no models, a policy with two phases has only D1.
        """
        phases = (FIRST, SECOND) if "future" in self.roles else (SECOND,)
        return phases if self.trains_models else phases[:1]

    @property
    def final_phase(self) -> str:
        """The final phase, whose pairs are exported and published."""
        return self.phases[-1]

    def candidates(self, phase: str) -> tuple[str, ...]:
        """Return the roles, such as `current`, whose answers the policy may choose in a phase."""
        return tuple(role for role in self.roles if (role, phase) != ("future", FIRST))


def shipped_policies() -> list[str]:
    """Return the sorted names of the pair policies that ship with the factory."""
    files = (resources.files("factory.pairs") / "policies").iterdir()
    return sorted(file.name.removesuffix(".sql") for file in files if file.name.endswith(".sql"))


def load_policy(recipe: Recipe) -> Policy:
    """Load a recipe's pair policy, either a shipped one or the user's own SQL file.

    Raises RecipeError if the policy does not exist, if no comment lists its roles
    (`-- Roles: past, current`), or if the recipe sets a field of `pairs` that concerns the rejected
    side and the policy has none (`-- Trains: sft`).
    """
    policy = replace(
        _load(recipe.loop.policy, recipe.folder), trains_models=recipe.loop.trains_models
    )
    if policy.trains == "sft":
        for name in changed_fields(recipe.pairs):
            if name in OF_TWO_SIDES:
                raise RecipeError(
                    f"pairs.{name}",
                    f"the field has no effect, because the policy {policy.name} selects no "
                    "rejected answers",
                    "remove the field, or choose another loop.policy",
                )
    return policy


def _load(name: str, folder: Path) -> Policy:
    own = name.endswith(".sql")
    file = resources.files("factory.pairs") / "policies" / f"{name}.sql"
    if not own and name not in shipped_policies():
        raise RecipeError(
            "loop.policy",
            f"got {name!r}",
            f"expected one of {', '.join(shipped_policies())}, or the path to a .sql file",
        )
    try:
        own_file = user_path(name, "loop.policy", base=folder) if own else None
        sql = read_text(own_file) if own_file else file.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(
            "loop.policy",
            f"the file {name} cannot be read ({reason_of(error)})",
            "expected a UTF-8 text file with one SQL query",
        ) from None
    header = _HEADER.search(sql)
    roles = tuple(role.strip() for role in header[1].split(",")) if header else ()
    if not roles or set(roles) - set(ROLES) or "current" not in roles:
        raise RecipeError(
            "loop.policy",
            f"the file {name} has no `-- Roles:` comment that lists valid roles",
            "add a `-- Roles:` comment with `current` and any other roles that the query uses "
            f"({', '.join(ROLES)})",
        )
    trained = _TRAINS.search(sql)
    method = trained[1].strip() if trained else "dpo"
    if method not in get_args(Method):
        raise RecipeError(
            "loop.policy",
            f"got the comment `-- Trains: {method}` in the file {name}",
            "use dpo to train on pairs, or sft to train only on the chosen answers",
        )
    return Policy(name, sql, roles, cast(Method, method))


def changed_fields(spec: Pairs) -> dict[str, Any]:
    """Return the fields of a recipe's `pairs` section that differ from their defaults."""
    silent = Pairs()
    return {name: value for name, value in spec if value != getattr(silent, name)}
