"""Tables for people, JSON and data formats for programs: what all verbs print with.

Results go to standard output, progress and errors to standard error. Knows no verb.
"""

import json
import sys
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("table", "csv", "json", "parquet")

Rows = list[dict[str, Any]]


def print_table(rows: Rows, title: str | None = None) -> None:
    """Print rows as a plain table: as wide as the terminal, or as wide as needed elsewhere."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from factory.report import format_cell

    console = Console(width=None if sys.stdout.isatty() else 1000, highlight=False)
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, collapse_padding=True, pad_edge=False)
    columns = list(rows[0]) if rows else []
    for column in columns:
        numeric = all(isinstance(row[column], int | float | None) for row in rows)
        justify: Literal["left", "right"] = "right" if numeric else "left"
        # Text may wrap, numbers may not.
        drawn.add_column(
            column.replace("_", " "), justify=justify, overflow="fold", no_wrap=numeric
        )
    for row in rows:
        drawn.add_row(*(escape(format_cell(row[column])) for column in columns))
    if title:
        console.print(f"\n{title}", style="bold")
    console.print(drawn)


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def print_rows(rows: "pa.Table", output: str) -> None:
    """Print the rows of a query in one of FORMATS."""
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
            print_table(rows.to_pylist())
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


def drop_empty_columns(rows: Rows, *columns: str) -> Rows:
    """Leave out those of the named columns that are empty or zero in every row."""
    empty = {column for column in columns if not any(row[column] for row in rows)}
    return [{name: row[name] for name in row if name not in empty} for row in rows]


def round_rate(rate: float | None) -> int | None:
    return None if rate is None else round(rate)


def format_cost(cost: float | None) -> str:
    if cost is None:
        return ""
    return f"{cost:,.2f}" if cost >= 0.1 else f"{cost:.2g}"


def format_share(part: int, whole: int) -> str:
    """Format a part as a percentage, or as nothing where the part is unknown or zero."""
    return f"{part / whole:.0%}" if part and whole else ""


def format_splits(rows: dict[str, int]) -> str:
    """Format a dataset's row counts: 1,234 train, 30 test."""
    return ", ".join(f"{count:,} {split}" for split, count in rows.items()) or "no pairs"
