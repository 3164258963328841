"""The example recipes that `factory init` copies."""

import json
import shutil
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from factory.errors import Argument, UserError
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
            shutil.copytree(
                source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        recipe = folder / "recipe.yaml"
        text = recipe.read_text(encoding="utf-8")
        recipe.write_text(text.replace(f"{_FIRST_LINE}../", _FIRST_LINE), encoding="utf-8")
        schema = json.dumps(recipe_schema(), indent=1, ensure_ascii=False)
        (folder / SCHEMA).write_text(f"{schema}\n", encoding="utf-8")
    except OSError as error:
        raise UserError(
            "DIR", f"cannot write to {folder} ({error.strerror})", "choose another folder"
        ) from error
    return recipe
