"""The queries that ship for people, one file each in `queries/`: `factory sql RECIPE NAME`.

A file's leading comment is its explanation: what it shows, where each number comes from, and its
grain. Knows names and texts; runs nothing.
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
    name: str
    explanation: str
    sql: str


@cache
def shipped_queries() -> dict[str, NamedQuery]:
    """All that ship, by name."""
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
    """The text to run: a named query's where its name was given, else the query as it came.

    Raises QueryError for a single word that names none; `views` are what it may have meant.
    """
    word = query.strip().rstrip(";").strip()
    if not re.fullmatch(r"[\w-]+", word):
        return query
    queries = shipped_queries()
    if word in queries:
        return queries[word].sql
    if word in views:
        raise QueryError(word, "is a view, not a named query", f'run "from {word}"')
    close = get_close_matches(word.lower().replace("-", "_"), [*queries, *views], cutoff=0.5)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    raise QueryError(
        word,
        "no query of this name",
        f"{meant}--list names those that ship, and any other query is SQL that reads",
    )
