"""The `factory diff` command."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.cli.options import LAKE, Json, LakePath, open_recipe
from factory.cli.tables import print_table
from factory.errors import QueryError
from factory.texts import display_line, say, say_code, say_json

if TYPE_CHECKING:
    from factory.api import Dataset, Factory
    from factory.results import Diff


def diff(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="First recipe or dataset folder to compare")
    ],
    second: Annotated[
        Path, typer.Argument(metavar="B", help="Second recipe or dataset folder to compare")
    ],
    lake: LakePath = LAKE,
    lake_b: Annotated[
        Path | None,
        typer.Option(
            "--lake-b", help="Lake of the second recipe, B (default: the lake of recipe A)"
        ),
    ] = None,
    set_a: Annotated[
        list[str] | None,
        typer.Option(
            "--set-a",
            metavar="FIELD=VALUE",
            help="Override a field of the first recipe, A (repeatable)",
        ),
    ] = None,
    set_b: Annotated[
        list[str] | None,
        typer.Option(
            "--set-b",
            metavar="FIELD=VALUE",
            help="Override a field of the second recipe, B (repeatable)",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=0, help="Maximum number of example pairs to print")
    ] = 10,
    as_sql: Annotated[
        bool,
        typer.Option("--sql", help="Print a SQL script for DuckDB that compares all pairs"),
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare the pairs of two recipes or datasets.

    Shows which final pairs were gained, lost, flipped, or changed, and why. To compare a set that
    `factory pairs` wrote, give its dataset folder. The reasons are derived from the
    candidates and outcomes that are stored in the lake.

    Example: factory diff recipes/quickstart/recipe.yaml lake/datasets/quickstart-wide-5ac81f0e
    """
    a, b = _open(first, lake, set_a), _open(second, lake_b or lake, set_b)
    if as_sql:
        text = a.diff_sql(b)
        say_json({"sql": text}) if as_json else say_code(text)
        return
    result = a.diff(b, limit)
    say_json(result.to_dict()) if as_json else print_diff(result)


def _open(path: Path, lake: Path, overrides: list[str] | None) -> "Factory | Dataset":
    from factory.api import open_dataset

    if not path.is_dir():
        return open_recipe(path, lake, overrides)
    if overrides:
        raise QueryError(
            str(path),
            f"cannot apply the override {overrides[0]} to a dataset folder",
            "give a recipe, or remove the override",
        )
    return open_dataset(path)


def print_diff(result: "Diff") -> None:
    """Print how two sets of pairs differ, followed by examples."""
    for name, pair_set in zip("AB", result.sets, strict=True):
        say(f"{name}  {_describe_set(pair_set)}")
    say()
    print_table(result.rows)
    for row in result.examples:
        say(f"\n{row['status']}: {display_line(row['reason'])}")
        say(f"  prompt {row['prompt_id']}, iteration {row['iteration']}")
        for name in "ab":
            if pair := row[f"{name}_pair_id"]:
                say(f"  pair {pair} in {name.upper()}")
        if row["detail"]:
            say(f"  {display_line(row['detail'])}")


def _describe_set(pair_set: Mapping[str, Any]) -> str:
    considered = pair_set["considered"]
    of = "" if considered is None else f" of {considered:,} considered"
    facts = {"outcomes": considered is not None, "candidates": pair_set["has_candidates"]}
    unknown = " and ".join(fact for fact, is_known in facts.items() if not is_known)
    return f"{pair_set['pairs']}: {pair_set['kept']:,} kept{of}" + (
        f"; {unknown} unknown" if unknown else ""
    )
