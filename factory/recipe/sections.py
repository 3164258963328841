"""The sections of a recipe, with every field."""

import math
import shlex
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    field_validator,
    model_validator,
)

from factory.fingerprint import canonical

PAST_OFFSET = 1024
"""First draw of the past role where past and current are the same model: the two sets differ."""


JUDGE = "judge"
"""The name of the judge of the section `judge`, beside those of `judges`. A judge with a model of
its own is a model of the judge's name, beside M_0, F_0, M_1, …"""


PROBE = "probe"
"""The name of the judge of the section `probe`."""


REFERENCE = "reference"
"""The role of the prompts' own reference answers, and the name under which no model gives them."""


Method = Literal["dpo", "sft"]
"""How a model is trained on what a policy chose: on pairs, or on the chosen answers alone."""


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class Model(Section):
    path: str
    """A folder (beginning with `.`, `/` or `~`, or existing beside the recipe), or a Hub
    repository `organisation/name`, of a causal language model with a chat template."""
    revision: str | None = None
    """The Hub revision: a commit, tag or branch. What was downloaded is what the digest covers."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The number type that the weights are run in; auto is what the model's config.json says."""
    adapter: str | None = None
    """A folder with a LoRA adapter, as PEFT saves it: M_0 is the model with this adapter on it."""

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class Prompts(Section):
    files: list[str] = Field(min_length=1)
    """JSONL files: each line an object with a `prompt` string or a `messages` list, and optionally
    reference, tools, template_kwargs, criteria, source, license, meta."""
    on_error: Literal["stop", "skip"] = "stop"
    """What a line that cannot be used does: stop the run before any generation, or be left out,
    counted and listed."""
    test_fraction: float = Field(default=0.1, ge=0, lt=1)
    """The share of prompts that is sampled, judged and paired, and never trained on."""
    source: str | None = None
    """The source of every line that names none."""
    license: str | None = None
    """The licence of every line that names none."""
    language: list[str] = []
    """The languages of the prompts, as ISO 639-1 has them (`en`): for a published dataset's
    card."""


class Loop(Section):
    policy: str = "temporal"
    """How pairs are chosen: the name of a file of `factory/policies/`, or a file of your own beside
    the recipe, ending in .sql."""
    iterations: int = Field(default=2, ge=1)
    """How many models are trained one upon the other: M_1 … M_n. The paper uses 2 for TSR."""
    chunks: int | None = Field(default=None, ge=1)
    """Into how many parts the prompts are cut, one for each iteration; as many as there are
    iterations if not set. Set it to keep finished iterations when you may want more of them."""

    @model_validator(mode="after")
    def _enough_chunks(self) -> "Loop":
        if self.chunks is not None and self.chunks < self.iterations:
            raise ValueError(f"chunks is {self.chunks}, expected at least {self.iterations}")
        return self

    @property
    def n_chunks(self) -> int:
        return self.chunks or self.iterations


_Tag = Annotated[str, Field(min_length=1)]


class Generation(Section):
    """How a model writes. The defaults are borrowed: TSR publishes none."""

    temperature: FiniteFloat = Field(default=0.8, ge=0)
    """Borrowed from Meta-Rewarding (arXiv 2407.19594), which draws K = 7 too. 0 is greedy."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Borrowed from Meta-Rewarding (arXiv 2407.19594)."""
    max_tokens: int = Field(default=1024, ge=1)
    """The longest answer, in tokens; ours."""
    top_k: int | None = Field(default=None, ge=0)
    """Only the k likeliest tokens are drawn from; 0 is all. What the model's generation_config
    says if not set, as are the next two; what came of it is shown by `factory plan`."""
    min_p: float | None = Field(default=None, ge=0, le=1)
    """Only tokens with this share of the likeliest one's probability are drawn; 0 is all."""
    repetition_penalty: float | None = Field(default=None, gt=0)
    """Divides the logits of tokens that were read or written before; 1 changes nothing."""
    reasoning: tuple[_Tag, _Tag] | None = None
    """The tags between which the model thinks aloud, such as ['<think>', '</think>']: what is
    between them is kept in a column of its own, and is no part of the answer."""

    @model_validator(mode="before")
    @classmethod
    def _tags_from_yaml(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("reasoning"), list):
            return {**value, "reasoning": tuple(value["reasoning"])}
        return value

    @property
    def asked(self) -> dict[str, Any]:
        """What decides a draw's distribution up to where it is cut off.

        The limit is left out, so that a finished answer keeps its ids under another limit; so is
        what changes nothing, so that a setting that was resolved to it is the same as none.
        """
        set_ = {name: value for name in NEUTRAL if (value := self.value(name)) is not None}
        tags = {} if self.reasoning is None else {"reasoning": list(self.reasoning)}
        return {"temperature": self.temperature, "top_p": self.top_p, **set_, **tags}

    def value(self, name: str) -> float | None:
        """One of the settings in NEUTRAL; None where it changes nothing."""
        value: float | None = getattr(self, name)
        return None if value == NEUTRAL[name] else value


NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""The settings that a model's generation_config decides where the recipe is silent, and the value
of each that changes nothing."""


class Sampling(Generation):
    draws: int = Field(default=7, ge=1, le=PAST_OFFSET)
    """K, answers per model and prompt: 7 in TSR (arXiv 2508.06026)."""

    @model_validator(mode="after")
    def _greedy_once(self) -> "Sampling":
        if self.temperature == 0 and self.draws > 1:
            raise ValueError(
                f"temperature is 0 with {self.draws} draws, which are one answer repeated: "
                "expected draws 1 or a temperature above 0"
            )
        return self


class Pairs(Section):
    """What a pair must be to be kept, and how candidates are ordered, whatever the policy. A change
    asks no model; inside the loop it is another set to train on. Fields that compare two sides are
    refused with a policy that has no rejected one."""

    score: str = Field(default="mean", min_length=1)
    """What decides: the mean of the valid judgments, or `expected`, the mean of `expected_score`;
    or an SQL expression over the judges by their names, such as `0.5 * judge + 0.5 * honest`: each
    is the mean of its judgments, with `_expected` added the mean of their `expected_score`. The
    columns of `candidates` are there too."""
    chosen_if: str | None = Field(default=None, min_length=1)
    """An SQL condition, over what `score` may name, that a chosen answer must meet: `correct = 1`
    makes the judge `correct` a gate."""
    rejected_if: str | None = Field(default=None, min_length=1)
    """The condition that a rejected answer must meet."""
    agree: list[str] = Field(default_factory=list)
    """Judges of which each must have scored the chosen side higher than the rejected one (as in
    CREAM, arXiv 2410.12735, and SCIR, arXiv 2502.08922, which keep what two judges agree on)."""
    min_margin: FiniteFloat = Field(default=0, ge=0)
    """The least difference of the two scores, on the judge's scale; 0 keeps any difference."""
    min_margin_to_noise: FiniteFloat = Field(default=0, ge=0)
    """The least margin as a multiple of the pooled standard deviation of the two sides' judgments;
    it takes judge.draws of 2 and more."""
    length_control: float | None = Field(default=None, ge=0, le=1)
    """ρ of Meta-Rewarding (arXiv 2407.19594, up to 0.4 there): chosen is the shortest of the top ρ
    of a role's range of scores, rejected the longest of the bottom ρ."""
    max_length_ratio: float = Field(default=math.inf, ge=1, allow_inf_nan=True)
    """The most that one side may be longer than the other, in tokens."""
    max_similarity: float = Field(default=1, ge=0, le=1)
    """The most that the two sides' sets of words may have in common, as a share of all their words
    (Jaccard's index)."""
    drop_truncated: bool = False
    """Answers that were cut off by max_tokens are no candidates."""
    ties: Literal["draw", "shorter", "longer", "hash"] = "draw"
    """Which of equal scores comes first: the lowest draw, the shorter or longer answer, or that of
    the lowest hash, which prefers nobody."""
    per_prompt: int = Field(default=1, ge=1)
    """How many pairs a prompt may give: the best and the worst, the second best and the second
    worst, …"""


class Probe(Section):
    """Prompts and a judge that never choose a pair, asked of every model of the loop."""

    files: list[str] = Field(min_length=1)
    """JSONL files, read as `prompts.files` are."""
    function: str
    """The judge: `file.py:function` or `module:function`."""
    timeout: float = Field(default=120, gt=0)
    """Seconds that the function may take for a row, as `judge.timeout`."""
    draws: int = Field(default=1, ge=1, le=PAST_OFFSET)
    """Answers per model and probe prompt, written as `sampling` says."""


PLACEHOLDERS = ("pairs", "parent", "out")
"""What a command of the user's own is told: a Parquet file with rows as TRL reads them, the folder
of the model to go on from, and the folder in which the trained one must lie in the end."""


class Train(Section):
    with_: Annotated[
        Literal["trl", "command", "manual", "scripted"],
        BeforeValidator(lambda value: "manual" if value == "hand" else value),
    ] = Field(default="trl", alias="with")
    """Who trains: TRL's DPOTrainer, or SFTTrainer where the policy has no rejected side; a
    `command` of your own; you (`manual`: the run stops, and continues after `factory adopt`; `hand`
    is accepted too); or nobody (`scripted`: for dry runs and tests)."""
    command: str | None = Field(default=None, min_length=1)
    """The line that trains, with `{pairs}` (a Parquet file of prompt, chosen and rejected as TRL
    reads them; of prompt and completion where the policy trains by SFT), `{parent}` (the model's
    folder) and `{out}` (where the trained one must lie in the end). It is run beside the recipe,
    without a shell; files beside the recipe that it names are part of what it is. What a run
    that broke off left in `{out}` is there when the next one begins, to go on from."""
    environment: str | None = None
    """The folder of a virtual environment of the command's own."""
    dpo: dict[str, Any] = Field(default_factory=dict)
    """Any fields of TRL's DPOConfig. Where the recipe is silent: beta 0.1 (borrowed: SR,
    Meta-Rewarding), learning_rate 1e-6 (borrowed: SR), num_train_epochs 1 (borrowed: TSR
    publishes none)."""
    sft: dict[str, Any] = Field(default_factory=dict)
    """Any fields of TRL's SFTConfig, for policies that train by SFT (rejection_sampling); `dpo` is
    then not read, and this is not read by the others. Where the recipe is silent: learning_rate
    5.5e-6 (borrowed: SR's SFT, 5.5e-6 → 1.1e-6), num_train_epochs 1 (ours)."""
    checkpoint_seconds: float = Field(default=600, gt=0)
    """How often a checkpoint is written to go on from after a kill, where `dpo` or `sft` does not
    set TRL's own `save_…` fields."""
    lora: dict[str, Any] | None = None
    """Any fields of PEFT's LoraConfig: an adapter is trained instead of all weights, and one engine
    then holds every role. Where the recipe is silent: r 16, lora_alpha 32, target_modules
    all-linear (ours), and a learning_rate of ten times that of full tuning: 1e-5 in `dpo`, 5.5e-5
    in `sft`."""
    launcher: list[str] = Field(default_factory=list)
    """Arguments for `accelerate launch`, which starts the trainer where any are given."""

    @model_validator(mode="after")
    def _command_is_whole(self) -> "Train":
        if (self.with_ == "command") != (self.command is not None):
            raise ValueError(
                f"with is {self.with_} and command is {'not ' * (not self.command)}set: a command "
                "of your own takes both, with: command and the line"
            )
        for place in PLACEHOLDERS if self.command else ():
            if f"{{{place}}}" not in str(self.command):
                raise ValueError(f"command: {{{place}}} is missing in it")
        try:
            shlex.split(self.command or "")
        except ValueError as error:
            raise ValueError(f"command: cannot be read as words ({error})") from None
        return self

    @field_validator("dpo", "sft", "lora")
    @classmethod
    def _canonical(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        for name, setting in (value or {}).items():
            try:
                canonical(setting)
            except TypeError as error:
                raise ValueError(f"{name}: {error}") from None
        return value

    def fields(self, method: Method) -> dict[str, Any]:
        """The recipe's fields of TRL's config for a method."""
        return self.dpo if method == "dpo" else self.sft


class StopIf(Section):
    """Limits at which a run stops before it costs more; none is set by itself. What was finished is
    kept."""

    truncated: float | None = Field(default=None, ge=0, le=1)
    """The share of a step's answers that max_tokens cut off."""
    unparsed: float | None = Field(default=None, ge=0, le=1)
    """The share of a step's judgments without a score."""
    ties: float | None = Field(default=None, ge=0, le=1)
    """The share of a step's considered pairs that are ties."""
    probe_falls: int | None = Field(default=None, ge=1)
    """How often in a row the probe's score falls from M_i to M_i+1."""

    @property
    def is_on(self) -> bool:
        return any(value is not None for _, value in self)


class Shards(Section):
    rows: int = Field(default=5000, ge=1)
    """Finished rows that make a shard."""
    seconds: float = Field(default=60, gt=0)
    """The longest that a finished row waits for its shard: what a kill can cost."""
