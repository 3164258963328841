"""Training: what identifies a trained model, and the fields that its trainer is given."""

import fnmatch
import re
import shlex
from collections.abc import Mapping
from typing import Any

from factory.recipe import PLACEHOLDERS, Method, Train

TRAINING_VERSION = 1

DEFAULTS: dict[Method, dict[str, Any]] = {
    "dpo": {"beta": 0.1, "learning_rate": 1e-6, "num_train_epochs": 1},
    "sft": {"learning_rate": 5.5e-6, "num_train_epochs": 1},
}
"""Defaults of TRL's fields. `beta` and the one epoch of DPO are as in the TSR paper (arXiv
2508.06026). The learning rates are the initial ones of Self-Rewarding (arXiv 2401.10020): DPO 1e-6
and SFT 5.5e-6. The TSR paper uses 5e-7 for DPO, and 2e-6 with 3 epochs for SFT. The one epoch of
SFT is our choice, untested."""

LORA: dict[str, Any] = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
"""Defaults of PEFT's LoraConfig. They are our choice, untested."""

LORA_LEARNING_RATE: dict[Method, float] = {"dpo": 1e-5, "sft": 5.5e-5}
"""Default learning rates for LoRA adapters: ten times those in DEFAULTS. Schulman et al. found the
best rate for LoRA to be about ten times that of full fine-tuning, at any rank ("LoRA Without
Regret", Thinking Machines 2025)."""

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
"""Fields of TRL's config that decide how a training runs and not what it produces. Changing one
does not repeat a training. All others are part of its key."""

RESERVED_PATTERNS = (
    "output_dir",
    "resume_from_checkpoint",
    "hub_*",
    "push_to_hub*",
    "do_train",
    "do_eval",
)
"""Fields that the factory sets, or that would act outside the lake. A recipe may not set them."""


def training_fields(train: Train, method: Method) -> dict[str, Any]:
    """Return the fields of TRL's config: the recipe's over the defaults."""
    rate = {} if train.lora is None else {"learning_rate": LORA_LEARNING_RATE[method]}
    return {**DEFAULTS[method], **rate, **train.fields(method)}


def adapter_fields(train: Train) -> dict[str, Any] | None:
    """Return the fields of LoraConfig: the recipe's over the defaults. None for full tuning."""
    return None if train.lora is None else {**LORA, **train.lora}


def command_words(command: str | None, places: Mapping[str, str]) -> list[str]:
    """Split a user's command into words and fill in `{pairs}`, `{parent}`, and `{out}`, without a
    shell."""
    return [
        re.sub(rf"\{{({'|'.join(PLACEHOLDERS)})\}}", lambda found: places[found[1]], word)
        for word in shlex.split(command or "")
    ]


FILE_FIELDS = ("deepspeed", "fsdp_config", "accelerator_config")
"""Fields of TRL's config that may name a file. TRL gets the path of a file next to the recipe."""


def possible_files(train: Train, method: Method) -> list[str]:
    """Return the words of a recipe's `train` that may name a file next to it."""
    fields = train.fields(method)
    named = [fields[name] for name in FILE_FIELDS if isinstance(fields.get(name), str)]
    command = command_words(train.command, dict.fromkeys(PLACEHOLDERS, ""))
    after = [word.partition("=")[2] for word in command]  # --config=mine.yaml
    return [word for word in [*named, *command, *after] if word]


def training_settings(
    train: Train,
    method: Method,
    parent: str,
    rows_read: str,
    seed: int,
    files: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return what decides a trained model: its trainer and settings, its parent, and its pairs.

    `parent` and `rows_read` are digests; `files` has the digests of the files next to the recipe
    that `train` names, by name.
    """
    if train.with_ in ("command", "manual"):
        return {
            # The keys of manual trainings were made when the recipe called them `hand`.
            "with": "hand" if train.with_ == "manual" else train.with_,
            "method": method,
            **({"command": train.command, "files": dict(files or {})} if train.command else {}),
            "parent": parent,
            "rows": rows_read,
        }
    # As a list: a field set to null differs from a field that is not set.
    fields = [
        [name, value]
        for name, value in sorted(training_fields(train, method).items())
        if not any(fnmatch.fnmatch(name, pattern) for pattern in HOW_RUN)
    ]
    adapter = adapter_fields(train)
    return {
        "with": train.with_,
        "method": method,
        "settings": fields,
        # Left out of full tuning, whose keys know nothing of it.
        **({} if adapter is None else {"lora": [list(field) for field in sorted(adapter.items())]}),
        **({"files": dict(files)} if files else {}),
        "parent": parent,
        "rows": rows_read,
        "seed": seed,
    }


def reserved_fields(train: Train, method: Method) -> list[str]:
    """Return the fields that a recipe sets and only the factory may set."""
    return [
        name
        for name in train.fields(method)
        if any(fnmatch.fnmatch(name, pattern) for pattern in RESERVED_PATTERNS)
    ]
