"""Functions that print results as tables, JSON, CSV, or Parquet.

Results go to standard output. Progress and errors go to standard error.
"""

import json
import sys
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pyarrow as pa

    from factory.results import Table

FORMATS = ("table", "csv", "json", "parquet")

Rows = list[dict[str, Any]]


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
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from factory.report import escape_breaks, format_cell, is_numeric

    console = Console(highlight=False)
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, collapse_padding=True, pad_edge=False)
    columns = list(rows[0]) if rows else []
    for column in columns:
        numeric = is_numeric(rows, column)
        justify: Literal["left", "right"] = "right" if numeric else "left"
        overflow: Literal["ellipsis", "fold"] = "ellipsis" if shorten else "fold"
        # Text may wrap, but numbers may not.
        drawn.add_column(column, justify=justify, overflow=overflow, no_wrap=numeric or shorten)
    for row in rows:
        cells = (format_cell(row[column]) for column in columns)
        drawn.add_row(*(escape(escape_breaks(cell) if shorten else cell) for cell in cells))
    if title:
        console.print(f"\n{title}", style="bold")
    console.print(drawn)


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
