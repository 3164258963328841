"""`factory pairs`."""

from typing import Annotated, Any

import typer

from factory.cli.ending import write_rows_before_exit
from factory.cli.loop_tables import print_gaps
from factory.cli.options import (
    LAKE,
    Json,
    LakePath,
    Overrides,
    RecipePath,
    open_progress,
    open_recipe,
)
from factory.cli.plan import describe_totals
from factory.cli.tables import format_splits, print_json, print_table


def pairs(
    recipe: RecipePath,
    name: Annotated[str, typer.Option("--name", help="Name of the set")],
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Build another set of pairs, without a model

    Chooses from the samples and scores in the lake, in seconds, and writes a dataset next to the
    one that the loop trained on. `--set` takes fields of `pairs`, loop.policy, and query_memory.

    Example: factory pairs recipes/quickstart/recipe.yaml --name wide --set pairs.min_margin=2
    """
    from factory.export import dataset_rows
    from factory.pairs import SECOND
    from factory.plan import read_state
    from factory.report import gaps, outcomes, plan_rows, plan_totals
    from factory.run import build_pairs, check_changes, write_build

    opened, opened_lake = open_recipe(recipe, lake, check_changes(overrides or []))
    changed, _ = open_recipe(recipe, lake, overrides)
    write_rows_before_exit()
    state = build_pairs(opened, changed, opened_lake, name, open_progress())
    dataset = write_build(state, name)
    rows = dataset_rows(dataset)
    final_gaps = [row for row in gaps(state) if row["phase"] == SECOND]
    inside = read_state(changed, opened_lake)
    totals = plan_totals(inside, plan_rows(inside))
    if as_json:
        result = {"gaps": final_gaps, "dataset": str(dataset), "rows": rows}
        print_json({**result, "inside_the_loop": totals})
        return
    print_gaps(final_gaps)
    print_table(outcomes(state), "Outcomes of the pairs that were considered")
    print(f"\nDataset with {format_splits(rows)}: {dataset}")
    print_cost_inside_loop(totals)


def print_cost_inside_loop(totals: dict[str, Any]) -> None:
    """Print what the loop would have to do again to train on these pairs."""
    if totals["steps"]:
        print(f"Inside the loop the same change would train again: {describe_totals(totals)}")
    else:
        print("The loop was trained on these pairs.")
