"""DuckDB views of the rows that belong to one recipe, and a cache of row counts.

The cache identifies a count by the names of the shards that it was computed from. A shard's name is
a hash of its content, so the same query on the same names always has the same result.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from factory.fingerprint import canonical, short_hash
from factory.lake.folders import Lake
from factory.lake.query import load_query, statements_digest
from factory.lake.schema import TABLES, Row
from factory.lake.scope import SHARD_KEYS, Scope
from factory.lake.views import Views
from factory.recipe import Recipe

_Folders = dict[str, dict[str, list[Path]]]
"""Paths of shards by table and folder key."""


class RecipeViews:
    """DuckDB views of the prompts and lake rows that belong to a recipe."""

    def __init__(self, recipe: Recipe, lake: Lake) -> None:
        self.recipe = recipe
        self.lake = lake
        self.prompts: dict[str, pa.Table | Sequence[Path]] = {}
        """The prompts of the loop and of the probe, as shards or as rows that are not stored
        yet."""
        self._cache: dict[str, dict[str, Any]] = lake.load_json(self._cache_name)
        self._used: dict[str, str] = {}

    @property
    def _cache_name(self) -> str:
        return f"memo-{self.recipe.name}.json"

    def save_cache(self) -> None:
        """Save the cached row counts for the next command."""
        self.lake.save_json(self._cache_name, self._cache)

    def prune_cache(self) -> None:
        """Remove unused row counts from the cache. A count is used if this object returned it."""
        self._cache = {name: self._cache[name] for name in sorted(set(self._used.values()))}

    @cached_property
    def _views(self) -> Views:
        return Views(self.recipe.query_memory, readable=[self.lake.root])

    def open(self, scope: Scope) -> Views:
        """Return DuckDB views of the rows that belong to the roles and judges in a scope.

        There is only one connection, so views that were opened earlier can no longer be used.
        """
        folders = self._folders(scope)
        whole = [table for table in folders if self._is_whole(folders, scope, table)]
        views = self._views.renew()
        views.register_row("recipe_settings", self._settings)
        for role, view in (("loop", "prompts"), ("probe", "probe")):
            prompts = self.prompts.get(role, [])
            if isinstance(prompts, pa.Table):
                filename = pa.nulls(len(prompts), pa.string())
                views.register(f"{view}_shards", prompts.append_column("filename", filename))
            else:
                views.register_shards(view, "prompts", prompts)
        views.register("roles", _rows("roles", scope.roles))
        views.register("panel", _rows("panel", scope.panel))
        views.define_tables(whole)
        for table, shards in folders.items():
            views.register_shards(
                table, table, [path for paths in shards.values() for path in paths]
            )
        self._views = views
        return views

    def _is_whole(self, folders: _Folders, scope: Scope, table: str) -> bool:
        """Return whether the view of a table keeps every row of this scope's shards.

        A cheap sufficient check, folder by folder: rows of two folders never have the same key.
        """
        read = ("judgments", "verdicts") if table == "verdicts" else (table,)
        rows = scope.rows(table)
        keys = {tuple(row.get(SHARD_KEYS[name]) or "" for name in read) for row in rows}
        return all(
            self._is_folder_whole(
                key[-1], {name: folders[name][of] for name, of in zip(read, key, strict=True)}
            )
            for key in keys
            if key[-1]
        )

    def _is_folder_whole(self, key: str, shards: dict[str, list[Path]]) -> bool:
        """Return whether the view keeps every row in the folder of the last table in `shards`."""
        table = list(shards)[-1]

        def compute() -> dict[str, Any]:
            self._views = self._views.renew()
            for name, paths in shards.items():
                self._views.register_shards(name, name, paths)
            return self._views.one(load_query(f"lake/whole_{table}"))

        place = f"whole_{table} {key}"
        names = [[path.name for path in paths] for paths in shards.values()]
        return bool(self._recall(place, [place, names], compute)["is_whole"])

    def recall(
        self,
        place: str,
        depends_on: list[Any],
        scope: Scope,
        compute: Callable[[], dict[str, Any]],
    ) -> dict[str, Any]:
        """Return the cached result of a query, or compute the result if it is not cached.

        A cached result is valid while the shards in the scope are unchanged. `place` names the
        query and where it is used. `depends_on` lists the other values that determine the result.
        """
        if any(isinstance(prompts, pa.Table) for prompts in self.prompts.values()):
            return compute()
        shards = [*self.prompts.values(), *self.shards_of(scope).values()]
        names = [[path.name for path in paths] for paths in shards]
        about = [place, depends_on, list(scope.roles), list(scope.panel), self._settings, names]
        return self._recall(place, about, compute)

    def _recall(
        self, place: str, depends_on: list[Any], compute: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        signature = short_hash(canonical([statements_digest("lake", "plan"), *depends_on]))
        if signature not in self._cache:
            self._cache[signature] = compute()
        self._used[place] = signature
        return dict(self._cache[signature])

    def shard_names(self, scope: Scope) -> str:
        """Return a hash of the names of all shards in a scope, including prompt shards."""
        prompts = [
            paths if isinstance(paths, Sequence) else []
            for _, paths in sorted(self.prompts.items())
        ]
        shards = [*prompts, *self.shards_of(scope).values()]
        return short_hash(canonical([[path.name for path in paths] for paths in shards]))

    def shards_of(self, scope: Scope) -> dict[str, list[Path]]:
        """Return a dict that maps each table name to the paths of the table's shards in a scope."""
        return {
            table: [path for paths in folders.values() for path in paths]
            for table, folders in self._folders(scope).items()
        }

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            "chunks": self.recipe.loop.n_chunks,
            "test_fraction": self.recipe.prompts.test_fraction,
        }

    def _folders(self, scope: Scope) -> _Folders:
        return {
            table: {key: self.lake.folder(table, key).shards() for key in scope.keys(table)}
            for table in SHARD_KEYS
        }


def _rows(table: str, rows: Sequence[Row]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), TABLES[table])
