"""Which stages each field of a recipe decides, and what generation_config adds to a recipe."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from factory.recipe.fields import Decides, Section, Stage, fields_of, section_types
from factory.recipe.generation import NEUTRAL, Generation
from factory.recipe.judge import JUDGE
from factory.recipe.recipe import Recipe


def stages_by_field(section: type[Section]) -> dict[str, tuple[Stage, ...]]:
    """Return every field of a section and of the sections inside it, by its path, with the stages
    whose keys it is part of.

    Raises TypeError where a field has no declaration or several, or where two engines declare a
    field of the same name differently.
    """
    table: dict[str, tuple[Stage, ...]] = {}
    for path, stages in _walk(section, "", ()):
        if table.setdefault(path, stages) != stages:
            raise TypeError(f"{path}: got {stages} and {table[path]}, expected one declaration")
    return table


def _walk(
    section: type[Section], prefix: str, own: tuple[Stage, ...]
) -> Iterator[tuple[str, tuple[Stage, ...]]]:
    for name, field in fields_of(section).items():
        path = f"{prefix}{name}"
        inner = section_types(field.annotation)
        marks = [mark for mark in field.metadata if isinstance(mark, Decides)]
        if len(marks) > 1 or not (marks or inner):
            raise TypeError(f"{path}: got {len(marks)} of Decides, HOW_RUN, ROW_COUNT, expected 1")
        try:
            stages = marks[0].resolve(own) if marks else ()
        except TypeError as error:
            raise TypeError(f"{path}: {error}") from None
        if not inner:
            yield path, stages
        for each in inner:
            yield from _walk(each, f"{path}.", stages)


DECIDES = stages_by_field(Recipe)
"""Every field of a recipe by its path, and the stages whose keys it is part of. Fields of `judges`
are those of `judge`. VLLM_IDENTITY lists the arguments of vLLM that decide samples."""


def resolved(recipe: Recipe, configs: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """Fill in the settings of NEUTRAL that a recipe leaves open from models' generation_config.

    `configs` has the generation_config of M_0 under `sampling`, and that of each judge under the
    judge's name.
    """

    def fill_in(name: str, section: _Generates) -> _Generates:
        config = configs.get(name, {})
        fields = {
            field: config[field]
            for field in NEUTRAL
            if getattr(section, field) is None and is_number(config.get(field))
        }
        return section.model_copy(update=fields)

    return recipe.model_copy(
        update={
            "sampling": fill_in("sampling", recipe.sampling),
            "judge": fill_in(JUDGE, recipe.judge),
            "judges": {name: fill_in(name, judge) for name, judge in recipe.judges.items()},
        }
    )


_Generates = TypeVar("_Generates", bound=Generation)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
