"""The `factory schema` command."""

from typing import Annotated

import typer

from factory.texts import say_code, say_json


def schema(
    as_markdown: Annotated[
        bool,
        typer.Option("--markdown", help="Print the reference of all recipe fields as Markdown"),
    ] = False,
) -> None:
    """Print the JSON Schema for recipe files.

    Editors use it to autocomplete and validate recipes. `factory init` writes it next to a new
    recipe.

    Example: factory schema > recipe.schema.json
    """
    from factory.recipe import recipe_reference, recipe_schema

    say_code(recipe_reference()) if as_markdown else say_json(recipe_schema())
