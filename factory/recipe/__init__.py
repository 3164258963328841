"""The recipe: one YAML file that decides the data and how the work is run."""

from factory.recipe.engines import (
    VLLM_IDENTITY,
    Engine,
    OpenaiEngine,
    ScriptedEngine,
    TransformersEngine,
    VllmEngine,
)
from factory.recipe.identity import DECIDES, resolved
from factory.recipe.judge import Judge, in_scale
from factory.recipe.load import load_recipe, recipe_of_training
from factory.recipe.recipe import Recipe
from factory.recipe.sections import (
    JUDGE,
    NEUTRAL,
    PAST_OFFSET,
    PLACEHOLDERS,
    PROBE,
    REFERENCE,
    Generation,
    Method,
    Model,
    Pairs,
    Prompts,
    Train,
)

__all__ = [
    "DECIDES",
    "JUDGE",
    "NEUTRAL",
    "PAST_OFFSET",
    "PLACEHOLDERS",
    "PROBE",
    "REFERENCE",
    "VLLM_IDENTITY",
    "Engine",
    "Generation",
    "Judge",
    "Method",
    "Model",
    "OpenaiEngine",
    "Pairs",
    "Prompts",
    "Recipe",
    "ScriptedEngine",
    "Train",
    "TransformersEngine",
    "VllmEngine",
    "in_scale",
    "load_recipe",
    "recipe_of_training",
    "resolved",
]
