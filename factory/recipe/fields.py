"""What a section of a recipe is made of: fields that declare which stages they affect.

Every field says so in its annotation, beside its type:

    temperature: Annotated[float, Decides(OWN)] = 0.8
    batch_size: Annotated[int, HOW_RUN] = 64

`factory.recipe.identity` reads the declarations. This module knows no particular section.
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
"""The stages of the section that holds a field. A field of `Generation` decides samples in
`sampling` and judgments in `judge`; a field of `Model` or of an engine decides both."""


class Decides:
    """Declare the stages whose keys a field is part of.

    A change of the field runs these stages again, and the stages that read their rows. On a field
    that holds a section, `Decides` defines what OWN means inside this section.
    """

    def __init__(self, *stages: Stage | Literal["own"]) -> None:
        self.stages = stages

    def resolve(self, own: tuple[Stage, ...]) -> tuple[Stage, ...]:
        """Return the stages, with `own` in the place of OWN."""
        resolved: list[Stage] = []
        for stage in self.stages:
            if stage != OWN:
                resolved.append(stage)
            elif own:
                resolved.extend(own)
            else:
                raise TypeError("OWN has no meaning here: declare it where the section is used")
        return tuple(resolved)


HOW_RUN = Decides()
"""The field affects how the work is run, and no row."""

ROW_COUNT = Decides()
"""The field affects how many rows there are, and is outside every key: only the missing rows are
generated. Stages that read the rows hash them, so they follow a change."""


class Hidden:
    """Keep a field out of error messages and of the JSON schema. It still works.

    With values, only these values of the field are hidden.
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


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class InvalidField(ValueError):
    """A problem that a section's validator found. `field` is relative to what is validated."""

    def __init__(self, field: str, fault: str, remedy: str) -> None:
        super().__init__(": ".join(part for part in (field, fault, remedy) if part))
        self.field = field
        self.fault = fault
        self.remedy = remedy


def fields_of(section: type[Section]) -> Mapping[str, FieldInfo]:
    """Return the fields that a recipe may set in a section, by their names in YAML."""
    return {
        field.alias or name: field
        for name, field in section.model_fields.items()
        if not field.exclude
    }


def listed_fields(section: type[Section]) -> list[str]:
    """Return the names of a section's fields, without the hidden ones."""
    return [name for name, field in fields_of(section).items() if HIDDEN not in field.metadata]


def listed_values(field: FieldInfo) -> list[str]:
    """Return the values of a field that is a Literal, without the hidden ones; none of others."""
    if typing.get_origin(field.annotation) is not Literal:
        return []
    hidden = {value for mark in field.metadata if isinstance(mark, Hidden) for value in mark.values}
    return [value for value in typing.get_args(field.annotation) if value not in hidden]


def section_types(annotation: Any) -> list[type[Section]]:
    """Return the sections that an annotation names."""
    return [each for each in union_members(annotation) if is_section(each)]


def union_members(annotation: Any) -> list[Any]:
    """Return the types that an annotation names, without None: several for a union."""
    if typing.get_origin(annotation) is typing.Annotated:
        return union_members(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [found for part in typing.get_args(annotation) for found in union_members(part)]
    return [] if annotation is types.NoneType else [annotation]


def is_section(annotation: Any) -> typing.TypeGuard[type[Section]]:
    return isinstance(annotation, type) and issubclass(annotation, Section)
