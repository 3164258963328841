"""Training: what identifies a trained model, and the job that the trainer's process is given."""

import fnmatch
from typing import Any

from factory.recipe import Train

VERSION = 1

DEFAULTS: dict[str, Any] = {"beta": 0.1, "learning_rate": 1e-6, "num_train_epochs": 1}
"""Borrowed, for TSR publishes none: beta from SR and Meta-Rewarding, the learning rate from SR's
(1e-6 → 1e-7, full fine-tuning), one epoch of ours."""

HOW_RUN = (
    "logging_*",
    "log_*",
    "save_*",
    "report_to",
    "run_name",
    "disable_tqdm",
    "dataloader_num_workers",
    "dataloader_persistent_workers",
    "dataloader_pin_memory",
    "dataloader_prefetch_factor",
    "dataset_num_proc",
    "gradient_checkpointing*",
    "use_cpu",
    "ddp_*",
    "torch_empty_cache_steps",
    "skip_memory_metrics",
)
"""Fields of TRL's config that decide how a training is run and not what it makes: changing one
trains nothing again. All others bear identity."""

OURS = ("output_dir", "resume_from_checkpoint", "hub_*", "push_to_hub*", "do_train", "do_eval")
"""Fields that the factory sets or that would act outside the lake; a recipe may not."""


def effective(train: Train) -> dict[str, Any]:
    """The fields that the trainer is given: the defaults and the recipe's over them."""
    return {**DEFAULTS, **train.dpo}


def settings(train: Train, parent: str, rows_read: str, seed: int) -> dict[str, Any]:
    """What decides a trained model: trainer, its settings, the parent, the pairs' digest."""
    # As a list: a field set to null says something that a field left out does not.
    fields = [
        [name, value]
        for name, value in sorted(effective(train).items())
        if not any(fnmatch.fnmatch(name, pattern) for pattern in HOW_RUN)
    ]
    return {
        "with": train.with_,
        "method": "dpo",
        "settings": fields,
        "parent": parent,
        "rows": rows_read,
        "seed": seed,
    }


def refused(train: Train) -> list[str]:
    """The fields of a recipe that only the factory may set."""
    return [name for name in train.dpo if any(fnmatch.fnmatch(name, pattern) for pattern in OURS)]
