"""YAML and `--set` overrides → a checked `Recipe`; mistakes → sentences."""

import difflib
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from factory.errors import RecipeError
from factory.recipe.identity import DECIDES
from factory.recipe.recipe import Recipe


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Reads and checks a recipe; `overrides` are `field.of.section=value`, the value in YAML.

    Raises RecipeError with the file, the field, what came and what was expected.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file; expected a recipe (YAML)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as a recipe: {error}") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not valid YAML: {_one_line(error)}") from None
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: got {_show(data)}, expected a mapping of fields")
    for override in overrides or []:
        apply_override(data, override)
    if "folder" in data:
        raise RecipeError(f"{path}: folder: unknown field")
    try:
        return Recipe.model_validate({**data, "folder": path.resolve().parent})
    except ValidationError as error:
        raise RecipeError("\n".join(_sentences(path, error))) from None


def recipe_of_training(model: str, overrides: list[str] | None = None) -> Recipe:
    """A recipe for a training alone, of a model named as from the current folder; nothing but
    `model`, `seed` and `train` of it means anything. Raises RecipeError as `load_recipe`."""
    data: dict[str, Any] = {"model": model}
    for override in overrides or []:
        if override.partition("=")[0].partition(".")[0] not in ("model", "seed", "train"):
            raise RecipeError(
                f"--set {override}: expected a field of a recipe's train or model, or seed: "
                "train.dpo.beta=0.05"
            )
        apply_override(data, override)
    unused = {"name": "training", "prompts": {"files": ["none"]}, "folder": Path.cwd()}
    try:
        return Recipe.model_validate({**unused, **data})
    except ValidationError as error:
        raise RecipeError("\n".join(_sentences(Path("--set"), error))) from None


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice and reads 1e-6 as the number it is."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith(":merge"):
                raise yaml.YAMLError(f"line {line}: expected the name of a field before the colon")
            if key_node.value in seen:
                raise yaml.YAMLError(f"line {line}: the field {key_node.value} is given twice")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def apply_override(data: dict[str, Any], override: str) -> None:
    field, equals, text = override.partition("=")
    if not equals or not field:
        raise RecipeError(f"--set {override}: expected field.of.section=value")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {override}: not valid YAML: {_one_line(error)}") from None
    *sections, last = field.split(".")
    for section in sections:
        inner = data.get(section)
        if section == "model" and isinstance(inner, str):
            inner = {"path": inner}
        if inner is not None and not isinstance(inner, dict):
            raise RecipeError(f"--set {override}: {section} is {_show(inner)}, not a section")
        data[section] = dict(inner or {})
        data = data[section]
    data[last] = value


def _sentences(path: Path, error: ValidationError) -> list[str]:
    sentences = []
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"])
        for variant in ("transformers", "scripted", "vllm", "openai"):
            field = field.replace(f"engine.{variant}", "engine")
        got = _show(problem["input"])
        match problem["type"]:
            case "extra_forbidden":
                alike = re.sub(r"^judges\.[^.]+\.", "judge.", field)
                section, known = alike.rpartition(".")[0], _siblings(alike)
                near = difflib.get_close_matches(alike.rpartition(".")[2], known, n=1, cutoff=0.7)
                hint = f"; expected one of {', '.join(known)}"
                if near:
                    hint = f"; did you mean {f'{section}.' if section else ''}{near[0]}?"
                sentences.append(f"{path}: {field}: unknown field{hint}")
            case "missing":
                sentences.append(f"{path}: {field}: missing, and it has no default")
            case "value_error":
                message = str(problem["ctx"]["error"])
                sentences.append(f"{path}: {field or 'recipe'}: {message}")
            case "model_type" | "model_attributes_type":
                sentences.append(f"{path}: {field}: got {got}, expected a section of fields")
            case "union_tag_invalid":
                expected = problem["ctx"]["expected_tags"].replace("'", "")
                sentences.append(f"{path}: {field}.name: got {got}, expected one of {expected}")
            case "string_pattern_mismatch":
                pattern = problem["ctx"]["pattern"]
                sentences.append(f"{path}: {field}: got {got}, expected text like {pattern}")
            case _:
                message = problem["msg"].replace("Input should be ", "")
                sentences.append(f"{path}: {field}: got {got}, expected {message}")
    return sentences


def _fields() -> list[str]:
    return [*DECIDES, *sorted({name.split(".")[0] for name in DECIDES if "." in name})]


def _siblings(field: str) -> list[str]:
    """The names of the fields of the section of one."""
    section = field.rpartition(".")[0]
    names = [name for name in _fields() if name.rpartition(".")[0] == section]
    return [name.rpartition(".")[2] for name in names]


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
