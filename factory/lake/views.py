"""DuckDB over the lake: the tables as views, and the named queries of `factory/sql/`.

Knows which view needs which; knows no step and no policy.
"""

import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pyarrow as pa

from factory.errors import QueryError
from factory.fingerprint import short_hash
from factory.lake.schema import TABLES

BATCH = 1000
"""Rows that are read from DuckDB at a time."""

SHARD_TABLES = ("samples", "judgments", "verdicts")
"""Tables whose rows can have been made twice, or for what is no longer there; the view of the same
name leaves them out."""


_SHARDS = {
    "prompts": "prompts",
    "probe": "prompts",
    "samples": "samples",
    "judgments": "judgments",
    "verdicts": "verdicts",
    "pairs": "pairs",
}
"""The names under which shards are registered, and their tables."""

_SETTINGS = (
    "enable_progress_bar = false",  # it would be drawn into what a verb prints
    # A name that is no view is an error, not whatever variable of this program has that name.
    "python_enable_replacements = false",
    # Memory goes back to the system when a query ends, not when a lot of it has gathered: a run
    # is mostly waiting for its engine, which may want it.
    "allocator_flush_threshold = '1MB'",
    "allocator_bulk_deallocation_flush_threshold = '1MB'",
)

MACROS = ("macros", "made_once", "labels")
"""The files with what the queries share."""

BASE_VIEWS = (
    *("prompts", "samples", "placed", "rivals", "judgments", "verdicts", "scores", "candidates"),
    "judge_scores",
)
"""The views between shards and candidates, each of which may read those before it."""


@cache
def sql_text(name: str) -> str:
    """The text of a query of `factory/sql/`."""
    return next(file for file in _sql_files() if file.name == f"{name}.sql").read_text(
        encoding="utf-8"
    )


@cache
def all_sql() -> str:
    """A hash of all named queries: what was remembered of others is not theirs."""
    return short_hash("".join(file.read_text(encoding="utf-8") for file in _sql_files()))


@cache
def _sql_files() -> list[Path]:
    return sorted(Path(str(resources.files("factory"))).glob("*/sql/*.sql"))


class Views:
    """A DuckDB connection with the lake's tables as views.

    The named views are made once, on tables with nothing in them; what they read is then put
    under them, as often as needed: a view finds the shards of the moment by their name.
    """

    def __init__(self, memory: str | None = None, script: str | None = None) -> None:
        """`memory` is the most that queries hold, as in the recipe's query_memory. `script` is SQL
        that defines the views in place of the lake's: those of a published folder."""
        self.con = duckdb.connect()
        for setting in _SETTINGS:
            self.con.execute(f"set {setting}")
        if memory is not None:
            self.con.execute(f"set memory_limit = '{memory}'")
        # Of this connection alone: DuckDB gives its files the same names in every process. It makes
        # the folder when it needs it, and removes it.
        name = f"factory-duckdb-{os.getpid()}-{uuid4().hex[:8]}"
        self.con.execute(f"set temp_directory = '{tempfile.gettempdir()}/{name}'")
        self._defined: dict[str, str] = {}
        self._registered: dict[str, Sequence[Path]] = {}
        if script is not None:
            self.con.execute(script)
            return
        for macros in MACROS:
            self.con.execute(sql_text(macros))
        self.forget_texts()
        self.setting("recipe_settings", {"chunks": 1, "test_fraction": 0.0})
        for table in ("roles", "panel"):
            self.rows(table, TABLES[table].empty_table())
        for view, table in _SHARDS.items():
            self.shards(view, table, [])
        self.view(*BASE_VIEWS)

    def __enter__(self) -> "Views":
        return self

    def __exit__(self, *exception: object) -> None:
        self.con.close()

    def shards(self, view: str, table: str, paths: Sequence[Path]) -> None:
        """Registers shards of a table as `<view>_shards`, with `filename` and, for tables with
        rows that can be made twice, `file_row_number`."""
        numbered = table in SHARD_TABLES
        name = f"{view}_shards"
        if self._registered.get(name) == paths:
            return
        self._registered[name] = paths
        if paths:
            # As SQL: a relation's own view would be shadowed by a registered one of its name.
            files = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
            row_number = ", file_row_number = true" if numbered else ""
            if name not in self._defined:
                self.con.unregister(name)
            self.define(name, f"from read_parquet([{files}], filename = true{row_number})")
            return
        extra = [("filename", pa.string())] + [("file_row_number", pa.int64())] * numbered
        schema = pa.schema([*TABLES[table], *(pa.field(*column) for column in extra)])
        self._register(name, schema.empty_table())

    def leave_nothing_out(self, whole: Collection[str]) -> None:
        """Says which of SHARD_TABLES have no row in their shards that their view leaves out: the
        view is then the shards, and does not look for any."""
        for table in SHARD_TABLES:
            shards = f"select * exclude (filename, file_row_number) from {table}_shards"
            self.define(table, shards if table in whole else sql_text(table))

    def rows(self, name: str, table: pa.Table) -> None:
        """Registers an Arrow table as a view."""
        self._registered.pop(name, None)
        self._register(name, table)

    def _register(self, name: str, table: pa.Table) -> None:
        if self._defined.pop(name, None) is not None:
            self.con.execute(f"drop view {name}")
        self.con.register(name, table)

    def setting(self, name: str, values: Mapping[str, Any]) -> None:
        """Registers a row of settings, for queries that take them as a relation (views cannot
        have parameters)."""
        self.rows(name, pa.Table.from_pylist([dict(values)]))

    def view(self, *names: str) -> None:
        """Registers named queries as views, in this order."""
        for name in names:
            self.define(name, sql_text(name))

    def define(self, name: str, text: str) -> None:
        """Registers a query's text as a view."""
        if self._defined.get(name) != text:
            self.con.execute(f"create or replace temp view {name} as {text}")
            self._defined[name] = text

    def table(self, name: str, text: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Makes a table of what a query comes to now."""
        with _enough_memory():
            self.con.execute(f"create or replace temp table {name} as {text}", parameters)

    def add(self, name: str, text: str) -> None:
        """Adds to a table what a query comes to now."""
        with _enough_memory():
            self.con.execute(f"insert into {name} {text}")

    def drop(self, *tables: str) -> None:
        """Gives back the memory of tables that were made."""
        for name in tables:
            self.con.execute(f"drop table {name}")

    def read_texts(self, of: str) -> None:
        """Reads the texts of what a query names as chosen_id and rejected_id into the table
        `texts`. One that is there is not read again: a sample's id is made of its text."""
        self.define("texts_of", of)
        self.add("texts", sql_text("texts"))

    def forget_texts(self) -> None:
        """Empties the table `texts`."""
        self.con.execute("create or replace temp table texts (sample_id varchar, text varchar)")

    def one(self, name: str) -> dict[str, Any]:
        """The only row of a named query."""
        (row,) = self.all(name)
        return row

    def all(self, name: str) -> list[dict[str, Any]]:
        """The rows of a named query that has few."""
        return self.query(sql_text(name))

    def query(self, text: str, *values: Any) -> list[dict[str, Any]]:
        """Return the rows of a query that has few of them. `values` fill its `?`."""
        with _enough_memory():
            found = self.con.sql(text, params=list(values) or None).to_arrow_table()
        rows: list[dict[str, Any]] = found.to_pylist()
        return rows

    def stream(self, name: str, schema: pa.Schema | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of a named query, a batch at a time; cast to `schema` where one is given.
        The connection is busy until the last."""
        with _enough_memory():
            for batch in self.con.sql(sql_text(name)).to_arrow_reader(BATCH):
                yield batch if schema is None else batch.select(schema.names).cast(schema)

    def read_only(self, query: str) -> duckdb.DuckDBPyRelation:
        """A user's query as a relation. Raises QueryError unless it is one that only reads."""
        try:
            statements = self.con.extract_statements(query)
        except duckdb.Error as error:
            raise QueryError(_sentence(error)) from None
        kinds = {statement.type for statement in statements}
        if len(statements) != 1 or kinds - {
            duckdb.StatementType.SELECT,
            duckdb.StatementType.EXPLAIN,
        }:
            raise QueryError("expected one query that reads (select, from, describe, summarize)")
        try:
            return self.con.sql(query)
        except duckdb.Error as error:
            raise QueryError(_sentence(error)) from None

    def answer(self, query: str) -> pa.Table:
        """The rows of a user's query; Ctrl-C stops it. Raises QueryError where it fails, or does
        more than read."""
        # In a thread: DuckDB, while it works, lets no signal through to the one that called it.
        with ThreadPoolExecutor(1) as thread:
            rows = thread.submit(lambda: self.read_only(query).to_arrow_table())
            try:
                return rows.result()
            except duckdb.Error as error:
                raise QueryError(_sentence(error)) from None
            except KeyboardInterrupt:
                while not rows.done():  # a query that is only about to begin does not hear it
                    self.con.interrupt()
                    wait([rows], timeout=0.1)
                raise


@contextmanager
def _enough_memory() -> Iterator[None]:
    try:
        yield
    except (duckdb.OutOfMemoryException, pa.ArrowException) as error:
        if "Out of Memory" not in str(error):
            raise
        raise QueryError(
            f"a query over the lake needs more memory ({_one_line(error)}): raise query_memory, or "
            "leave it out and free memory"
        ) from None


def _one_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error).splitlines()[0])


def _sentence(error: duckdb.Error) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return "the query failed: " + re.sub(r"\s+", " ", " ".join(lines[:2]))
