"""What a lake holds of a recipe, as views: its prompts, and the rows of its roles.

Counts are remembered by the names of the shards that they were taken from: content has one name,
so the same query on the same names has the same result.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from factory.fingerprint import canonical, short_hash
from factory.lake.folders import Lake
from factory.lake.schema import TABLES, Row
from factory.lake.scope import SHARD_KEYS, Scope
from factory.lake.views import Views, all_sql, sql_text
from factory.recipe import Recipe

_Folders = dict[str, dict[str, list[Path]]]
"""Shards by table and folder's key."""


STEP = pa.schema(
    [
        ("asked", pa.string()),
        ("iteration", pa.int32()),
        ("role", pa.string()),
        ("of_probe", pa.bool_()),
        ("first_prompts", pa.int64()),
        ("first_draw", pa.int32()),
        ("n_draws", pa.int32()),
        ("judge_reads", pa.string()),
        ("opponents", pa.int32()),
    ]
)
"""What the queries of a step ask about it: one row."""


class RecipeViews:
    def __init__(self, recipe: Recipe, lake: Lake) -> None:
        self.recipe = recipe
        self.lake = lake
        self.prompts: dict[str, pa.Table | Sequence[Path]] = {}
        """By loop or probe: shards, or rows that were read and are not in the lake yet."""
        self._memo: dict[str, dict[str, Any]] = lake.load_json(self._memo_name)
        self._used: dict[str, str] = {}

    @property
    def _memo_name(self) -> str:
        return f"memo-{self.recipe.name}.json"

    def save_memo(self) -> None:
        """Keeps what was counted for the next command."""
        self.lake.save_json(self._memo_name, self._memo)

    def prune_memo(self) -> None:
        """Forgets what this command, having looked at every step, had no use for."""
        self._memo = {name: self._memo[name] for name in sorted(set(self._used.values()))}

    @cached_property
    def _views(self) -> Views:
        return Views(self.recipe.query_memory)

    def views(self, scope: Scope) -> Views:
        """The lake's tables as views, holding what a scope reads. There is one connection: the
        next call changes what its views hold."""
        views = self._views
        views.setting("recipe_settings", self._settings)
        for role, view in (("loop", "prompts"), ("probe", "probe")):
            held = self.prompts.get(role, [])
            if isinstance(held, pa.Table):
                filename = pa.nulls(len(held), pa.string())
                views.rows(f"{view}_shards", held.append_column("filename", filename))
            else:
                views.shards(view, "prompts", held)
        views.rows("roles", pa.Table.from_pylist(list(scope.roles), TABLES["roles"]))
        views.rows("panel", pa.Table.from_pylist(list(scope.panel), TABLES["panel"]))
        folders = self._folders(scope)
        whole = [table for table in folders if self._is_whole(folders, scope, table)]
        views.leave_nothing_out(whole)
        for table, held_shards in folders.items():
            views.shards(table, table, [path for paths in held_shards.values() for path in paths])
        return views

    def _is_whole(self, folders: _Folders, scope: Scope, table: str) -> bool:
        """Whether the view of a table leaves no row of this scope's shards out, as far as can be
        told cheaply. By folder: rows of two folders never have one key."""
        read = ("judgments", "verdicts") if table == "verdicts" else (table,)
        rows = scope.rows(table)
        keys = {tuple(row.get(SHARD_KEYS[name]) or "" for name in read) for row in rows}
        return all(
            self._folder_is_whole(
                key[-1], {name: folders[name][of] for name, of in zip(read, key, strict=True)}
            )
            for key in keys
            if key[-1]
        )

    def _folder_is_whole(self, key: str, shards: dict[str, list[Path]]) -> bool:
        """As `_is_whole`, of the folder of the last of the tables that `shards` has."""
        table = list(shards)[-1]

        def compute() -> dict[str, Any]:
            for name, paths in shards.items():
                self._views.shards(name, name, paths)
            return self._views.one(f"whole_{table}")

        place = f"whole_{table} {key}"
        names = [[path.name for path in paths] for paths in shards.values()]
        return bool(self._remember(place, [place, names], compute)["is_whole"])

    def step_views(self, stage: str, scope: Scope, step: Row) -> Views:
        """The views that the queries of one step are made on; `step` is its row of STEP."""
        views = self.views(scope)
        views.rows("step", pa.Table.from_pylist([step], STEP))
        # A limit cannot be taken from a relation, and a window would hold every prompt in memory.
        first = "" if step["first_prompts"] is None else f"limit {step['first_prompts']}"
        views.define("scope_prompts", f"{sql_text('scope_prompts')} {first}")
        views.view("scope_placed")
        if stage in ("samples", "judgments"):
            wanted = f"wanted_{stage}" if step["opponents"] is None else "wanted_comparisons"
            views.view(wanted)
            views.define("wanted", f"from {wanted}")
            views.define("answers", f"from {stage}")
        return views

    def count_step(self, query: str, stage: str, scope: Scope, step: Row) -> dict[str, Any]:
        """The only row of a query on a step's views."""
        role = scope.roles[-1]
        place = f"{query} {stage} {role['iteration']} {role['role']} {role['name']}"
        if scope.panel:
            place += f" {scope.panel[-1]['judge_name']}"
        return self.recall(
            place, [step], scope, lambda: self.step_views(stage, scope, step).one(query)
        )

    def recall(
        self,
        place: str,
        asked: list[Any],
        scope: Scope,
        compute: Callable[[], dict[str, Any]],
    ) -> dict[str, Any]:
        """What `compute` came to before on the same shards of this scope, or comes to now.

        `place` names the query and where it is asked; `asked` is what else it follows from.
        """
        if any(isinstance(held, pa.Table) for held in self.prompts.values()):
            return compute()
        shards = [*self.prompts.values(), *self.shards_of(scope).values()]
        names = [[path.name for path in paths] for paths in shards]
        about = [place, asked, list(scope.roles), list(scope.panel), self._settings, names]
        return self._remember(place, about, compute)

    def _remember(
        self, place: str, follows_from: list[Any], compute: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        signature = short_hash(canonical([all_sql(), *follows_from]))
        if signature not in self._memo:
            self._memo[signature] = compute()
        self._used[place] = signature
        return dict(self._memo[signature])

    def names(self, scope: Scope) -> str:
        """A hash of the names of all shards that a scope reads, and of the prompts."""
        prompts = [
            held if isinstance(held, Sequence) else [] for _, held in sorted(self.prompts.items())
        ]
        shards = [*prompts, *self.shards_of(scope).values()]
        return short_hash(canonical([[path.name for path in paths] for paths in shards]))

    def shards_of(self, scope: Scope) -> dict[str, list[Path]]:
        """The shards that a scope reads, by table."""
        held = self._folders(scope).items()
        return {
            table: [path for paths in folders.values() for path in paths] for table, folders in held
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
