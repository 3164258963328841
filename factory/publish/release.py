"""The data used to write a published dataset's card and metadata."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.lake import Row
from factory.publish.repository import Contents
from factory.recipe import Method


@dataclass(frozen=True)
class Release:
    """The data that describes one version of a dataset repository."""

    repository: str
    """Name of the repository, as ORG/NAME."""
    contents: Contents
    recipe: Mapping[str, Any]
    """The published fields of the recipe (`public_recipe`)."""
    lineage: Mapping[str, Any]
    """Models, judges, steps, and folders (`lineage_of`)."""
    method: Method
    """The training method of the policy. With sft, the dataset has no rejected answers."""
    sources: Sequence[Row]
    """One row per source and license of the prompts."""
