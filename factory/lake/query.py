"""Load the SQL files that ship with the factory.

The leading comment of a file declares the relations and parameters of the query. A test compares
the declarations with the SQL:

    -- Grain: one row per pair that a model learns from.
    -- Reads: pairs, prompts, texts
    -- Parameters: iteration, split
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from importlib.resources.abc import Traversable

from factory.fingerprint import short_hash
from factory.lake.sql_text import Value, fill, statement_of


@dataclass(frozen=True)
class Query:
    """A SQL file that ships with the factory."""

    address: str
    """Package and name of the file, such as `run/unparsed`."""
    text: str

    @property
    def name(self) -> str:
        """Name of the SQL file, without its folder and extension."""
        return self.address.rpartition("/")[2]

    @cached_property
    def reads(self) -> frozenset[str]:
        """Names of the relations that the caller or the lake's views must provide to the query."""
        return _declared(self.text, "Reads")

    @cached_property
    def parameters(self) -> frozenset[str]:
        """Names of the `$parameters` in the query, which the caller must fill in."""
        return _declared(self.text, "Parameters")

    @cached_property
    def statement(self) -> str:
        """The SQL statement in the file, without comments. Keys hash this text."""
        return statement_of(self.text)

    def with_values(self, values: dict[str, Value]) -> str:
        """Return the query's SQL with its parameters filled in.

        Raises TypeError if a parameter is missing or unknown.
        """
        if values.keys() != self.parameters:
            raise TypeError(
                f"the query {self.address} expects the parameters {sorted(self.parameters)}, got "
                f"{sorted(values)}"
            )
        return fill(self.statement, values) if values else self.statement


def _declared(text: str, what: str) -> frozenset[str]:
    lines = re.findall(rf"^-- {what}: (.*)$", text, re.MULTILINE)
    return frozenset(name for line in lines for name in re.findall(r"\w+", line))


@cache
def load_query(address: str) -> Query:
    """Load a SQL file by its address, such as `run/unparsed`. This address stands for
    `factory/run/sql/unparsed.sql`, and `export/shapes/margin` for
    `factory/export/shapes/margin.sql`."""
    package, _, path = address.partition("/")
    folder = "" if "/" in path else "sql/"
    file = resources.files(f"factory.{package}").joinpath(f"{folder}{path}.sql")
    return Query(address, file.read_text(encoding="utf-8"))


def all_queries(package: str) -> Iterator[Query]:
    """Yield every SQL file in a package, sorted by path."""
    yield from _queries_in(resources.files(f"factory.{package}"), package)


def _queries_in(folder: Traversable, address: str) -> Iterator[Query]:
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            yield from _queries_in(
                item, address if item.name == "sql" else f"{address}/{item.name}"
            )
        elif item.name.endswith(".sql"):
            name = item.name.removesuffix(".sql")
            yield Query(f"{address}/{name}", item.read_text(encoding="utf-8"))


@cache
def statements_digest(*packages: str) -> str:
    """Return a hash of all SQL statements in the given packages. A cached result is valid only for
    the statements that computed it."""
    queries = (query for package in packages for query in all_queries(package))
    return short_hash("\n".join(query.statement for query in queries))
