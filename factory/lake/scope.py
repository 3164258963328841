"""The scope of a query: the roles and judges whose rows the query reads."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from factory.lake.schema import Row

SHARD_KEYS = {"samples": "sampling_key", "judgments": "judge_key", "verdicts": "parser_key"}
"""For each table with a role's rows, the column with the key of its folder. The column belongs to
`roles` for samples, and to `panel` for judgments and verdicts."""


@dataclass(frozen=True)
class Scope:
    """The roles whose samples a query reads, and the judges that score these samples."""

    roles: Sequence[Row] = ()
    """Rows of the table `roles`."""
    panel: Sequence[Row] = ()
    """Rows of the table `panel`, which lists the judges of each role."""

    def rows(self, table: str) -> Sequence[Row]:
        """Return this scope's roles for the table `samples`, and its panel for other tables."""
        return self.roles if table == "samples" else self.panel

    def keys(self, table: str) -> list[str]:
        """Return the keys of a table's folders in this scope, in alphabetical order."""
        column = SHARD_KEYS[table]
        return sorted({row[column] for row in self.rows(table) if row.get(column)})


def join_scopes(scopes: Iterable[Scope]) -> Scope:
    """Return the union of several scopes, without duplicate rows."""
    roles, panel = list[Row](), list[Row]()
    for scope in scopes:
        roles += [row for row in scope.roles if row not in roles]
        panel += [row for row in scope.panel if row not in panel]
    return Scope(roles, panel)
