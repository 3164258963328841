"""Load the named queries that `factory sql` can run.

Each query is a file in `queries/`. The leading comment of a file explains the query: the question
that it answers, the source of each number, and what a row stands for. This module loads names and
texts and runs no query.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources

from factory.errors import QueryError


@dataclass(frozen=True)
class NamedQuery:
    """A SQL query that ships with the factory, together with its name and explanation."""

    name: str
    explanation: str
    sql: str


@cache
def shipped_queries() -> dict[str, NamedQuery]:
    """Return a dict of all named queries that ship with the factory, keyed by name."""
    folder = resources.files("factory.lake") / "queries"
    files = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    texts = {
        file.removesuffix(".sql"): (folder / file).read_text(encoding="utf-8") for file in files
    }
    return {name: NamedQuery(name, _explanation(text), text) for name, text in texts.items()}


def _explanation(text: str) -> str:
    comment = re.match(r"(?:--.*\n)*", text)
    lines = comment[0].splitlines() if comment else []
    lines = [line for line in lines if not line.startswith("-- Reads:")]
    return " ".join(line.removeprefix("--").strip() for line in lines)


def query_text(query: str, views: Sequence[str]) -> str:
    """Return the SQL of a named query, or return `query` unchanged if it is already SQL.

    `views` has the names of views, for a hint in the error message. Raises QueryError for a single
    word that is not the name of a query.
    """
    word = query.strip().rstrip(";").strip()
    if not re.fullmatch(r"[\w-]+", word):
        return query
    queries = shipped_queries()
    if word in queries:
        return queries[word].sql
    if word in views:
        raise QueryError(
            word, "this is the name of a view, not of a named query", f'run "from {word}"'
        )
    close = get_close_matches(word.lower().replace("-", "_"), [*queries, *views], cutoff=0.5)
    remedy = (
        "list the named queries with `factory sql RECIPE --list`, or in Python with "
        "`factory.named_queries()`"
    )
    if close:
        remedy = f"did you mean {' or '.join(close)}? {remedy}"
    raise QueryError(word, "no named query has this name", remedy)
