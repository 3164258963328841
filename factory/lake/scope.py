"""Scope: the roles and judges that a query is about."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from factory.lake.schema import Row

SHARD_KEYS = {"samples": "sampling_key", "judgments": "judge_key", "verdicts": "parser_key"}
"""The tables with a role's rows, and the column that names their folder: a column of `roles` for
samples, else of `panel`."""


@dataclass(frozen=True)
class Scope:
    """What a query is about: roles, and the judges of their samples."""

    roles: Sequence[Row] = ()
    panel: Sequence[Row] = ()

    def rows(self, table: str) -> Sequence[Row]:
        """The rows that name the folders of a table."""
        return self.roles if table == "samples" else self.panel

    def keys(self, table: str) -> list[str]:
        """The keys of the folders of a table that it reads, sorted."""
        column = SHARD_KEYS[table]
        return sorted({row[column] for row in self.rows(table) if row.get(column)})


def join_scopes(scopes: Iterable[Scope]) -> Scope:
    """Several scopes as one, each row once."""
    roles, panel = list[Row](), list[Row]()
    for scope in scopes:
        roles += [row for row in scope.roles if row not in roles]
        panel += [row for row in scope.panel if row not in panel]
    return Scope(roles, panel)
