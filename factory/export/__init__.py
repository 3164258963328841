"""Datasets on disk, and their exports for external trainers."""

from factory.export.card import config_metadata, front_matter, task_metadata
from factory.export.columns import COMPLETION_COLUMNS, PAIR_COLUMNS, SPLITS, features
from factory.export.dataset import (
    dataset_rows,
    kept_pairs,
    select_pairs,
    write_dataset,
    write_rows,
)
from factory.export.judge_kinds import JUDGE_NOUNS, judge_kind
from factory.export.prompt_columns import PLAIN, restored, shown_rows, with_prompt_fields
from factory.export.source import (
    Source,
    open_dataset,
    open_pairs,
    open_recipe_dataset,
    select_splits,
)
from factory.export.templates import render_card_template
from factory.export.trainers import TRAINERS, export_query, snippets, trainer_of
from factory.export.write import Exported, export_dataset

__all__ = [
    "COMPLETION_COLUMNS",
    "JUDGE_NOUNS",
    "PAIR_COLUMNS",
    "PLAIN",
    "SPLITS",
    "TRAINERS",
    "Exported",
    "Source",
    "config_metadata",
    "dataset_rows",
    "export_dataset",
    "export_query",
    "features",
    "front_matter",
    "judge_kind",
    "kept_pairs",
    "open_dataset",
    "open_pairs",
    "open_recipe_dataset",
    "render_card_template",
    "restored",
    "select_pairs",
    "select_splits",
    "shown_rows",
    "snippets",
    "task_metadata",
    "trainer_of",
    "with_prompt_fields",
    "write_dataset",
    "write_rows",
]
