"""Load and check a recipe from a YAML file and `--set` overrides."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from factory.errors import Argument, RecipeError, one_line
from factory.input_files import StrictLoader, parse_yaml, read_text, reason_of
from factory.recipe.problems import invalid_recipe, show_value
from factory.recipe.recipe import Recipe, Training


def load_recipe(path: Path, overrides: Sequence[str] | None = None) -> Recipe:
    """Load a recipe from a YAML file, apply overrides, and check all fields.

    An override is a text `section.field=value`, with the value in YAML. Raises RecipeError if the
    file or an override cannot be read. Raises InvalidRecipe, which lists all problems, if fields
    are missing or invalid.
    """
    data = _read_yaml(path)
    for override in overrides or []:
        apply_override(data, override)
    if "folder" in data:
        raise RecipeError("folder", "unknown field", "remove it", str(path))
    try:
        return Recipe.model_validate({**data, "folder": path.resolve().parent})
    except ValidationError as error:
        raise invalid_recipe(error, Recipe, str(path)) from None


def load_training(model: str, overrides: Sequence[str] | None = None) -> Training:
    """Return the settings for training a single model outside the loop.

    `model` is a Hub repository or a path relative to the current folder. The overrides may set
    `seed` and the fields of `model` and `train`. Raises the same errors as `load_recipe`.
    """
    data: dict[str, Any] = {"model": model}
    for override in overrides or []:
        if override.partition("=")[0].partition(".")[0] not in ("model", "seed", "train"):
            raise RecipeError(
                Argument(f"set {override}"),
                "the override does not apply to training",
                "set `seed` or a field under `model` or `train`, such as train.dpo.beta=0.05",
            )
        apply_override(data, override)
    try:
        return Training.model_validate({**data, "folder": Path.cwd()})
    except ValidationError as error:
        raise invalid_recipe(error, Training, Argument("set")) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    file = str(path)
    try:
        data = parse_yaml(read_text(path), _Loader)
    except FileNotFoundError:
        raise RecipeError(file, "no such file", "give the path to a recipe in YAML") from None
    except OSError as error:
        fault = f"the recipe cannot be read: {reason_of(error)}"
        raise RecipeError(file, fault, "expected a UTF-8 YAML file") from None
    except yaml.YAMLError as error:
        fault = f"not valid YAML: {one_line(error)}"
        raise RecipeError(file, fault, "correct this line of the recipe") from None
    if not isinstance(data, dict):
        raise RecipeError(file, f"got {show_value(data)}", "expected a mapping of fields")
    return data


class _Loader(StrictLoader):
    """YAML loader that also reads 1e-6 as a number."""


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    number = loader.construct_yaml_int(node)
    if not -(2**63) <= number < 2**64:
        line = node.start_mark.line + 1
        raise yaml.YAMLError(f"line {line}: {node.value[:30]} does not fit into 64 bits")
    return number


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def apply_override(data: dict[str, Any], override: str) -> None:
    """Apply one override to the data of a recipe.

    A missing section is created. Raises RecipeError if the override is not of the form
    `section.field=value`.
    """
    field, equals, text = override.partition("=")
    option = Argument(f"set {override}")
    if not equals or not field:
        fault = "the override does not have the form section.field=value"
        raise RecipeError(option, fault, "write the override in a form such as sampling.draws=5")
    try:
        value = parse_yaml(text, _Loader)
    except yaml.YAMLError as error:
        fault = f"not valid YAML: {one_line(error)}"
        raise RecipeError(option, fault, "expected a value in YAML") from None
    *sections, last = field.split(".")
    for section in sections:
        inner = data.get(section)
        if section == "model" and isinstance(inner, str):
            inner = {"path": inner}
        if inner is not None and not isinstance(inner, dict):
            fault = f"{section} is {show_value(inner)}, not a section"
            raise RecipeError(
                option, fault, "set a field within a section, such as sampling.draws=5"
            )
        data[section] = dict(inner or {})
        data = data[section]
    data[last] = value
