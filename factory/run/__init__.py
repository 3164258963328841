"""Run the steps of a recipe, and choose alternative sets of pairs from stored scores."""

from factory.run.builds import build_pairs, check_changes, write_build
from factory.run.loop import preview_recipe, run_recipe

__all__ = ["build_pairs", "check_changes", "preview_recipe", "run_recipe", "write_build"]
