"""DuckDB views of the lake's tables, and the queries that run on them.

This module knows which view reads which other view. It knows neither steps nor policies.
"""

import atexit
import copy
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pyarrow as pa

from factory.errors import QueryError, one_line
from factory.files import new_temporary_folder, remove_folder
from factory.lake.database import open_database
from factory.lake.query import Query, load_query
from factory.lake.schema import SHARD_TABLES, TABLES
from factory.lake.sql_text import Value, escape_wildcards, fill, literal, read_parquet
from factory.lake.user_sql import check_columns, check_query, query_error

BATCH = 1000
"""Number of rows per batch that is read from DuckDB."""

_SHARDS = {
    "prompts": "prompts",
    "probe": "prompts",
    "samples": "samples",
    "judgments": "judgments",
    "verdicts": "verdicts",
    "pairs": "pairs",
}
"""For each view over shards, the table that the shards belong to."""

_SETTINGS = (
    # Otherwise an unknown name in a query could match a Python variable of this program.
    "python_enable_replacements = false",
    # Return memory to the system at the end of each query. A run mostly waits for its engine, which
    # may need the memory.
    "allocator_flush_threshold = '1MB'",
    "allocator_bulk_deallocation_flush_threshold = '1MB'",
)

MACROS = ("lake/macros", "lake/made_once", "lake/labels")
"""The SQL files with the macros that queries share."""

BASE_VIEWS = (
    *("prompts", "samples", "placed", "rivals", "judgments", "verdicts", "scores", "candidates"),
    "judge_scores",
)
"""The views from shards to candidates. Each may read the views before it."""


@dataclass
class _Connection:
    """The DuckDB connection that several `Views` objects share, and its current definitions."""

    con: duckdb.DuckDBPyConnection
    defined: dict[str, str] = field(default_factory=dict)
    registered: dict[str, Sequence[Path]] = field(default_factory=dict)
    turn: int = 0


class Views:
    """A DuckDB connection with views of the lake's tables.

    The base views are created once, on empty tables. Registering shards then changes the rows that
    they read. A query that declares an input (`-- Reads:`) raises LookupError if nobody registered
    the input, so it never reads an empty table or the rows of an earlier caller. `renew` returns an
    object without inputs on the same connection, and the old object can no longer be used.
    """

    def __init__(
        self,
        memory: str | None = None,
        script: str | None = None,
        readable: Sequence[Path] | None = None,
    ) -> None:
        """Open a DuckDB connection, and define the views.

        `memory` is DuckDB's memory limit, such as `4GB` (the recipe's query_memory). `script` is
        SQL that defines the views of a published folder instead of the lake's. `readable` has the
        only folders whose files queries can read. Connections that run a user's SQL need it. None
        allows all folders.
        """
        self._shared = _Connection(open_database())
        self._turn = 0
        self._inputs: set[str] = set()
        for setting in _SETTINGS:
            self.con.execute(f"set {setting}")
        if memory is not None:
            self.con.execute(f"set memory_limit = '{memory}'")
        # One folder per connection, since DuckDB uses the same file names in every process. DuckDB
        # creates the folder when it needs it, and removes it.
        self.con.execute(f"set temp_directory = {literal(_spill_folder() / uuid4().hex[:8])}")
        if readable is not None:
            # DuckDB compares the path as it is written, with or without escaped wildcards.
            written = [path for folder in readable for path in (folder, escape_wildcards(folder))]
            folders = ", ".join(map(literal, written))
            self.con.execute(f"set allowed_directories = [{folders}]")
            self.con.execute("set enable_external_access = false")
            self.con.execute("set lock_configuration = true")
        self._is_lake = script is None
        if script is not None:
            self.con.execute(script)
            return
        for macros in MACROS:
            self.con.execute(load_query(macros).text)
        self.forget_texts()
        self.register_row("recipe_settings", {"chunks": 1, "test_fraction": 0.0})
        for table in ("roles", "panel"):
            self.register(table, TABLES[table].empty_table())
        for view, table in _SHARDS.items():
            self.register_shards(view, table, [])
        for name in BASE_VIEWS:
            self._create_view(name, load_query(f"lake/{name}").text)
        self._inputs.clear()

    @property
    def con(self) -> duckdb.DuckDBPyConnection:
        """The open DuckDB connection. Raises RuntimeError if `renew` was called on this object."""
        if self._turn != self._shared.turn:
            raise RuntimeError(
                "these views are closed, because `renew` was called on them: open the views again"
            )
        return self._shared.con

    def renew(self) -> "Views":
        """Return a new `Views` object that shares the connection but has no registered inputs. This
        object can no longer be used."""
        self._shared.turn += 1
        views = copy.copy(self)
        views._turn, views._inputs = self._shared.turn, set()
        return views

    def __enter__(self) -> "Views":
        return self

    def __exit__(self, *exception: object) -> None:
        self._shared.con.close()

    # inputs

    def register_shards(self, view: str, table: str, paths: Sequence[Path]) -> None:
        """Register a table's shards as the relation `<view>_shards`. The relation also has the
        column `filename` and, for tables in SHARD_TABLES, the column `file_row_number`."""
        numbered = table in SHARD_TABLES
        name = f"{view}_shards"
        self._inputs.add(name)
        if self._shared.registered.get(name) == paths:
            return
        self._shared.registered[name] = paths
        if paths:
            # Not con.register(): a registered relation would hide a view with the same name.
            options = ["filename = true"] + ["file_row_number = true"] * numbered
            if name not in self._shared.defined:
                self.con.unregister(name)
            self._create_view(name, f"from {read_parquet(paths, *options)}")
            return
        extra = [("filename", pa.string())] + [("file_row_number", pa.int64())] * numbered
        schema = pa.schema([*TABLES[table], *(pa.field(*column) for column in extra)])
        self._register(name, schema.empty_table())

    def register(self, name: str, table: pa.Table) -> None:
        """Register an Arrow table, so that queries can read it."""
        self._inputs.add(name)
        self._shared.registered.pop(name, None)
        self._register(name, table)

    def register_row(self, name: str, values: Mapping[str, Any]) -> None:
        """Register settings as a one-row table that queries can read."""
        self.register(name, pa.Table.from_pylist([dict(values)]))

    def _register(self, name: str, table: pa.Table) -> None:
        if self._shared.defined.pop(name, None) is not None:
            self.con.execute(f"drop view {name}")
        self.con.register(name, table)

    def define_tables(self, whole: Collection[str]) -> None:
        """Define the views `samples`, `judgments`, and `verdicts` over their shards. For a table in
        `whole`, no row needs to be left out, so its view reads the shards without looking for
        duplicates. The view `candidates` has no column `pair_score` until a caller adds it."""
        for table in SHARD_TABLES:
            query = load_query(f"lake/all_{table}" if table in whole else f"lake/{table}")
            self._create_view(table, query.text)
        self._create_view("candidates", load_query("lake/candidates").text)

    def define(self, name: str, query: Query | str, **values: Value) -> None:
        """Define a query as a view that other queries can read."""
        self._create_view(name, self._text(query, values))
        self._inputs.add(name)

    def _create_view(self, name: str, text: str) -> None:
        if self._shared.defined.get(name) != text:
            self.con.execute(f"create or replace temp view {name} as {text}")
            self._shared.defined[name] = text

    def create_table(self, name: str, query: Query | str, **values: Value) -> None:
        """Create a table from the rows of a query."""
        with _enough_memory():
            self.con.execute(f"create or replace temp table {name} as {self._text(query, values)}")
        self._inputs.add(name)

    def insert(self, name: str, query: Query | str, **values: Value) -> None:
        """Insert the rows of a query into a table."""
        with _enough_memory():
            self.con.execute(f"insert into {name} {self._text(query, values)}")

    def drop_tables(self, *names: str) -> None:
        """Drop tables to free their memory."""
        for name in names:
            self.con.execute(f"drop table {name}")
            self._inputs.discard(name)

    def use_table(self, name: str) -> None:
        """Allow queries to read a table that was created before `renew` was called."""
        self._inputs.add(name)

    def read_texts(self, of: str) -> None:
        """Load the texts of the given samples into the table `texts`. The query `of` lists the
        samples in its columns chosen_id and rejected_id. Texts that are already loaded are not read
        again, since a sample's ID is a hash of its text."""
        self.define("texts_of", of)
        self._inputs.add("texts")
        self.insert("texts", load_query("lake/texts"))

    def forget_texts(self) -> None:
        """Delete all rows from the table `texts`."""
        self.con.execute("create or replace temp table texts (sample_id varchar, text varchar)")
        self._inputs.discard("texts")

    # queries

    def _text(self, query: Query | str, values: Mapping[str, Value]) -> str:
        """Return the SQL of a query with its parameters filled in. Raises LookupError if an input
        is missing, and TypeError if `values` are not its parameters."""
        if isinstance(query, str):
            return fill(query, values) if values else query
        missing = sorted(name for name in query.reads if not self._is_available(name))
        if missing and self._is_lake:
            raise LookupError(
                f"the query {query.address} reads the relation {missing[0]}, which is not "
                "registered"
            )
        return query.with_values(dict(values))

    def _is_available(self, name: str) -> bool:
        if name in self._inputs:
            return True
        return name in BASE_VIEWS and all(
            self._is_available(read) for read in load_query(f"lake/{name}").reads
        )

    def one(self, query: Query, **values: Value) -> dict[str, Any]:
        """Run a query that returns exactly one row, and return that row. Raises ValueError for any
        other number of rows."""
        (row,) = self.all(query, **values)
        return row

    def all(self, query: Query | str, **values: Value) -> list[dict[str, Any]]:
        """Run a query, and return all its rows as a list. For queries with few rows."""
        with _enough_memory():
            relation = self.con.sql(self._text(query, values))
            rows: list[dict[str, Any]] = relation.to_arrow_table().to_pylist()
        return rows

    def stream(
        self, query: Query, schema: pa.Schema | None = None, **values: Value
    ) -> Iterator[pa.RecordBatch]:
        """Run a query and yield its rows in batches, cast to `schema` if it is given. The
        connection is busy until the last batch."""
        with _enough_memory():
            for batch in self.con.sql(self._text(query, values)).to_arrow_reader(BATCH):
                yield batch if schema is None else batch.select(schema.names).cast(schema)

    # a user's queries

    def read_only(self, query: str) -> duckdb.DuckDBPyRelation:
        """Return a user's query as a DuckDB relation. Raises QueryError unless the text is one
        query that only reads."""
        check_query(self.con, query)
        try:
            return self.con.sql(query)
        except duckdb.Error as error:
            raise query_error(error) from None

    def answer(self, query: str) -> pa.Table:
        """Run a user's query, and return its rows as an Arrow table. Ctrl-C interrupts the query.
        Raises QueryError if the query fails, would change anything, or has two columns of one name.
        """

        def run() -> pa.Table:
            relation = self.read_only(query)
            check_columns(relation.columns)
            return relation.to_arrow_table()

        # In a thread, since the thread that calls DuckDB receives no signals until the query ends.
        with ThreadPoolExecutor(1) as thread:
            rows = thread.submit(run)
            try:
                return rows.result()
            except duckdb.Error as error:
                raise query_error(error) from None
            except KeyboardInterrupt:
                while not rows.done():  # a query that has not started yet ignores it
                    self.con.interrupt()
                    wait([rows], timeout=0.1)
                raise


@cache
def _spill_folder() -> Path:
    """Return this process's folder for the rows that DuckDB moves out of memory. Nobody else can
    read it. It is removed when the process exits."""
    folder, process = new_temporary_folder(), os.getpid()

    def remove() -> None:
        if os.getpid() == process:  # a forked process does not own the folder
            remove_folder(folder)

    atexit.register(remove)
    return folder


@contextmanager
def _enough_memory() -> Iterator[None]:
    try:
        yield
    except (duckdb.OutOfMemoryException, pa.ArrowException) as error:
        if "Out of Memory" not in str(error):
            raise
        raise QueryError(
            "query_memory",
            f"the query ran out of memory ({one_line(str(error).splitlines()[0])})",
            "raise query_memory, or free some memory on this machine",
        ) from None
