"""The recipe's `train` section, which decides how each model is trained."""

import shlex
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from factory.fingerprint import canonical
from factory.recipe.fields import HOW_RUN, Advanced, Decides, Hidden, InvalidField, Section

Method = Literal["dpo", "sft"]
"""Training method of a pair policy: `dpo` trains on pairs, `sft` only on the chosen answers."""


TRL_MAX_LENGTH = 1024
"""Default of max_length in TRL 1.16, in tokens."""


PLACEHOLDERS = ("pairs", "parent", "out")
"""Placeholders in `train.command`: the Parquet file with the training rows, the folder of the
parent model, and the folder for the trained model."""


class Train(Section):
    """Settings for training each model in the loop."""

    with_: Annotated[
        Literal["trl", "command", "manual", "scripted"],
        Hidden("scripted"),
        Advanced(scripted="Write a placeholder for the scripted engine instead of training."),
        BeforeValidator(lambda value: "manual" if value == "hand" else value),
        Decides("train"),
    ] = Field(default="trl", alias="with")
    """Trainer. `trl` runs TRL's DPOTrainer, or its SFTTrainer if the policy has no rejected side.
    `command` runs your own command line. With `manual`, the run stops, you train the model
    yourself, and the run continues after `factory adopt`. `hand` means the same as `manual`."""
    command: Annotated[str | None, Decides("train")] = Field(default=None, min_length=1)
    """Your own command line that trains a model, for `with: command`. It must contain three
    placeholders. `{pairs}` is a Parquet file with the columns prompt, chosen, and rejected (prompt
    and completion for SFT), in TRL's format. `{parent}` is the folder of the model to train.
    `{out}` is the folder for the trained model. The command runs in the recipe's folder, without a
    shell. If the command names files in that folder, changing them retrains the model. After an
    interruption, the next run keeps the files in `{out}`, so that the command can resume."""
    environment: Annotated[str | None, HOW_RUN] = None
    """Folder of a virtual environment for `train.command`."""
    dpo: Annotated[dict[str, Any], Decides("train")] = Field(default_factory=dict)
    """Fields of TRL's DPOConfig. Defaults: `beta` 0.1 and `num_train_epochs` 1, as in the TSR
    paper, and `learning_rate` 1e-6 from Self-Rewarding (arXiv 2401.10020). The TSR paper uses the
    learning rate 5e-7, a batch of 32, a cosine schedule with 10% warm-up, and at most 2,048
    tokens, including up to 512 for the prompt. All other fields have TRL's defaults. Changing a
    field that only affects how the training runs, such as `logging_steps`, does not retrain the
    model."""
    sft: Annotated[dict[str, Any], Decides("train")] = Field(default_factory=dict)
    """Fields of TRL's SFTConfig, for policies that train by SFT, such as `rejection_sampling`. Such
    policies ignore `dpo`, and all others ignore `sft`. Defaults: `learning_rate` 5.5e-6 from
    Self-Rewarding (arXiv 2401.10020), and `num_train_epochs` 1, which is our choice, untested. The
    TSR paper trains M_0 by SFT with the learning rate 2e-6, 3 epochs, and a batch of 32."""
    checkpoint_seconds: Annotated[float, HOW_RUN] = Field(default=600, gt=0, le=1_000_000)
    """Seconds between the checkpoints of a training. An interrupted training resumes from its last
    checkpoint. Ignored if `dpo` or `sft` sets TRL's own `save_…` fields. The default is our choice,
    untested."""
    lora: Annotated[dict[str, Any] | None, Decides("train")] = None
    """Fields of PEFT's LoraConfig. If this field is set (`{}` is enough), the factory trains a LoRA
    adapter instead of all weights, and a single vllm or openai engine runs all roles. Defaults: `r`
    16, `lora_alpha` 32, and `target_modules` all-linear, which are our choice, untested. The
    default learning rate is then ten times higher (1e-5 in `dpo`, 5.5e-5 in `sft`), after "LoRA
    Without Regret" (Thinking Machines, 2025)."""
    launcher: Annotated[list[str], HOW_RUN] = Field(default_factory=list)
    """Arguments of `accelerate launch`, such as `[--num_processes, '2']`. If this list is not
    empty, `accelerate launch` starts the trainer."""

    @model_validator(mode="after")
    def _check_command(self) -> "Train":
        if self.with_ == "command" and self.command is None:
            raise InvalidField(
                "command",
                "the field is required if train.with is command",
                "set train.command to the command line that trains a model",
            )
        if self.with_ != "command" and self.command is not None:
            fault = f"the field has no effect if train.with is {self.with_}"
            raise InvalidField("command", fault, "remove the field, or set train.with to command")
        for name in PLACEHOLDERS if self.command else ():
            if f"{{{name}}}" not in str(self.command):
                raise InvalidField(
                    "command",
                    f"the command line lacks the placeholder {{{name}}}",
                    f"add {{{name}}} to the command line",
                )
        try:
            shlex.split(self.command or "")
        except ValueError as error:
            fault = f"the command line cannot be split into words ({error})"
            raise InvalidField(
                "command", fault, "quote the words as you would in a shell"
            ) from None
        return self

    @field_validator("dpo", "sft", "lora")
    @classmethod
    def _canonical(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        for name, setting in (value or {}).items():
            try:
                canonical(setting)
            except TypeError:
                raise InvalidField(
                    name,
                    f"got {setting!r}",
                    "expected a string, a finite number, a boolean, null, or a list or mapping "
                    "of such values",
                ) from None
        return value

    def fields(self, method: Method) -> dict[str, Any]:
        """Return the TRL config fields that the recipe sets for a training method, DPO or SFT."""
        return self.dpo if method == "dpo" else self.sft
