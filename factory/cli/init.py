"""The `factory init` command."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from factory.texts import say


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="New or empty folder for the recipe")
    ],
    name: Annotated[
        str, typer.Option("--from", metavar="NAME", help="Example to copy: starter or quickstart")
    ] = "starter",
) -> None:
    """Create a folder with an example recipe.

    starter: a commented recipe for your own model and prompts, with example prompts.
    quickstart: a complete example with a small real model, which needs no GPU or network.

    Also writes recipe.schema.json, so that editors can autocomplete and validate the fields.

    Example: factory init my-recipe

    Example: factory init demo --from quickstart
    """
    from factory import api

    recipe = api.init(folder, name)
    say(f"Recipe: {recipe}")
    path = shlex.quote(str(recipe))
    first = "" if name == "quickstart" else f"  edit {path}\n"
    say(f"\nNext:\n{first}  factory doctor {path}\n  factory plan {path}\n  factory run {path}")
