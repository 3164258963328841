"""Functions that print results as tables, JSON, CSV, or Parquet.

Results go to standard output. Progress and errors go to standard error.
"""

import io
from typing import TYPE_CHECKING, Any

from factory.texts import (
    binary_output,
    display_line,
    display_text,
    is_terminal,
    json_text,
    say,
    say_code,
    say_json,
)

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
        say()
    for note in notes:
        say(note)


def print_table(rows: Rows, title: str | None = None, *, shorten: bool = False) -> None:
    """Print rows as a table.

    On a terminal, the table fits the width: long texts wrap or, with `shorten`, end with an
    ellipsis. In a pipe or a file, the table has one line per row.
    """
    if is_terminal():
        _draw_table(rows, title, shorten=shorten)
        return
    from factory.report import text_table

    if title:
        say(f"\n{title}")
    say(text_table(rows))


def _draw_table(rows: Rows, title: str | None, *, shorten: bool) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from factory.report import format_cell, is_numeric

    console = Console(highlight=False)
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, collapse_padding=True, pad_edge=False)
    columns = list(rows[0]) if rows else []
    heads = [display_line(column) for column in columns]
    display = display_line if shorten else display_text
    cells = [[display(format_cell(row[column])) for column in columns] for row in rows]
    natural = [max(map(cell_len, column)) for column in zip(heads, *cells, strict=True)]
    numeric = [is_numeric(rows, column) for column in columns]
    widths = _fit(natural, numeric, console.width) if shorten else natural
    for head, is_number, width in zip(heads, numeric, widths, strict=True):
        drawn.add_column(
            Text(head),
            justify="right" if is_number else "left",
            # Text may wrap, but numbers may not.
            no_wrap=is_number or shorten,
            overflow="ellipsis" if shorten else "fold",
            max_width=width,
        )
    for line in cells:
        drawn.add_row(*map(Text, line))  # unlike a str, a Text has no markup
    if title:
        console.print(Text(f"\n{display_text(title)}", style="bold"))
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


def print_rows(rows: "pa.Table", output: str, *, shorten: bool = True) -> None:
    """Print the rows of a query as a table, CSV, JSON, or Parquet.

    With `shorten`, long texts in a table on a terminal end with an ellipsis.
    """
    match output:
        case "parquet":
            import pyarrow.parquet as pq

            pq.write_table(rows, binary_output())
        case "csv":
            import pyarrow.csv

            rows = _encode_nested_columns(rows)
            if is_terminal():
                file = io.BytesIO()
                pyarrow.csv.write_csv(rows, file)
                say_code(file.getvalue().decode())
            else:
                pyarrow.csv.write_csv(rows, binary_output())
        case "json":
            say_json(rows.to_pylist())
        case _ if rows.num_rows:
            print_table(rows.to_pylist(), shorten=shorten)
        case _:
            say("no rows: " + ", ".join(map(display_line, rows.schema.names)))


def _encode_nested_columns(rows: "pa.Table") -> "pa.Table":
    """Write lists and structs as JSON, since CSV has no types for them."""
    import pyarrow as pa

    for place, column in enumerate(rows.schema):
        if pa.types.is_nested(column.type):
            values = rows[place].to_pylist()
            texts = pa.array([json_text(value) for value in values])
            rows = rows.set_column(place, column.name, texts)
    return rows
