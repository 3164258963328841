"""Check SQL that a user wrote, before DuckDB runs it."""

import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import duckdb

from factory.errors import QueryError, one_line
from factory.lake.database import open_database
from factory.lake.sql_text import statement_of

_EXPLAIN = re.compile(r"explain(\s+analyze)?(\s*\([^()]*\))?\s+", re.IGNORECASE)

_EXPRESSIONS = frozenset(
    "BETWEEN CASE CAST COLUMN_REF COMPARISON CONJUNCTION".split()
    + "CONSTANT FUNCTION OPERATOR STAR TYPE".split()
)
"""Classes of nodes in DuckDB's syntax trees that compute a value from the columns of one row."""

_REWRITTEN = frozenset({"if", "ifnull", "nullif", "row", "try_cast"})
"""Deterministic functions that DuckDB replaces with other expressions, so it does not list them as
functions."""

_UNBOUNDED = frozenset({"range", "generate_series", "repeat", "lpad", "rpad"})
"""Functions whose result can be so large that a query never ends."""

_OF_PROGRAM = frozenset({"version"})
"""Functions whose result depends on the version of DuckDB."""

_CLOCK = re.compile(r"current_.*|local(time|timestamp)|age|user|session_user")
"""Names that DuckDB resolves to the current time, user, or session."""


def check_query(con: duckdb.DuckDBPyConnection, text: str) -> None:
    """Check that SQL text is exactly one query that reads, or the EXPLAIN of such a query.

    Raises QueryError for other statements, for several statements, and for invalid SQL.
    """
    kinds = _kinds(con, text)
    if kinds == [duckdb.StatementType.EXPLAIN]:
        kinds = _kinds(con, _EXPLAIN.sub("", statement_of(text), count=1))
    if kinds != [duckdb.StatementType.SELECT]:
        raise QueryError("", "expected one read-only query (select, from, describe, or summarize)")


def _kinds(con: duckdb.DuckDBPyConnection, text: str) -> list[duckdb.StatementType]:
    try:
        return [statement.type for statement in con.extract_statements(text)]
    except duckdb.Error as error:
        raise query_error(error) from None


def check_columns(names: Sequence[str]) -> None:
    """Raise QueryError if two columns of a user's query have the same name.

    Later code would silently use one of them. DuckDB ignores the case of names.
    """
    lower = [name.lower() for name in names]
    for name in names:
        if lower.count(name.lower()) > 1:
            raise QueryError("", f"two columns have the name {name}: rename one of them with `as`")


def check_expression(text: str) -> None:
    """Check that SQL text is one expression whose value depends only on columns of its row.

    Raises QueryError for invalid SQL, and for an expression that reads a table or a file, combines
    several rows, or has another value each time.
    """
    with open_database() as con:
        ((parsed,),) = con.execute("select json_serialize_sql(?)", [f"select {text}"]).fetchall()
        ((closed,),) = con.execute("select json_serialize_sql(?)", [f"select ({text})"]).fetchall()
    tree = json.loads(parsed)
    if tree["error"]:
        raise QueryError("", f"the expression is invalid: {one_line(tree['error_message'])}")
    if json.loads(closed)["error"] or not _is_one_expression(tree["statements"]):
        raise QueryError("", "expected one expression over the columns of a candidate")
    for node in _nodes(tree["statements"][0]["node"]["select_list"]):
        name = str(node.get("function_name") or node.get("column_names", [""])[-1]).lower()
        if node["class"] not in _EXPRESSIONS:
            raise QueryError("", f"an expression cannot contain a {_words(node['class'])}")
        if node["class"] == "FUNCTION" and name not in _functions():
            raise QueryError("", f"an expression cannot call the function {name}")
        if _CLOCK.fullmatch(name):
            raise QueryError("", f"an expression cannot read {name}, which changes between runs")


def _is_one_expression(statements: list[dict[str, Any]]) -> bool:
    node = statements[0]["node"]
    return (
        len(statements) == 1
        and node["type"] == "SELECT_NODE"
        and len(node["select_list"]) == 1
        and node["from_table"]["type"] == "EMPTY"
        and not any(node.get(part) for part in ("where_clause", "group_expressions", "having"))
        and not any(node.get(part) for part in ("modifiers", "qualify", "sample"))
    )


def _words(kind: str) -> str:
    return kind.lower().replace("_", " ")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield all expressions in a part of DuckDB's syntax tree."""
    if isinstance(tree, list):
        for part in tree:
            yield from _nodes(part)
    if isinstance(tree, dict):
        if "class" in tree:
            yield tree
        if tree.get("class") != "SUBQUERY":  # it is refused as a whole
            yield from _nodes(list(tree.values()))


@cache
def _functions() -> frozenset[str]:
    """Return the names of DuckDB's functions that expressions may call.

    They always map the same values to the same result, which is not much larger than the values.
    """
    with open_database() as con:
        rows = con.execute(
            "select distinct lower(function_name) from duckdb_functions() where internal and "
            "(function_type = 'scalar' and stability = 'CONSISTENT' or function_type = 'macro' "
            "and function_name similar to '(list|array)_.*')"
        ).fetchall()
    listed = frozenset(name for (name,) in rows) | _REWRITTEN
    return listed - _UNBOUNDED - _OF_PROGRAM


def query_error(error: duckdb.Error) -> QueryError:
    """Return DuckDB's error as an error of a user's query."""
    if isinstance(error, duckdb.PermissionException):
        return QueryError("", "the query reads or writes a file outside the lake")
    lines = [line for line in str(error).splitlines() if line.strip()]
    return QueryError("", f"the query failed: {one_line(' '.join(lines[:2]))}")
