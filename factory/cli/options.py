"""Options that several verbs share, and how a verb opens its recipe and its lake."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.errors import UserError

if TYPE_CHECKING:
    from factory.lake import Lake
    from factory.progress import Progress
    from factory.recipe import Recipe

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe, a YAML file")]
LakePath = Annotated[Path, typer.Option("--lake", help="Folder that holds all tables")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Override a field, such as sampling.draws=4 (repeatable)",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON")]

LAKE = Path("lake")


def open_recipe(path: Path, lake: Path, overrides: list[str] | None) -> "tuple[Recipe, Lake]":
    """Read a recipe, and open the lake that its rows are in or will be in."""
    from factory.lake import Lake
    from factory.recipe import load_recipe

    return load_recipe(path, overrides), Lake(lake)


def open_lake(path: Path) -> "Lake":
    """Open a lake that exists. Raises UserError where there is none."""
    from factory.lake import Lake

    if not path.is_dir():
        raise UserError("--lake", f"no such lake: {path}", "name a folder that `factory run` wrote")
    return Lake(path)


def open_progress() -> "Progress":
    """Show progress as bars on a terminal, and as lines elsewhere."""
    from factory.progress import Bars, Lines

    return Bars() if sys.stderr.isatty() else Lines()
