"""Render tables as plain text or HTML, and format their numbers.

Text tables are for pipes, files, and the `repr` of a result. The command line draws the tables of a
terminal itself.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from factory.progress import format_rate
from factory.report.cells import format_cell
from factory.texts import display_html, display_line

Rows = list[dict[str, Any]]

_LONGEST_RULE = 60
"""The longest line below a column's name; the text of a cell may be longer."""

_PERCENT = re.compile(r"\d+%")

_STYLE = "text-align: {align}; vertical-align: top; white-space: pre-wrap; max-width: 50em"


def is_numeric(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    """Return whether a table column has only numbers or percentages.

    Such a column is aligned to the right.
    """
    return all(_is_number(row[column]) for row in rows)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | None) or bool(_PERCENT.fullmatch(str(value)))


def text_table(rows: Rows) -> str:
    """Render rows as a plain-text table, with one line per row."""
    columns = list(rows[0]) if rows else []
    heads = [display_line(column) for column in columns]
    cells = [[display_line(format_cell(row[column])) for column in columns] for row in rows]
    widths = [max(map(_width, column)) for column in zip(heads, *cells, strict=True)]
    right = [is_numeric(rows, column) for column in columns]
    lines = [heads, ["─" * min(width, _LONGEST_RULE) for width in widths], *cells]
    return "\n".join(_text_line(line, widths, right) for line in lines)


def _text_line(cells: list[str], widths: list[int], right: list[bool]) -> str:
    padded = (
        " " * (width - _width(cell)) + cell if is_right else cell + " " * (width - _width(cell))
        for cell, width, is_right in zip(cells, widths, right, strict=True)
    )
    return "  ".join(padded).rstrip()


def _width(text: str) -> int:
    """Return the width of a text on a terminal, where some Asian characters take two cells."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def html_table(rows: Rows) -> str:
    """Render rows as an HTML table, with all text escaped."""
    columns = list(rows[0]) if rows else []
    align = {name: "right" if is_numeric(rows, name) else "left" for name in columns}
    head = "".join(_html_cell("th", name, align[name]) for name in columns)
    body = "".join(
        "<tr>"
        + "".join(_html_cell("td", format_cell(row[name]), align[name]) for name in columns)
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _html_cell(tag: str, text: str, align: str) -> str:
    return f'<{tag} style="{_STYLE.format(align=align)}">{display_html(text)}</{tag}>'


def drop_empty_columns(rows: Rows, *columns: str) -> Rows:
    """Drop each of the named columns if it is empty or zero in every row."""
    empty = {column for column in columns if not any(row[column] for row in rows)}
    return [{name: row[name] for name in row if name not in empty} for row in rows]


def round_rate(rate: float | None) -> float | None:
    """Round a rate for display in a table.

    Rates from 10 on become whole numbers. Smaller rates keep one or two digits.
    """
    if rate is None:
        return None
    return round(rate) if rate >= 9.95 else float(format_rate(rate))


def format_cost(cost: float | None) -> str:
    """Format a cost with two decimals, or with two significant digits if it is below 0.1."""
    if cost is None:
        return ""
    return f"{cost:,.2f}" if cost >= 0.1 else f"{cost:.2g}"


def format_share(part: int, whole: int) -> str:
    """Format `part` as a percentage of `whole`, or as an empty string if `part` is zero."""
    return f"{part / whole:.0%}" if part and whole else ""


def format_percent(share: float | None) -> str | None:
    """Format a share as a percentage, or return None if the share is unknown."""
    return None if share is None else f"{share:.0%}"


def format_splits(rows: dict[str, int]) -> str:
    """Format the row counts of a dataset's splits, as in "1,234 train, 30 test"."""
    splits = sorted(rows, key=lambda split: split != "train")
    return ", ".join(f"{rows[split]:,} {split}" for split in splits) or "no pairs"
