"""Functions that print results as tables, JSON, CSV, or Parquet.

Results go to standard output. Progress and errors go to standard error.
"""

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from factory.results import Table

FORMATS = ("table", "csv", "json", "parquet")

Rows = list[dict[str, Any]]

_GAP = 2
"""Number of spaces between two columns."""


def print_result(result: "Table") -> None:
    """Print the tables of a result, followed by its notes."""
    for title, rows in result.tables():
        print_table(rows, title)
    if notes := result.notes():
        print()
    for note in notes:
        print(note)


def print_table(rows: Rows, title: str | None = None, *, shorten: bool = False) -> None:
    """Print rows as a table.

    On a terminal, the table fits the width: long texts wrap or, with `shorten`, end with an
    ellipsis. In a pipe or a file, the table has one line per row.
    """
    if sys.stdout.isatty():
        _draw_table(rows, title, shorten=shorten)
        return
    from factory.report import text_table

    if title:
        print(f"\n{title}")
    print(text_table(rows))


def _draw_table(rows: Rows, title: str | None, *, shorten: bool) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from factory.report import escape_breaks, format_cell, is_numeric

    console = Console(highlight=False)
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, collapse_padding=True, pad_edge=False)
    columns = list(rows[0]) if rows else []
    cells = [[format_cell(row[column]) for column in columns] for row in rows]
    if shorten:
        cells = [[escape_breaks(cell) for cell in line] for line in cells]
    natural = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    numeric = [is_numeric(rows, column) for column in columns]
    widths = _fit(natural, numeric, console.width) if shorten else natural
    for column, is_number, width in zip(columns, numeric, widths, strict=True):
        drawn.add_column(
            column,
            justify="right" if is_number else "left",
            # Text may wrap, but numbers may not.
            no_wrap=is_number or shorten,
            overflow="ellipsis" if shorten else "fold",
            max_width=width,
        )
    for line in cells:
        drawn.add_row(*map(escape, line))
    if title:
        console.print(f"\n{title}", style="bold")
    console.print(drawn)


def _fit(widths: list[int], fixed: list[bool], room: int) -> list[int]:
    """Reduce the widths of columns so that a table has at most `room` cells per line.

    Fixed columns keep their width. Wide columns share the cells that narrow columns leave.
    """
    room -= _GAP * (len(widths) - 1)
    fitted = list(widths)
    order = sorted(range(len(widths)), key=lambda place: (not fixed[place], widths[place]))
    for rank, place in enumerate(order):
        if not fixed[place]:
            fitted[place] = min(widths[place], max(room // (len(order) - rank), 1))
        room -= fitted[place]
    return fitted


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def print_rows(rows: "pa.Table", output: str, *, shorten: bool = True) -> None:
    """Print the rows of a query as a table, CSV, JSON, or Parquet.

    With `shorten`, long texts in a table on a terminal end with an ellipsis.
    """
    match output:
        case "parquet":
            import pyarrow.parquet as pq

            pq.write_table(rows, sys.stdout.buffer)
        case "csv":
            import pyarrow.csv

            pyarrow.csv.write_csv(_encode_nested_columns(rows), sys.stdout.buffer)
        case "json":
            print_json(rows.to_pylist())
        case _ if rows.num_rows:
            print_table(rows.to_pylist(), shorten=shorten)
        case _:
            print("no rows: " + ", ".join(rows.schema.names))


def _encode_nested_columns(rows: "pa.Table") -> "pa.Table":
    """Write lists and structs as JSON, since CSV has no types for them."""
    import pyarrow as pa

    for place, column in enumerate(rows.schema):
        if pa.types.is_nested(column.type):
            values = rows[place].to_pylist()
            texts = pa.array([json.dumps(value, ensure_ascii=False) for value in values])
            rows = rows.set_column(place, column.name, texts)
    return rows
