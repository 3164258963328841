"""SQL as text: strip comments, fill in parameters, quote values.

A small lexer tells comments and quoted text from the rest, so that nothing inside a string changes.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

PART = re.compile(
    r"""
    (?P<comment> --[^\n]* | /\*.*?\*/ )
    | (?P<quoted>
        (?<!\w)e'(?:\\.|''|[^'\\])*(?:'|\Z)
        | '[^']*(?:'|\Z)
        | "[^"]*(?:"|\Z)
        | \$(?P<tag>[A-Za-z_]\w*|)\$.*?(?:\$(?P=tag)\$|\Z)
        | /\*.*\Z
    )
    | (?P<parameter> \$[A-Za-z_]\w* )
    | (?P<end> ; )
    | (?P<space> \s+ )
    | (?P<other> . )
    """,
    re.DOTALL | re.IGNORECASE | re.VERBOSE,
)
"""One part of a SQL text, in this order of preference."""

Value = str | int | float | bool | None | Path
"""What a parameter may be."""


def statement_of(text: str) -> str:
    """A SQL text without comments, blank lines, and spaces at the ends of lines.

    This is what keys hash: a change of comments keeps every key.
    """
    bare = "".join(part[0] for part in PART.finditer(text) if part.lastgroup != "comment")
    parts = ((part.lastgroup, part[0]) for part in PART.finditer(bare))
    lines = (_one_break(part) if kind == "space" else part for kind, part in parts)
    return "".join(lines).strip()


def _one_break(space: str) -> str:
    """White space with at most one line break: that of the last line, and its indent."""
    return "\n" + space.rpartition("\n")[2] if "\n" in space else space


def parameters_of(text: str) -> frozenset[str]:
    """The names of the `$parameters` in a SQL text."""
    return frozenset(part[0][1:] for part in _parameters(text))


def fill(text: str, values: Mapping[str, Value]) -> str:
    """A SQL text with each `$parameter` replaced by its value, as a literal.

    DuckDB takes bound parameters neither in a view nor in a result that it streams.
    """
    filled, end = [], 0
    for part in _parameters(text):
        filled += [text[end : part.start()], literal(values[part[0][1:]])]
        end = part.end()
    return "".join([*filled, text[end:]])


def _parameters(text: str) -> Iterator[re.Match[str]]:
    return (part for part in PART.finditer(text) if part.lastgroup == "parameter")


def literal(value: Value) -> str:
    """A value as a SQL literal."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return f"'{value}'::double"
    if isinstance(value, int | float):
        return repr(value)
    return "'" + str(value).replace("'", "''") + "'"
