"""The `factory pairs` command."""

from typing import Annotated

import typer

from factory.cli.ending import write_rows_before_exit
from factory.cli.options import LAKE, Json, LakePath, Overrides, RecipePath, open_recipe
from factory.cli.tables import print_result
from factory.texts import say_json


def pairs(
    recipe: RecipePath,
    name: Annotated[str, typer.Option("--name", help="Name of the new set of pairs")],
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Build another set of pairs from stored scores.

    Calls no model, so it takes only seconds. Writes a new dataset, and does not change the pairs
    that the loop trained on. `--set` overrides loop.policy, query_memory, and the fields of
    `pairs`.

    Example: factory pairs recipes/quickstart/recipe.yaml --name wide --set pairs.min_margin=2
    """
    how_to_run = [line for line in overrides or [] if line.startswith("query_memory=")]
    changes = [line for line in overrides or [] if line not in how_to_run]
    opened = open_recipe(recipe, lake, how_to_run)
    write_rows_before_exit()
    result = opened.pairs(name, changes)
    say_json(result.to_dict()) if as_json else print_result(result)
