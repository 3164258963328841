"""Find the stages that each recipe field affects.

The module also fills in unset sampling settings from the models' generation_config.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from factory.errors import RecipeError
from factory.recipe.fields import Decides, Section, Stage, fields_of, section_types
from factory.recipe.generation import NEUTRAL, Generation
from factory.recipe.judge import JUDGE
from factory.recipe.recipe import Recipe


def stages_by_field(section: type[Section]) -> dict[str, tuple[Stage, ...]]:
    """Return a dict that maps each field path to the stages that the field affects.

    The dict contains the fields of a recipe section, and includes the fields of inner sections.
    Raises TypeError if a field does not have exactly one marker, or if two engines mark a field of
    the same name differently.
    """
    table: dict[str, tuple[Stage, ...]] = {}
    for path, stages in _walk(section, "", ()):
        if table.setdefault(path, stages) != stages:
            raise TypeError(
                f"{path}: two engines declare different stages for this field: {stages} and "
                f"{table[path]}"
            )
    return table


def _walk(
    section: type[Section], prefix: str, own: tuple[Stage, ...]
) -> Iterator[tuple[str, tuple[Stage, ...]]]:
    for name, field in fields_of(section).items():
        path = f"{prefix}{name}"
        inner = section_types(field.annotation)
        marks = [mark for mark in field.metadata if isinstance(mark, Decides)]
        if len(marks) > 1 or not (marks or inner):
            raise TypeError(f"{path}: got {len(marks)} stage markers, expected 1")
        try:
            stages = marks[0].resolve(own) if marks else ()
        except TypeError as error:
            raise TypeError(f"{path}: {error}") from None
        if not inner:
            yield path, stages
        for each in inner:
            yield from _walk(each, f"{path}.", stages)


DECIDES = stages_by_field(Recipe)
"""The stages whose keys include each recipe field, by the field's path. The fields of `judges` are
the same as those of `judge`. The arguments of vLLM are not in this table; see VLLM_IDENTITY."""


def resolved(recipe: Recipe, configs: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """Fill in a recipe's unset sampling settings from the models' generation_config.

    Returns a new recipe. The filled-in settings are those in NEUTRAL. `configs` contains the
    generation_config of M_0 under `sampling`, and the generation_config of each judge's model under
    the judge's name.
    """

    def fill_in(name: str, section: _Generates) -> _Generates:
        config = configs.get(name, {})
        fields = {
            field: config[field]
            for field in NEUTRAL
            if getattr(section, field) is None and is_number(config.get(field))
        }
        for field, value in fields.items():
            _check_default(
                f"{name if name == 'sampling' else recipe.field_of(name)}.{field}", value
            )
        return section.model_copy(update=fields)

    return recipe.model_copy(
        update={
            "sampling": fill_in("sampling", recipe.sampling),
            "judge": fill_in(JUDGE, recipe.judge),
            "judges": {name: fill_in(name, judge) for name, judge in recipe.judges.items()},
        }
    )


def _check_default(path: str, value: float) -> None:
    """Raise RecipeError if a sampling setting of a generation_config is out of range."""
    field = path.rpartition(".")[2]
    if (field, value) == ("top_k", -1):  # vLLM's way to say all tokens
        return
    try:
        Generation.model_validate({field: value})
    except ValidationError as error:
        raise RecipeError(
            path,
            f"the model's generation_config.json has {value:g} ({error.errors()[0]['msg']})",
            f"set {path} in the recipe",
        ) from None


_Generates = TypeVar("_Generates", bound=Generation)


def is_number(value: Any) -> bool:
    """Return whether a value is an int or a float, but not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)
