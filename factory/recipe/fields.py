"""The base class of recipe sections, and the markers for recipe fields.

Every field has a marker in its annotation, next to its type, that declares the affected stages:

    temperature: Annotated[float, Decides(OWN)] = 0.8
    batch_size: Annotated[int, HOW_RUN] = 64

`factory.recipe.identity` reads the markers.
"""

import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticOmit

Stage = Literal["prompts", "samples", "judgments", "verdicts", "pairs", "train"]

OWN: Literal["own"] = "own"
"""Placeholder for the stages that the enclosing section declares. For example, a field of
`Generation` affects samples in `sampling` and judgments in `judge`."""


class Decides:
    """A marker that lists the stages affected by a recipe field.

    The keys of these stages include the field. Changing the field reruns these stages, and the
    stages that read their rows. On a field that is a section, the marker defines the meaning of OWN
    inside that section.
    """

    def __init__(self, *stages: Stage | Literal["own"]) -> None:
        self.stages = stages

    def resolve(self, own: tuple[Stage, ...]) -> tuple[Stage, ...]:
        """Return the stages that the marker declares for a field.

        The stages in `own` replace the placeholder OWN. Raises TypeError if the marker contains OWN
        and `own` is empty.
        """
        resolved: list[Stage] = []
        for stage in self.stages:
            if stage != OWN:
                resolved.append(stage)
            elif own:
                resolved.extend(own)
            else:
                raise TypeError(
                    "the marker contains OWN, but the enclosing section declares no stages"
                )
        return tuple(resolved)


HOW_RUN = Decides()
"""Marker of a field that affects how the work is run, but no stored row."""

ROW_COUNT = Decides()
"""Marker of a field that affects only the number of rows, and is part of no key. After a change,
the run generates only the missing rows. Later stages hash their input rows, so they rerun."""


class Hidden:
    """A marker that hides a recipe field from error messages and from the JSON Schema.

    A recipe may still set the field. With `values`, the marker hides only these values.
    """

    def __init__(self, *values: str) -> None:
        self.values = values

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        if not self.values:
            raise PydanticOmit
        shown = handler(schema)
        shown["enum"] = [value for value in shown["enum"] if value not in self.values]
        return shown


HIDDEN = Hidden()
"""Marker that hides a field with all its values."""


class Advanced:
    """A marker that moves a recipe field to the "Advanced" part of the recipe reference.

    With keyword arguments, the marker moves only these values of the field. Each argument is the
    description of the value. Fields marked HIDDEN move without this marker.
    """

    def __init__(self, **values: str) -> None:
        self.values = values


ADVANCED = Advanced()
"""Marker that moves a field with all its values."""


class Section(BaseModel):
    """The base class of all recipe sections.

    Sections are immutable and strictly typed, and they reject unknown fields. The docstrings of the
    fields are the text of the recipe reference and of the JSON Schema.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class InvalidField(ValueError):
    """The error for an invalid field in a recipe section.

    Validators raise it. `field` is the field's path, relative to the validated section. It may be
    empty.
    """

    def __init__(self, field: str, fault: str, remedy: str) -> None:
        super().__init__(": ".join(part for part in (field, fault, remedy) if part))
        self.field = field
        self.fault = fault
        self.remedy = remedy


def fields_of(section: type[Section]) -> Mapping[str, FieldInfo]:
    """Return the definitions of all fields in a recipe section, by YAML name."""
    return {
        field.alias or name: field
        for name, field in section.model_fields.items()
        if not field.exclude
    }


def listed_fields(section: type[Section]) -> list[str]:
    """Return the names of the fields in a recipe section, except hidden fields."""
    return [name for name, field in fields_of(section).items() if HIDDEN not in field.metadata]


def listed_values(field: FieldInfo) -> list[str]:
    """Return the allowed values of a Literal field, except hidden values.

    Returns an empty list for fields of other types.
    """
    if typing.get_origin(field.annotation) is not Literal:
        return []
    hidden = {value for mark in field.metadata if isinstance(mark, Hidden) for value in mark.values}
    return [value for value in typing.get_args(field.annotation) if value not in hidden]


def section_types(annotation: Any) -> list[type[Section]]:
    """Return the recipe section classes in a type annotation."""
    return [each for each in union_members(annotation) if is_section(each)]


def union_members(annotation: Any) -> list[Any]:
    """Return the members of a union type except None.

    For any other type, the list contains only that type.
    """
    if typing.get_origin(annotation) is typing.Annotated:
        return union_members(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [found for part in typing.get_args(annotation) for found in union_members(part)]
    return [] if annotation is types.NoneType else [annotation]


def is_section(annotation: Any) -> typing.TypeGuard[type[Section]]:
    """Return whether a type annotation is the class of a recipe section."""
    return isinstance(annotation, type) and issubclass(annotation, Section)
