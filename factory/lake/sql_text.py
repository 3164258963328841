"""Remove comments from SQL text, fill in parameters, and quote values.

A small lexer separates comments and quoted text from the rest, so that strings stay unchanged.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
"""Regular expression for one part of a SQL text: a comment, quoted text, a parameter, a semicolon,
white space, or any other character."""

Value = str | int | float | bool | None | Path
"""Types of the values that can fill in a `$parameter`."""


def statement_of(text: str) -> str:
    """Remove the comments, blank lines, and trailing spaces from SQL text.

    Keys hash this text, so a change of comments leaves every key as it is.
    """
    bare = "".join(part[0] for part in PART.finditer(text) if part.lastgroup != "comment")
    parts = ((part.lastgroup, part[0]) for part in PART.finditer(bare))
    lines = (_one_break(part) if kind == "space" else part for kind, part in parts)
    return "".join(lines).strip()


def _one_break(space: str) -> str:
    """Return white space with at most one line break, followed by the indent of the last line."""
    return "\n" + space.rpartition("\n")[2] if "\n" in space else space


def parameters_of(text: str) -> frozenset[str]:
    """Return the names of all `$parameters` in SQL text."""
    return frozenset(part[0][1:] for part in _parameters(text))


def fill(text: str, values: Mapping[str, Value]) -> str:
    """Replace each `$parameter` in SQL text with its value, written as a SQL literal.

    DuckDB accepts bound parameters neither in views nor in streamed results.
    """
    filled, end = [], 0
    for part in _parameters(text):
        filled += [text[end : part.start()], literal(values[part[0][1:]])]
        end = part.end()
    return "".join([*filled, text[end:]])


def _parameters(text: str) -> Iterator[re.Match[str]]:
    return (part for part in PART.finditer(text) if part.lastgroup == "parameter")


def read_parquet(files: Iterable[Path], *options: str) -> str:
    """Return a SQL table function that reads the given Parquet files, and no others.

    The columns are those of the files. DuckDB's read_parquet alone would also read columns from
    folder names such as `lr=1e-6`, and other files for names with wildcards such as `run[1]`.
    `options` has further arguments, such as `filename = true`.
    """
    return _read_parquet([escape_wildcards(file) for file in files], options)


def read_parquet_folder(folder: str | Path, pattern: str, *options: str) -> str:
    """Return a SQL table function that reads the Parquet files in a folder that match a pattern.

    `folder` is read literally, and only `pattern` can have wildcards. `options` has further
    arguments, such as `filename = true`.
    """
    return _read_parquet([str(Path(escape_wildcards(folder), pattern))], options)


def _read_parquet(patterns: Sequence[str], options: Sequence[str]) -> str:
    listed = ",\n    ".join(literal(pattern) for pattern in patterns)
    files = listed if len(patterns) == 1 else f"[\n    {listed}\n]"
    return f"read_parquet({', '.join([files, 'hive_partitioning = false', *options])})"


def escape_wildcards(path: str | Path) -> str:
    """Return a path in which DuckDB takes wildcards literally."""
    return re.sub(r"[*?\[]", r"[\g<0>]", str(path))


def literal(value: Value) -> str:
    """Return a value as a SQL literal."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return f"'{value}'::double"
    if isinstance(value, int | float):
        return repr(value)
    return "'" + str(value).replace("'", "''") + "'"
