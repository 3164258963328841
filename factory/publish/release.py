"""What is published, as the card and the metadata tell about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.lake import Row
from factory.publish.repository import Contents


@dataclass(frozen=True)
class Release:
    """One state of a dataset repository."""

    repository: str
    """organization/name"""
    contents: Contents
    recipe: Mapping[str, Any]
    """The public recipe (`public_recipe`)."""
    lineage: Mapping[str, Any]
    """Models, judges, steps, and folders (`lineage_of`)."""
    sources: Sequence[Row]
    """One row per source and license of the prompts."""
