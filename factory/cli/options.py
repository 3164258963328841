"""Command-line options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from factory.api import Factory

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe file (YAML)")]
LakePath = Annotated[
    Path,
    typer.Option(
        "--lake", envvar="FACTORY_LAKE", show_envvar=True, help="Folder that stores all tables"
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Override a recipe field, such as sampling.draws=4 (repeatable)",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON")]

LAKE = Path("lake")


def open_recipe(path: Path, lake: Path, overrides: list[str] | None) -> "Factory":
    """Open a recipe and its lake for a command, with progress output enabled."""
    from factory import api

    return api.open(path, lake, overrides, progress=True)
