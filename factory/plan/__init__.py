"""The plan: the steps of a recipe, what the lake already holds, and what is missing."""

from factory.plan.state import StepState, folder_of
from factory.plan.step import Step, engine_needed, loads, steps, steps_of_one_pass
from factory.plan.survey import (
    PUBLIC_VIEWS,
    UNREADABLE,
    RecipeState,
    all_views,
    pair_outcomes,
    read_folders,
    read_state,
)

__all__ = [
    "PUBLIC_VIEWS",
    "UNREADABLE",
    "RecipeState",
    "Step",
    "StepState",
    "all_views",
    "engine_needed",
    "folder_of",
    "loads",
    "pair_outcomes",
    "read_folders",
    "read_state",
    "steps",
    "steps_of_one_pass",
]
