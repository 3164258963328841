"""Check a recipe and its models for `factory plan` and `factory doctor`."""

from pathlib import Path

from factory.checks.preflight import check_models, check_recipe
from factory.errors import UserError
from factory.lake import Lake
from factory.plan import RecipeState, check_chunks, doctor, read_state
from factory.recipe import Recipe


def check_plan(state: RecipeState) -> None:
    """Check the recipe of a plan and its models, unless every step is done.

    Skips models that are not on this machine. Raises UserError.
    """
    if state.undone:
        check_chunks(state)
        check_recipe(state)
        check_models(state)


def examine_recipe(recipe: Recipe, lake: Path) -> doctor.Check:
    """Check a recipe without reading any model, and return the result for `factory doctor`."""
    try:
        check_plan(read_state(recipe, Lake(lake), "none"))
    except UserError as error:
        return doctor.Check("recipe", "stop", str(error))
    return doctor.Check("recipe", "ok", "its prompts, rubrics, functions, and fields are valid")
