"""Shorten local paths to file names before a recipe is published."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory.errors import UserError
from factory.recipe import Recipe

_WORD = re.compile(r"[^\s=,;'\"]+")


def redact_paths(value: Any, recipe: Recipe) -> Any:
    """Return a copy of a recipe value with every local path shortened to its file name.

    This includes paths within a command line, and in nested lists and mappings.
    """
    if isinstance(value, Mapping):
        return {
            redact_paths(name, recipe): redact_paths(item, recipe) for name, item in value.items()
        }
    if isinstance(value, list):
        return [redact_paths(item, recipe) for item in value]
    if not isinstance(value, str) or "/" not in value:
        return value
    return _WORD.sub(lambda word: _named(word[0], recipe), value)


def _named(word: str, recipe: Recipe) -> str:
    path, colon, function = word.partition(":")
    if "/" not in path:
        return word
    is_place = path.startswith(("/", "~", "./", "../")) or _exists(path, recipe)
    return f"{Path(path).name}{colon}{function}" if is_place else word


def _exists(path: str, recipe: Recipe) -> bool:
    try:
        return recipe.resolve(path).exists()
    except (OSError, UserError):  # too long, or not a valid path
        return False
