"""Find where each step of a recipe stores its rows, and count the missing rows.

Each stage has two functions. One locates a step: it finds the folder of the step's rows. The other
counts these rows. A run locates a step, locks its folder, and then counts.
"""

from collections.abc import Callable

import duckdb
import pyarrow as pa

from factory.errors import LakeError
from factory.lake import Lake
from factory.plan.inputs import folders_read
from factory.plan.opened import OpenedRecipe, Wanted, open_recipe
from factory.plan.pair_steps import count_pairs, count_training, locate_pairs, locate_training
from factory.plan.recipe_state import RecipeState
from factory.plan.row_steps import (
    count_judgments,
    count_prompts,
    count_samples,
    count_verdicts,
    locate_judgments,
    locate_prompts,
    locate_samples,
    locate_verdicts,
)
from factory.plan.state import StepState
from factory.plan.step import Step, steps
from factory.recipe import Recipe

UNREADABLE = (duckdb.Error, pa.ArrowException, OSError)
"""Errors that reading a shard with broken content raises. They can also have other causes."""


def inspect_step(state: RecipeState, step: Step, limit: int | None = None) -> StepState:
    """Find the folder that stores a step's rows, and count the rows.

    With a `limit`, count only the rows of the first `limit` prompts of the training split.
    """
    return count_step(state, locate_step(state, step, limit), limit)


def locate_step(state: RecipeState, step: Step, limit: int | None = None) -> StepState:
    """Find the folder that stores a step's rows, without counting the rows."""
    return _LOCATE[step.stage](state, step, limit)


def count_step(state: RecipeState, located: StepState, limit: int | None = None) -> StepState:
    """Count the rows in a step's folder, and record the step's state.

    Count prompts even if their folder is unknown because M_0 is missing.
    """
    step = located.step
    counted = located
    if located.folder is not None or step.stage == "prompts":
        counted = _COUNT[step.stage](state, located, limit)
    state.steps[step] = counted
    return counted


def read_state(recipe: Recipe, lake: Lake, models: Wanted = "all") -> RecipeState:
    """Open a recipe, and return the state of every step.

    Commands that only read the lake use this function. `models` selects the models to open. The
    steps of other models have no folder. Raises LakeError if a shard cannot be read.
    """
    return inspect_all(open_recipe(recipe, lake, models=models))


def inspect_all(opened: OpenedRecipe) -> RecipeState:
    """Return the state of every step of a recipe that is already open.

    Raises LakeError if a shard cannot be read.
    """
    state = RecipeState.of(opened)
    for step in steps(opened.recipe):
        try:
            inspect_step(state, step)
        except UNREADABLE as error:
            if not any(folder.broken(content=True) for folder in folders_read(state, step)):
                raise
            raise LakeError(
                step.label,
                f"a shard of this step cannot be read ({str(error).splitlines()[0]})",
                "run `factory verify` to find the shard, or `factory run` to recompute its rows",
            ) from None
    state.save_caches()
    return state


_Locate = Callable[[RecipeState, Step, int | None], StepState]
_Count = Callable[[RecipeState, StepState, int | None], StepState]

_LOCATE: dict[str, _Locate] = {
    "prompts": locate_prompts,
    "samples": locate_samples,
    "judgments": locate_judgments,
    "verdicts": locate_verdicts,
    "pairs": locate_pairs,
    "train": locate_training,
}

_COUNT: dict[str, _Count] = {
    "prompts": count_prompts,
    "samples": count_samples,
    "judgments": count_judgments,
    "verdicts": count_verdicts,
    "pairs": count_pairs,
    "train": count_training,
}
