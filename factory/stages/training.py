"""Compute TRL's configuration, and the settings that identify a trained model."""

import fnmatch
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from factory.recipe import PLACEHOLDERS, Method, Train

TRAINING_VERSION = 1

DEFAULTS: dict[Method, dict[str, Any]] = {
    "dpo": {"beta": 0.1, "learning_rate": 1e-6, "num_train_epochs": 1},
    "sft": {"learning_rate": 5.5e-6, "num_train_epochs": 1},
}
"""Default fields of TRL's configuration for full fine-tuning.

`beta` is that of TSR (arXiv 2508.06026), SR, and Meta-Rewarding, and one epoch is that of TSR. The
learning rates are the first ones of SR (arXiv 2401.10020), which lowers them during training: DPO
from 1e-6 to 1e-7, and SFT from 5.5e-6 to 1.1e-6. TSR itself uses 5e-7 for DPO, and trains its M_0
with SFT at 2e-6 for three epochs."""

LORA: dict[str, Any] = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
"""Default fields of PEFT's LoraConfig for recipes that train an adapter. The values are ours."""

LORA_LEARNING_RATE: dict[Method, float] = {"dpo": 1e-5, "sft": 5.5e-5}
"""Default learning rates for recipes that train an adapter: ten times those in DEFAULTS. The best
learning rate of LoRA is about ten times that of full fine-tuning, regardless of the rank (Schulman
et al., "LoRA Without Regret", Thinking Machines 2025)."""

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
"""Fields of TRL's configuration that affect how a training runs, but not its result. A change of
such a field does not train the model again. All other fields are part of the model's key."""

RESERVED_PATTERNS = (
    "output_dir",
    "resume_from_checkpoint",
    "hub_*",
    "push_to_hub*",
    "do_train",
    "do_eval",
)
"""Fields of TRL's configuration that a recipe may not set. The factory sets them, or they would
have effects outside the lake."""


def training_fields(train: Train, method: Method) -> dict[str, Any]:
    """Return TRL's training configuration: the factory's defaults, overridden by the recipe."""
    rate = {} if train.lora is None else {"learning_rate": LORA_LEARNING_RATE[method]}
    return {**DEFAULTS[method], **rate, **train.fields(method)}


def adapter_fields(train: Train) -> dict[str, Any] | None:
    """Return PEFT's LoRA configuration: the factory's defaults, overridden by the recipe. None for
    full fine-tuning."""
    return None if train.lora is None else {**LORA, **train.lora}


def command_words(command: str | None, places: Mapping[str, str]) -> list[str]:
    """Split a user's training command into words, and fill in its placeholders.

    The placeholders are `{pairs}`, `{parent}`, and `{out}`. No shell interprets the command.
    """
    return [
        re.sub(rf"\{{({'|'.join(PLACEHOLDERS)})\}}", lambda found: places[found[1]], word)
        for word in shlex.split(command or "")
    ]


FILE_FIELDS = ("deepspeed", "fsdp_config", "accelerator_config")
"""Fields of TRL's configuration that may name a file next to the recipe. TRL gets the path of this
file."""


def possible_files(train: Train, method: Method) -> list[str]:
    """Return the words in a recipe's `train` section that may be names of files."""
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
    prompt_fields: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the settings whose hash identifies a trained model.

    `parent` is the digest of the model that the training starts from, and `rows_read` a digest of
    the training pairs. `files` has the digests, by name, of the files next to the recipe that
    `train` names. `prompt_fields` names the fields of prompts, beyond role and content, that the
    training rows contain; earlier versions left them out.
    """
    shown = {"prompt_fields": list(prompt_fields)} if prompt_fields else {}
    if train.with_ in ("command", "manual"):
        return {
            # Recipes once called this `hand`, and the key has to stay the same.
            "with": "hand" if train.with_ == "manual" else train.with_,
            "method": method,
            **({"command": train.command, "files": dict(files or {})} if train.command else {}),
            **shown,
            "parent": parent,
            "rows": rows_read,
        }
    # A list, since a field that is null differs from a field that is not set.
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
        # Left out for full fine-tuning, so that older keys stay the same.
        **({} if adapter is None else {"lora": [list(field) for field in sorted(adapter.items())]}),
        **({"files": dict(files)} if files else {}),
        **shown,
        "parent": parent,
        "rows": rows_read,
        "seed": seed,
    }


def reserved_fields(train: Train, method: Method) -> list[str]:
    """Return the reserved trainer fields that a recipe sets. Only the factory may set them."""
    return [
        name
        for name in train.fields(method)
        if any(fnmatch.fnmatch(name, pattern) for pattern in RESERVED_PATTERNS)
    ]
