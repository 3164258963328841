"""The example recipes that `factory init` copies."""

import json
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from factory.errors import Argument, UserError
from factory.files import copy_file, write_new
from factory.recipe.reference import recipe_schema

SCHEMA = "recipe.schema.json"

_FIRST_LINE = "# yaml-language-server: $schema="


def starters() -> dict[str, Traversable]:
    """Return a dict that maps the name of each example recipe to its folder."""
    package = resources.files("factory")
    installed = package / "recipes"
    # A checkout keeps them beside the package, and a wheel inside it.
    folder = installed if installed.is_dir() else Path(str(package)).parent / "recipes"
    folders = [path for path in folder.iterdir() if (path / "recipe.yaml").is_file()]
    return {path.name: path for path in sorted(folders, key=lambda path: path.name)}


def write_starter(name: str, folder: Path) -> Path:
    """Copy an example recipe and its JSON Schema to a folder, and return the recipe's path.

    Raises UserError if there is no such example, or if the folder has files.
    """
    examples = starters()
    if name not in examples:
        raise UserError(
            Argument("name", "--from"), f"got {name}", f"expected one of {', '.join(examples)}"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError("DIR", f"{folder} is not an empty folder", "choose a new folder")
    try:
        with resources.as_file(examples[name]) as source:
            _copy_example(source, folder)
        schema = json.dumps(recipe_schema(), indent=1, ensure_ascii=False)
        write_new(folder / SCHEMA, f"{schema}\n")
    except OSError as error:
        raise UserError(
            "DIR", f"cannot write to {folder} ({error.strerror})", "choose another folder"
        ) from error
    return folder / "recipe.yaml"


def _copy_example(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.is_dir() and path.name != "__pycache__":
            _copy_example(path, folder / path.name)
        elif path.name == "recipe.yaml":  # the schema will be beside it
            text = path.read_text(encoding="utf-8")
            write_new(folder / path.name, text.replace(f"{_FIRST_LINE}../", _FIRST_LINE))
        elif path.is_file():
            copy_file(path, folder / path.name)
