"""Checks before a run: of the recipe itself, and of the models and packages on this machine."""

from factory.checks.plan import check_plan, examine_recipe
from factory.checks.preflight import check_before_run, check_packages, check_recipe

__all__ = [
    "check_before_run",
    "check_packages",
    "check_plan",
    "check_recipe",
    "examine_recipe",
]
