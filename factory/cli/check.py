"""The `factory verify` and `factory doctor` commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.cli.options import LAKE, Json, LakePath, Overrides, RecipePath, open_recipe
from factory.texts import display_line, say, say_json

if TYPE_CHECKING:
    from factory.results import Diagnosis, Verification


def verify(
    recipe: Annotated[
        Path | None, typer.Argument(metavar="RECIPE", help="Check only the files of this recipe")
    ] = None,
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Check that shards and models are unchanged.

    Checks every shard (hash, schema, and row IDs) and every trained model. Prints the names of the
    files that have changed, and exits with code 1 if there are any. Without a recipe, it checks
    the entire lake.

    Example: factory verify recipes/quickstart/recipe.yaml
    """
    if recipe is None:
        from factory.api import verify as verify_lake

        result = verify_lake(lake)
    else:
        result = open_recipe(recipe, lake, overrides).verify()
    say_json(result.to_dict()) if as_json else print_verify(result)
    if not result.ok:
        raise typer.Exit(1)


def doctor(
    recipe: RecipePath,
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Check that this machine can run a recipe.

    Checks packages, GPUs, memory, disk, and keys, and prints what to do about each problem. Loads
    no model and changes nothing. Exits with code 1 if a problem would stop a run.

    Example: factory doctor recipes/quickstart/recipe.yaml
    """
    result = open_recipe(recipe, lake, overrides).doctor()
    say_json(result.to_dict()) if as_json else print_doctor(result)
    if not result.ok:
        raise typer.Exit(1)


def print_verify(result: "Verification") -> None:
    """Print the changed files and the number of files that were checked."""
    for row in result:
        say(f"{display_line(row['file'])}: {display_line(row['why'])}")
    for note in result.notes():
        say(note)


def print_doctor(result: "Diagnosis") -> None:
    """Print one line per check, then whether this machine can run the recipe."""
    width = max(len(row["name"]) for row in result)
    for row in result:
        say(f"{row['mark']:<4}  {row['name']:<{width}}  {display_line(row['message'])}")
    for note in result.notes():
        say(note)
