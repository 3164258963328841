"""The loop: run every step that is not done."""

from factory.run.generate import generate
from factory.run.loop import preview_recipe, run_recipe
from factory.run.stop import EARLY, Watch, check_limits
from factory.run.tabular import make_pairs, make_prompts

__all__ = [
    "EARLY",
    "Watch",
    "check_limits",
    "generate",
    "make_pairs",
    "make_prompts",
    "preview_recipe",
    "run_recipe",
]
