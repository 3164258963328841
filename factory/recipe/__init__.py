"""The recipe: the YAML file with all settings of a run."""

from factory.recipe.engines import (
    VLLM_IDENTITY,
    Engine,
    OpenaiEngine,
    ScriptedEngine,
    TransformersEngine,
    VllmEngine,
)
from factory.recipe.generation import NEUTRAL, PAST_OFFSET, Generation
from factory.recipe.identity import DECIDES, resolved
from factory.recipe.judge import JUDGE, Judge, in_scale
from factory.recipe.load import load_recipe, load_training
from factory.recipe.recipe import Recipe, Training
from factory.recipe.reference import recipe_reference, recipe_schema
from factory.recipe.sections import PROBE, REFERENCE, Loop, Model, Pairs, Prompts
from factory.recipe.starters import write_starter
from factory.recipe.train import PLACEHOLDERS, TRL_MAX_LENGTH, Method, Train

__all__ = [
    "DECIDES",
    "JUDGE",
    "NEUTRAL",
    "PAST_OFFSET",
    "PLACEHOLDERS",
    "PROBE",
    "REFERENCE",
    "TRL_MAX_LENGTH",
    "VLLM_IDENTITY",
    "Engine",
    "Generation",
    "Judge",
    "Loop",
    "Method",
    "Model",
    "OpenaiEngine",
    "Pairs",
    "Prompts",
    "Recipe",
    "ScriptedEngine",
    "Train",
    "Training",
    "TransformersEngine",
    "VllmEngine",
    "in_scale",
    "load_recipe",
    "load_training",
    "recipe_reference",
    "recipe_schema",
    "resolved",
    "write_starter",
]
