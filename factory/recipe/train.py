"""The section that says how models are trained."""

import shlex
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from factory.fingerprint import canonical
from factory.recipe.fields import HOW_RUN, Decides, Hidden, InvalidField, Section

Method = Literal["dpo", "sft"]
"""How a model is trained on the rows that a policy selects: on pairs, or on the chosen answers
alone."""


PLACEHOLDERS = ("pairs", "parent", "out")
"""The placeholders of a custom command: a Parquet file with rows as TRL reads them, the folder of
the parent model, and the folder for the trained model."""


class Train(Section):
    # `scripted` trains nothing. It is for tests.
    with_: Annotated[
        Literal["trl", "command", "manual", "scripted"],
        Hidden("scripted"),
        BeforeValidator(lambda value: "manual" if value == "hand" else value),
        Decides("train"),
    ] = Field(default="trl", alias="with")
    """What trains: TRL's DPOTrainer, or SFTTrainer where the policy has no rejected side; a
    `command` of your own; or you (`manual`: the run stops, and continues after `factory
    adopt`; `hand` is accepted too)."""
    command: Annotated[str | None, Decides("train")] = Field(default=None, min_length=1)
    """The command line that trains, with `{pairs}` (a Parquet file with prompt, chosen, and
    rejected as TRL reads them; with prompt and completion where the policy trains by SFT),
    `{parent}` (the model's folder), and `{out}` (the folder for the trained model). It runs in the
    recipe's folder, without a shell. Files in the recipe's folder that it names are part of the
    trained model's identity. If a run stops early, the next run finds the files in `{out}` and can
    resume from them."""
    environment: Annotated[str | None, HOW_RUN] = None
    """Folder of a virtual environment for the command."""
    dpo: Annotated[dict[str, Any], Decides("train")] = Field(default_factory=dict)
    """Any fields of TRL's DPOConfig. The defaults are beta 0.1 (borrowed from SR and
    Meta-Rewarding), learning_rate 1e-6 (borrowed from SR), and num_train_epochs 1 (ours, since TSR
    publishes none). Fields that only affect how the training is run, such as `logging_steps`, do
    not train a model again."""
    sft: Annotated[dict[str, Any], Decides("train")] = Field(default_factory=dict)
    """Any fields of TRL's SFTConfig, for policies that train by SFT (rejection_sampling); such
    policies ignore `dpo`, and all others ignore `sft`. The defaults are learning_rate 5.5e-6
    (borrowed from SR's SFT, 5.5e-6 → 1.1e-6) and num_train_epochs 1 (ours)."""
    checkpoint_seconds: Annotated[float, HOW_RUN] = Field(default=600, gt=0)
    """Seconds between checkpoints, from which a killed training resumes. Ignored where `dpo` or
    `sft` sets TRL's own `save_…` fields."""
    lora: Annotated[dict[str, Any] | None, Decides("train")] = None
    """Any fields of PEFT's LoraConfig. If set, an adapter is trained instead of all weights, and
    one engine holds every role. The defaults are r 16, lora_alpha 32, target_modules all-linear
    (ours), and a learning_rate ten times that of full tuning: 1e-5 in `dpo`, 5.5e-5 in `sft`."""
    launcher: Annotated[list[str], HOW_RUN] = Field(default_factory=list)
    """Arguments for `accelerate launch`. If set, it starts the trainer."""

    @model_validator(mode="after")
    def _check_command(self) -> "Train":
        if self.with_ == "command" and self.command is None:
            raise InvalidField("command", "missing", "train.with: command needs the line to run")
        if self.with_ != "command" and self.command is not None:
            fault = f"is set, and train.with is {self.with_}"
            raise InvalidField("command", fault, "remove it, or set train.with to command")
        for name in PLACEHOLDERS if self.command else ():
            if f"{{{name}}}" not in str(self.command):
                raise InvalidField("command", f"{{{name}}} is missing in it", f"add {{{name}}}")
        try:
            shlex.split(self.command or "")
        except ValueError as error:
            fault = f"cannot be read as words ({error})"
            raise InvalidField("command", fault, "expected a line as a shell splits it") from None
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
                    "expected a finite number, a text, true, false, null, or a list or mapping "
                    "of these",
                ) from None
        return value

    def fields(self, method: Method) -> dict[str, Any]:
        """Return the recipe's fields of TRL's config for a method."""
        return self.dpo if method == "dpo" else self.sft
