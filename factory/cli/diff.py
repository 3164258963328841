"""`factory diff`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.cli.options import LAKE, Json, LakePath
from factory.cli.tables import print_json, print_table

if TYPE_CHECKING:
    from factory.report import Diff


def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="Recipe, or folder of a dataset")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Recipe or dataset to compare with")],
    lake: LakePath = LAKE,
    lake_b: Annotated[
        Path | None, typer.Option("--lake-b", help="Lake of B, if it is another")
    ] = None,
    set_a: Annotated[
        list[str] | None,
        typer.Option("--set-a", metavar="FIELD=VALUE", help="Override a field of A (repeatable)"),
    ] = None,
    set_b: Annotated[
        list[str] | None,
        typer.Option("--set-b", metavar="FIELD=VALUE", help="Override a field of B (repeatable)"),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Number of examples")] = 10,
    as_sql: Annotated[
        bool, typer.Option("--sql", help="Print SQL that gives all rows in plain DuckDB")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare the pairs of two recipes or datasets

    Shows which final pairs were gained, lost, flipped, or changed, and why. To compare a set that
    `factory pairs` wrote, name the folder of its dataset. Reasons need the lake: it has the
    candidates of a recipe, and the outcomes of a dataset in it.

    Example: factory diff recipes/quickstart/recipe.yaml lake/datasets/quickstart-wide-5ac81f0e
    """
    from factory.report import compare_pairs, pair_set, script

    a = pair_set(first, lake, set_a or [])
    b = pair_set(second, lake_b or lake, set_b or [])
    if as_sql:
        text = script(a, b)
        print_json({"sql": text}) if as_json else print(text, end="")
        return
    compared = compare_pairs(a, b, limit)
    if as_json:
        sets = dict(zip("ab", compared.sets, strict=True))
        print_json({**sets, "counts": compared.counts, "examples": compared.examples})
    else:
        print_diff(compared)


def print_diff(compared: "Diff") -> None:
    """Print both sets, the counts by status and reason, and the examples."""
    for name, pair_set in zip("AB", compared.sets, strict=True):
        print(f"{name}  {_describe_set(pair_set)}")
    print()
    print_table(compared.counts)
    for row in compared.examples:
        print(f"\n{row['status']}: {row['reason']}")
        print(f"  prompt {row['prompt_id']}, iteration {row['iteration']}")
        for name in "ab":
            if pair := row[f"{name}_pair_id"]:
                print(f"  pair {pair} in {name.upper()}")
        if row["detail"]:
            print(f"  {row['detail']}")


def _describe_set(pair_set: dict[str, Any]) -> str:
    considered = pair_set["considered"]
    of = "" if considered is None else f" of {considered:,} considered"
    facts = {"outcomes": considered is not None, "candidates": pair_set["has_candidates"]}
    unknown = " and ".join(fact for fact, is_known in facts.items() if not is_known)
    return f"{pair_set['pairs']}: {pair_set['kept']:,} kept{of}" + (
        f"; {unknown} unknown" if unknown else ""
    )
