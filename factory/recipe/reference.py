"""Generate the JSON Schema of a recipe, and the Markdown reference of its fields."""

import math
import typing
from typing import Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from factory.recipe.fields import (
    HIDDEN,
    Advanced,
    Section,
    fields_of,
    listed_values,
    section_types,
    union_members,
)
from factory.recipe.recipe import Recipe

_HEAD = """\
# Recipe reference

`factory schema --markdown` generates this page from the docstrings of this package.

A recipe is a YAML file. The option `--set section.field=value` of a command overrides one field.
Paths are relative to the recipe's folder. "TSR paper" stands for *Temporal Self-Rewarding Language
Models* (arXiv 2508.06026), and "our choice, untested" for a default that comes from no paper and
that we have not compared with others.
"""

_ADVANCED = """\
## Advanced

These fields and values are for tests, or rarely need tuning.
"""

_TABLE = "| Field | Type | Default | Meaning |\n| --- | --- | --- | --- |"

_NOUNS = {str: "string", int: "integer", float: "number", bool: "boolean"}

_LARGEST_SHOWN = 1024
"""Bounds above this number only exclude mistakes, so the reference leaves them out."""

_BOUNDS = {Ge: "≥", Gt: ">", Le: "≤", Lt: "<"}


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a recipe, for YAML editors.

    The descriptions are the docstrings of the fields. Fields and values that only tests use are not
    in the schema.
    """
    schema = _for_editors(Recipe.model_json_schema())
    model = schema["$defs"]["Model"]
    path = {"type": "string", "description": model["properties"]["path"]["description"]}
    declared = {
        **{key: model[key] for key in ("description", "type", "additionalProperties")},
        "properties": {"declared": model["properties"].pop("declared")},
        "required": ["declared"],
    }
    schema["$defs"]["Model"] = {"anyOf": [path, {**model, "required": ["path"]}, declared]}
    draft = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": draft, "title": "Recipe of the preference factory", **schema}


def _for_editors(node: Any) -> Any:
    """Return a part of pydantic's JSON Schema without the parts that do not help in an editor.

    These are generated titles, defaults that are sections or that JSON cannot express, and the line
    breaks of docstrings.
    """
    if isinstance(node, list):
        return [_for_editors(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {}
    for key, value in node.items():
        if key == "description" and isinstance(value, str):
            kept[key] = _paragraphs(value)
        elif key == "default" and (isinstance(value, dict) or value == math.inf):
            continue
        elif key == "discriminator" or (key == "title" and isinstance(value, str)):
            continue  # `discriminator` belongs to OpenAPI, not to JSON Schema
        else:
            kept[key] = _for_editors(value)
    return kept


def recipe_reference() -> str:
    """Return the reference of all recipe fields as Markdown, with one table per section."""
    parts = [_HEAD, "## Top level\n", _table(Recipe)]
    advanced: list[str] = []
    for path, field in fields_of(Recipe).items():
        sections = section_types(field.annotation)
        if len(sections) > 1:
            parts.append(f"## `{path}`\n\n{_description(field)}\n")
        for section in sections:
            engine = _engine_name(section) if len(sections) > 1 else ""
            if _has_table(section):
                title = f"### `{engine}`" if engine else f"## `{path}`"
                about = _paragraphs(section.__doc__ or "")
                parts += [f"{title}\n\n{about}\n", _table(section)]
            advanced += _advanced_rows(section, path, engine)
    return "\n".join([*parts, _ADVANCED, _TABLE, *advanced, ""])


def _engine_name(section: type[Section]) -> str:
    (name,) = typing.get_args(fields_of(section)["name"].annotation)
    return str(name)


def _table(section: type[Section]) -> str:
    """Return the table of a section's fields, except the advanced ones."""
    fields = sorted(fields_of(section).items(), key=lambda item: item[0] != "name")
    rows = [
        _row(f"`{name}`", field, _description(field))
        for name, field in fields
        if not _is_advanced(field)
    ]
    return "\n".join([_TABLE, *rows, ""])


def _advanced_rows(section: type[Section], path: str, engine: str) -> list[str]:
    of_engine = f" ({engine})" if engine else ""
    rows = []
    for name, field in fields_of(section).items():
        if _is_advanced(field):
            rows.append(_row(f"`{path}.{name}`{of_engine}", field, _description(field)))
        for value, meaning in _advanced_values(field).items():
            rows.append(f"| `{path}.{name}: {value}` | value |  | {meaning} |")
    return rows


def _has_table(section: type[Section]) -> bool:
    return not all(map(_is_advanced, fields_of(section).values()))


def _row(title: str, field: FieldInfo, meaning: str) -> str:
    return f"| {title} | {_type(field)} | {_default(field)} | {meaning} |"


def _is_advanced(field: FieldInfo) -> bool:
    marks = [mark for mark in field.metadata if isinstance(mark, Advanced)]
    return HIDDEN in field.metadata or any(not mark.values for mark in marks)


def _advanced_values(field: FieldInfo) -> dict[str, str]:
    marks = [mark for mark in field.metadata if isinstance(mark, Advanced)]
    return {value: meaning for mark in marks for value, meaning in mark.values.items()}


def _description(field: FieldInfo) -> str:
    return _paragraphs(field.description or "").replace("|", "\\|")


def _paragraphs(text: str) -> str:
    """Return a docstring with each paragraph on one line."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _type(field: FieldInfo) -> str:
    """Return a field's type in words, such as `integer ≥ 1`."""
    if sections := section_types(field.annotation):
        return f"[section](#{_anchor(sections)})"
    if values := listed_values(field):
        return _or([f"`{value}`" for value in values if value not in _advanced_values(field)])
    bounds = [
        (sign, getattr(mark, kind.__name__.lower()))
        for mark in field.metadata
        for kind, sign in _BOUNDS.items()
        if isinstance(mark, kind)
    ]
    shown = [f"{sign} {bound:g}" for sign, bound in bounds if bound <= _LARGEST_SHOWN]
    nouns = _or([_noun(member) for member in union_members(field.annotation)])
    return " ".join([nouns, ", ".join(shown)]).strip()


def _noun(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return _or([f"`{value}`" for value in arguments])
    if origin is list:
        return f"list of {_noun(arguments[0])}s"
    if origin is tuple:
        return f"list of {len(arguments)} {_noun(union_members(arguments[0])[0])}s"
    if origin is dict:
        sections = section_types(arguments[1])
        return f"[sections](#{_anchor(sections)}) by name" if sections else "mapping"
    return _NOUNS[annotation]


def _anchor(sections: list[type[Section]]) -> str:
    """Return the anchor of the part of the page that describes the sections."""
    if not any(map(_has_table, sections)):
        return "advanced"
    return next(
        path
        for path, field in fields_of(Recipe).items()
        if section_types(field.annotation) == sections
    )


def _or(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _default(field: FieldInfo) -> str:
    """Return a field's default as YAML in backticks, or in words if YAML has no short form."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    match default:
        case None | "":
            return "not set"
        case Section():
            return ""
        case bool():
            return f"`{str(default).lower()}`"
        case math.inf:
            return "`.inf`"
    return f"`{default}`"
