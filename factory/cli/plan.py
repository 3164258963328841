"""The `factory plan` and `factory status` commands."""

from factory.cli.options import LAKE, Json, LakePath, Overrides, RecipePath, open_recipe
from factory.cli.tables import print_result
from factory.texts import say_json


def plan(
    recipe: RecipePath,
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Show which steps will run and why.

    Lists every step with its numbers of stored and missing rows, and estimates tokens and time.
    Changes nothing.

    Example: factory plan recipes/quickstart/recipe.yaml --json
    """
    result = open_recipe(recipe, lake, overrides).plan()
    say_json(result.to_dict()) if as_json else print_result(result)


def status(
    recipe: RecipePath,
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Show what each step has produced so far.

    Lists every step with its rows, tokens, and time, followed by the pairs of each iteration.

    Example: factory status recipes/quickstart/recipe.yaml
    """
    result = open_recipe(recipe, lake, overrides).status()
    say_json(result.to_dict()) if as_json else print_result(result)
