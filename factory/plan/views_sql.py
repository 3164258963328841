"""Build the SQL statements that create a recipe's views in DuckDB.

The file `views.sql` and `factory diff` use these statements.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from factory.files import write_whole
from factory.lake import (
    BASE_VIEWS,
    MACROS,
    SHARD_TABLES,
    TABLES,
    Row,
    Scope,
    literal,
    load_query,
    read_parquet,
    writing,
)
from factory.plan.public_views import final_pairs
from factory.plan.recipe_state import RecipeState

_HOW_TO_READ = """\
-- The views of `factory sql` over the shards of this lake, for DuckDB (tested with 2.0). Run this
-- file in the lake's folder. Every `factory run` of the recipe rewrites it.
"""


def write_views_sql(state: RecipeState) -> Path:
    """Write a recipe's SQL views to the file `recipes/<name>/views.sql` in the lake.

    Paths in the file are relative to the lake. Nothing is written if the lake is read-only or the
    file is up to date.
    """
    root = state.lake.root
    path = root / "recipes" / state.recipe.name / "views.sql"
    text = _views_sql(state)
    is_new = not path.exists() or path.read_text(encoding="utf-8") != text
    if is_new and os.access(root, os.W_OK):
        with writing(root):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text)
    return path


def _views_sql(state: RecipeState) -> str:
    scope, root = state.everything, state.lake.root
    prompts = {role: list(paths) for role, paths in state.stored.prompts.items()}
    shards = {"prompts": prompts.get("loop", []), **state.stored.shards_of(scope)}
    shards["probe"] = prompts.get("probe", [])
    shards["pairs"] = [
        shard
        for step, found in state.steps.items()
        if step.stage == "pairs" and found.folder
        for shard in found.folder.shards()
    ]
    relative = {
        table: [path.relative_to(root) for path in paths] for table, paths in shards.items()
    }
    views = {
        **recipe_inputs(state, scope, relative),
        "models": values_of("models", state.models_table().to_pylist()),
        **{name: load_query(f"lake/{name}").text for name in BASE_VIEWS if name != "candidates"},
        "candidates": state.opened.choice.candidates,
        **{name: load_query(f"lake/{name}").text for name in ("pairs", "judges", "gaps")},
        "final_pairs": final_pairs(state.policy.final_phase),
    }
    statements = [create_view(name, text) for name, text in views.items()]
    return "\n".join([_HOW_TO_READ, create_macros(), *statements])


def recipe_inputs(
    state: RecipeState, scope: Scope, shards: Mapping[str, Sequence[Path]]
) -> dict[str, str]:
    """Return the SQL query of each relation that the base views read.

    The result maps relation names to queries. The relations are the roles and judges of a scope,
    the recipe's settings, and the shards of each table.
    """
    recipe = state.recipe
    chunks, fraction = recipe.loop.n_chunks, recipe.prompts.test_fraction
    return {
        "roles": values_of("roles", scope.roles),
        "panel": values_of("panel", scope.panel),
        "recipe_settings": f"select {chunks} as chunks, {fraction}::double as test_fraction",
        **{f"{table}_shards": _shards(table, paths) for table, paths in shards.items()},
    }


def _shards(table: str, paths: Sequence[Path]) -> str:
    """Return a query that reads a table's shards, with the columns of `Views.register_shards`."""
    numbered = table in SHARD_TABLES
    if paths:
        options = ["filename = true"] + ["file_row_number = true"] * numbered
        return f"from {read_parquet(paths, *options)}"
    columns = ", ".join(
        f"null::{_sql_type(column.type)} as {column.name}"
        for column in TABLES["prompts" if table == "probe" else table]
    )
    row_number = ", null::bigint as file_row_number" if numbered else ""
    return f"select {columns}, null::varchar as filename{row_number} limit 0"


def values_of(table: str, rows: Sequence[Row]) -> str:
    """Return a SQL query that produces the given rows with a table's columns and types."""
    typed = ", ".join(
        f"{column.name}::{_sql_type(column.type)} as {column.name}" for column in TABLES[table]
    )
    names = TABLES[table].names
    listed = ",\n    ".join(
        "(" + ", ".join(literal(row.get(name)) for name in names) + ")" for row in rows
    )
    if not rows:
        listed = "(" + ", ".join("null" for _ in names) + ")"
    empty = "" if rows else " limit 0"
    return f"select {typed} from (values\n    {listed}\n) as {table} ({', '.join(names)}){empty}"


def _sql_type(kind: pa.DataType) -> str:
    """Return the DuckDB name of an Arrow type."""
    if pa.types.is_list(kind):
        return f"{_sql_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        return "struct(" + ", ".join(f"{part.name} {_sql_type(part.type)}" for part in kind) + ")"
    return {pa.string(): "varchar", pa.int32(): "int", pa.int64(): "bigint"}.get(kind, "double")


def create_macros() -> str:
    """Return the SQL statements that create the macros used by the queries."""
    macros = "\n".join(load_query(name).text for name in MACROS)
    return macros.replace("create macro", "create or replace temp macro")


def create_view(name: str, text: str) -> str:
    """Return the SQL statement that creates a temporary view."""
    return f"create or replace temp view {name} as\n{text.rstrip()};\n"


def create_table(name: str, text: str) -> str:
    """Return the SQL statement that creates a temporary table."""
    return f"create or replace temp table {name} as\n{text.rstrip()};\n"
