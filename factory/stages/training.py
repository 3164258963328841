"""Training: what identifies a trained model, and the job that the trainer's process is given."""

import fnmatch
import re
import shlex
from collections.abc import Mapping
from typing import Any

from factory.recipe import PLACEHOLDERS, Method, Train

VERSION = 1

DEFAULTS: dict[Method, dict[str, Any]] = {
    "dpo": {"beta": 0.1, "learning_rate": 1e-6, "num_train_epochs": 1},
    "sft": {"learning_rate": 5.5e-6, "num_train_epochs": 1},
}
"""Borrowed, for TSR publishes none: beta from SR and Meta-Rewarding, the learning rates from SR's
(DPO 1e-6 → 1e-7, SFT of its M_0 5.5e-6 → 1.1e-6, full fine-tuning), one epoch of ours."""

LORA: dict[str, Any] = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
"""Of PEFT's LoraConfig, where the recipe trains an adapter; ours."""

LORA_LEARNING_RATE: dict[Method, float] = {"dpo": 1e-5, "sft": 5.5e-5}
"""Instead of the learning rates in DEFAULTS, where the recipe trains an adapter. Borrowed: LoRA's
best rate was found to be about ten times that of full tuning, whatever its rank (Schulman et al.,
"LoRA Without Regret", Thinking Machines 2025)."""

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

RESERVED_FIELDS = (
    "output_dir",
    "resume_from_checkpoint",
    "hub_*",
    "push_to_hub*",
    "do_train",
    "do_eval",
)
"""Fields that the factory sets or that would act outside the lake; a recipe may not."""


def effective(train: Train, method: Method) -> dict[str, Any]:
    """The fields that the trainer is given: the defaults and the recipe's over them."""
    rate = {} if train.lora is None else {"learning_rate": LORA_LEARNING_RATE[method]}
    return {**DEFAULTS[method], **rate, **train.fields(method)}


def adapter_fields(train: Train) -> dict[str, Any] | None:
    """The fields of LoraConfig: the defaults and the recipe's over them. None for full tuning."""
    return None if train.lora is None else {**LORA, **train.lora}


def command_words(command: str | None, places: Mapping[str, str]) -> list[str]:
    """A command line of the user's own as words, with `{pairs}`, `{parent}` and `{out}` filled in;
    no shell reads it."""
    return [
        re.sub(rf"\{{({'|'.join(PLACEHOLDERS)})\}}", lambda found: places[found[1]], word)
        for word in shlex.split(command or "")
    ]


CONFIG_FILES = ("deepspeed", "fsdp_config", "accelerator_config")
"""Fields of TRL's config that may name a file: of one beside the recipe, the path is passed on."""


def words(train: Train, method: Method) -> list[str]:
    """What a recipe says of its training that may name a file beside it."""
    fields = train.fields(method)
    named = [fields[name] for name in CONFIG_FILES if isinstance(fields.get(name), str)]
    command = command_words(train.command, dict.fromkeys(PLACEHOLDERS, ""))
    after = [word.partition("=")[2] for word in command]  # --config=mine.yaml
    return [word for word in [*named, *command, *after] if word]


def settings(
    train: Train,
    method: Method,
    parent: str,
    rows_read: str,
    seed: int,
    files: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What decides a trained model: trainer, its settings, the parent, the pairs' digest. `files`
    are the digests of those beside the recipe that it names, by their names there."""
    if train.with_ in ("command", "manual"):
        return {
            # Keys of trainings by hand were made when the recipe's word for it was `hand`.
            "with": "hand" if train.with_ == "manual" else train.with_,
            "method": method,
            **({"command": train.command, "files": dict(files or {})} if train.command else {}),
            "parent": parent,
            "rows": rows_read,
        }
    # As a list: a field set to null says something that a field left out does not.
    fields = [
        [name, value]
        for name, value in sorted(effective(train, method).items())
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


def refused(train: Train, method: Method) -> list[str]:
    """The fields of a recipe that only the factory may set."""
    set_ = train.fields(method)
    return [
        name for name in set_ if any(fnmatch.fnmatch(name, pattern) for pattern in RESERVED_FIELDS)
    ]
