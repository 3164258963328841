"""Translate pydantic's validation errors into messages about recipe fields."""

import difflib
import typing
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from factory.errors import InvalidRecipe, RecipeError
from factory.recipe.fields import (
    Section,
    fields_of,
    is_section,
    listed_fields,
    listed_values,
    union_members,
)
from factory.texts import shorten


def invalid_recipe(error: ValidationError, schema: type[Section], file: str) -> InvalidRecipe:
    """Convert a pydantic validation error to an InvalidRecipe error that lists all problems.

    `schema` is the section class that pydantic validated, and `file` is the recipe's file.
    """
    problems: dict[tuple[str, str], RecipeError] = {}
    for details in error.errors():
        problem = _problem(details, schema, file)
        key = (problem.field, problem.fault)
        if known := problems.get(key):  # pydantic reports one error per type of a union
            problem = RecipeError(*key, f"{known.remedy}, or {problem.remedy}", file)
        problems[key] = problem
    return InvalidRecipe(tuple(problems.values()))


class _Place(NamedTuple):
    """A field in a recipe."""

    path: str
    """The path of the field as a recipe writes it, such as `judge.engine.device`."""
    section: type[Section] | None
    """The class of the section that contains the field."""
    field: FieldInfo | None
    """The definition of the field, or None if the section has no such field."""


def _find_place(loc: Sequence[int | str], schema: type[Section]) -> _Place:
    """Return the field at pydantic's location of an error.

    For a union, the location contains an extra part that is not in the recipe: the name of the
    engine, or a label of the type that pydantic tried.
    """
    types: list[Any] = [schema]
    section, field, path = None, None, []
    for part in loc:
        if len(types) > 1:
            types = [each for each in types if _is_engine(each, part)]
            continue
        path.append(shorten(str(part), 60))
        inner = types[0] if types else None
        section = inner if is_section(inner) else None
        field = fields_of(section).get(str(part)) if section else None
        types = union_members(field.annotation if field else _item_type(inner))
    return _Place(".".join(path), section, field)


def _is_engine(annotation: Any, name: int | str) -> bool:
    return is_section(annotation) and name in typing.get_args(
        fields_of(annotation)["name"].annotation
    )


def _item_type(annotation: Any) -> Any:
    is_collection = typing.get_origin(annotation) in (dict, list)
    return typing.get_args(annotation)[-1] if is_collection else annotation


def _problem(details: ErrorDetails, schema: type[Section], file: str) -> RecipeError:
    place = _find_place(details["loc"], schema)
    got = f"got {show_value(details['input'])}"
    context = details.get("ctx", {})
    match details["type"]:
        case "extra_forbidden":
            return RecipeError(place.path, "unknown field", _suggest(place), file)
        case "missing":
            return RecipeError(place.path, "the field is required", "add it to the recipe", file)
        case "value_error":
            return _validator_problem(context["error"], place.path, file)
        case "model_type" | "model_attributes_type":
            return RecipeError(place.path, got, "expected a mapping of fields", file)
        case "union_tag_invalid":
            expected = context["expected_tags"].replace("'", "")
            return RecipeError(f"{place.path}.name", got, f"expected one of {expected}", file)
        case "string_pattern_mismatch":
            expected = f"expected text that matches {context['pattern']}"
            return RecipeError(place.path, got, expected, file)
        case "literal_error" if place.field and (values := listed_values(place.field)):
            expected = ", ".join(values)
            return RecipeError(place.path, got, f"expected one of {expected}", file)
    expected = details["msg"].replace("Input should be ", "")
    return RecipeError(place.path, got, f"expected {expected}", file)


def _validator_problem(error: Any, path: str, file: str) -> RecipeError:
    """Return the problem of an InvalidField raised by the validator at `path`."""
    field = ".".join(part for part in (path, error.field) if part)
    return RecipeError(field, error.fault, error.remedy, file)


def _suggest(place: _Place) -> str:
    """Return a remedy that names the most similar field, or all fields of the section."""
    section, _, name = place.path.rpartition(".")
    known = listed_fields(place.section) if place.section else []
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    if near:
        return f"did you mean {f'{section}.' if section else ''}{near[0]}?"
    return f"expected one of {', '.join(known)}"


def show_value(value: Any) -> str:
    """Format a value for an error message, shortened to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
