"""Checks before a run: of the recipe itself, and of the models and packages on this machine."""

from factory.checks.preflight import check_before_run, check_recipe

__all__ = ["check_before_run", "check_recipe"]
