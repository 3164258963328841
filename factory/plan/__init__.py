"""Plan a recipe: list its steps, and count the stored and the missing rows of each step."""

from factory.plan.inputs import folders_read
from factory.plan.inspect import (
    UNREADABLE,
    count_step,
    inspect_step,
    locate_step,
    read_state,
)
from factory.plan.opened import OpenedRecipe, Wanted, open_recipe
from factory.plan.packages import missing_packages
from factory.plan.pair_steps import loop_prompt_fields, trained_prompt_fields
from factory.plan.public_views import PUBLIC_VIEWS, all_views, count_outcomes, final_pairs
from factory.plan.recipe_state import RecipeState
from factory.plan.row_steps import check_chunks, reused_views
from factory.plan.state import StepState, folder_of
from factory.plan.step import Step, engine_needed, loads, steps, steps_of_one_pass
from factory.plan.views_sql import (
    create_macros,
    create_table,
    create_view,
    recipe_inputs,
    write_views_sql,
)

__all__ = [
    "PUBLIC_VIEWS",
    "UNREADABLE",
    "OpenedRecipe",
    "RecipeState",
    "Step",
    "StepState",
    "Wanted",
    "all_views",
    "check_chunks",
    "count_outcomes",
    "count_step",
    "create_macros",
    "create_table",
    "create_view",
    "engine_needed",
    "final_pairs",
    "folder_of",
    "folders_read",
    "inspect_step",
    "loads",
    "locate_step",
    "loop_prompt_fields",
    "missing_packages",
    "open_recipe",
    "read_state",
    "recipe_inputs",
    "reused_views",
    "steps",
    "steps_of_one_pass",
    "trained_prompt_fields",
    "write_views_sql",
]
