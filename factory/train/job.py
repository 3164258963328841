"""Build the job for the trainer process from the `train` section of a recipe."""

from pathlib import Path
from typing import Any

from factory.recipe import Method, Train
from factory.stages import adapter_fields
from factory.train.trl import Job


def build_job(
    train: Train,
    method: Method,
    parent: Path,
    adapter: Path | None,
    dtype: str,
    fields: dict[str, Any],
) -> Job:
    """Return the job that trains a model or its LoRA adapter.

    `parent` is the model's folder, and `adapter` is the folder of its LoRA adapter, if any.
    `fields` are the fields of TRL's config.
    """
    return Job(
        method,
        str(parent),
        dtype,
        fields,
        train.checkpoint_seconds,
        lora=adapter_fields(train),
        adapter=None if adapter is None else str(adapter),
    )
