"""Datasets on disk, and exports for external trainers."""

from factory.export.dataset import (
    COMPLETION_COLUMNS,
    PAIR_COLUMNS,
    SPLITS,
    dataset_rows,
    features,
    select_pairs,
    select_pairs_of_phase,
    write_dataset,
    write_rows,
)
from factory.export.source import open_dataset, open_pairs, open_recipe_dataset, select_splits
from factory.export.trainers import TRAINERS, export_query, more_than_bare, snippets, trainer_of
from factory.export.write import Exported, export_dataset

__all__ = [
    "COMPLETION_COLUMNS",
    "PAIR_COLUMNS",
    "SPLITS",
    "TRAINERS",
    "Exported",
    "dataset_rows",
    "export_dataset",
    "export_query",
    "features",
    "more_than_bare",
    "open_dataset",
    "open_pairs",
    "open_recipe_dataset",
    "select_pairs",
    "select_pairs_of_phase",
    "select_splits",
    "snippets",
    "trainer_of",
    "write_dataset",
    "write_rows",
]
