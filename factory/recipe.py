"""The recipe: one YAML file with everything that decides the data, and how it is run.

Reading it touches no model and no lake. Every field says what it does; `SIDES` says of every field
whether it bears identity (a change makes the named stages again) or only decides how the work is
run (a change makes nothing again). Paths in a recipe are relative to the recipe's own folder.
"""

import difflib
import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    field_validator,
    model_validator,
)

from factory.errors import RecipeError
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


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class Model(_Section):
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


class TransformersEngine(_Section):
    name: Literal["transformers"] = "transformers"
    device: str = "auto"
    """auto takes the first GPU if there is one, else the CPU."""
    batch_size: int = Field(default=64, ge=1)
    """Sequences that are decoded together."""
    window: int = Field(default=16, ge=1)
    """How many batches are read ahead and sorted by length."""


class _Processes(_Section):
    """Engines that run in processes of their own."""

    max_restarts: int = Field(default=3, ge=0)
    """How often an engine that died is started again before the run stops."""
    hang_seconds: float = Field(default=600, gt=0)
    """An engine that has work and has made no token for so long is taken for dead."""


class ScriptedEngine(_Processes):
    name: Literal["scripted"]
    script: str | None = None
    """`file.py:function` (messages, seed → text) that answers; a few seeded words if not set."""
    delay: float = Field(default=0, ge=0)
    """Seconds that each answer takes."""
    replicas: int | None = Field(default=None, ge=1)
    """Processes that answer beside each other; none of its own if not set."""


class VllmEngine(_Processes):
    """vLLM, offline. Beside the fields here, every argument of vLLM's EngineArgs: those in
    VLLM_IDENTITY decide what is sampled, the others how it is run."""

    model_config = ConfigDict(extra="allow")

    name: Literal["vllm"]
    replicas: Literal["auto"] | int = "auto"
    """Engines beside each other, each with GPUs of its own; auto is as many as there are groups of
    tensor_parallel_size × pipeline_parallel_size GPUs (without a GPU: one)."""

    @field_validator("replicas")
    @classmethod
    def _at_least_one(cls, value: Literal["auto"] | int) -> Literal["auto"] | int:
        if isinstance(value, int) and value < 1:
            raise ValueError(f"got {value}, expected auto or 1 and more")
        return value

    @property
    def arguments(self) -> dict[str, Any]:
        """vLLM's own, as the recipe sets them."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def group_size(self) -> int:
        """GPUs of one engine. Raises RecipeError where one of the two sizes is no number."""
        names = ("tensor_parallel_size", "pipeline_parallel_size")
        return math.prod(int(self.number(name, 1)) for name in names)

    def number(self, name: str, default: float) -> float:
        """One of vLLM's own arguments; RecipeError where it is not a number above 0."""
        value = self.arguments.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise RecipeError(f"engine.{name}: got {value!r}, expected a number above 0")
        return value


class OpenaiEngine(_Section):
    """Any server that speaks OpenAI's chat completions, `vllm serve` among them.

    What the server really runs cannot be checked: its name for the model is part of what bears
    identity, and no more is known. Adapters are asked for by name, and given to the server as
    vLLM takes them (`--enable-lora`, VLLM_ALLOW_RUNTIME_LORA_UPDATING).
    """

    name: Literal["openai"]
    base_url: str = Field(pattern=r"^https?://[^\s/]+")
    """Where it answers, `http://localhost:8000/v1`."""
    model: str
    """What the server calls M_0."""
    key: str = Field(default="OPENAI_API_KEY", pattern=r"^[A-Z_][A-Z0-9_]*$")
    """The environment variable that holds the key; the key itself is written nowhere."""
    concurrency: int = Field(default=64, ge=1)
    """Requests that are in flight at once."""
    timeout: float = Field(default=600, gt=0)
    """Seconds after which a request is given up, and asked again."""
    max_retries: int = Field(default=6, ge=0)
    """How often a request is asked again after 429, 5xx or a lost connection, each time later."""
    native_n: bool = True
    """Whether the server draws several answers to one request."""
    price_prompt: float | None = Field(default=None, ge=0)
    """What a million tokens of prompts cost, in any currency; shown in sums and nowhere else."""
    price_generated: float | None = Field(default=None, ge=0)
    """What a million generated tokens cost."""


def _named(value: Any) -> Any:
    return {"name": "transformers", **value} if isinstance(value, dict) else value


Engine = Annotated[
    TransformersEngine | ScriptedEngine | VllmEngine | OpenaiEngine,
    Field(discriminator="name"),
    BeforeValidator(_named),
]
"""What answers; `transformers` if it has no name."""


class Prompts(_Section):
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


class Loop(_Section):
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


class Generation(_Section):
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


class Judge(Generation):
    rubric: str = "additive"
    """The judge prompt, its parser and scale: a file, or the name of one in `factory/rubrics/`."""
    parser: str | None = None
    """A regular expression whose one group is the score; the rubric's own if not set."""
    scale: tuple[FiniteFloat, FiniteFloat] | None = None
    """Lowest and highest score; the rubric's own if not set (for a function: any number)."""
    draws: int = Field(default=3, ge=1)
    """Judgments per answer, averaged: 3 in SR (arXiv 2401.10020); TSR publishes none."""
    expected_score: bool = False
    """Keeps the log-probabilities of the rubric's labels where the score stands, and makes
    `expected_score` of them beside the score that was drawn."""
    constrained: bool = False
    """The judgment is one of the rubric's labels and nothing else; for rubrics that ask for a
    number only."""
    function: str | None = None
    """`file.py:function` or `module:function` instead of a model: rows in, one number a row out.
    The model and its rubric are then not used, and there is one judgment an answer."""
    by: Literal["current", "previous"] = "current"
    """Which model of the loop judges, where the judge has none of its own: M_i, or the one before
    it (in iteration 0: M_0, whose judgments are then the current one's), as CREAM compares them
    (arXiv 2410.12735)."""
    timeout: float = Field(default=120, gt=0)
    """Seconds that the function may take for a row, after which the row has failed; ours. Rows are
    given to it in batches, which are kept within the limit too. The import of its file is not
    counted: load there what takes long."""
    model: Model | None = None
    """A fixed judge: this model instead of the current one, the same in all iterations."""
    reward_model: Model | None = None
    """A sequence-classification model of `transformers` with one label, whose number is the score;
    there is no rubric, and one judgment an answer."""
    declared: str | None = Field(default=None, min_length=1)
    """The revision of a judge of which only a server has the weights, as whoever runs it declares
    it; nothing can verify it. Takes an openai engine of its own, whose `model` is its name."""
    engine: Engine | None = None
    """What runs the judge's own model, where it is not what `engine` says: a large judge takes
    several GPUs, where each of them holds a whole small model."""
    opponents: int = Field(default=2, ge=1)
    """Of a rubric that compares two answers: with how many of the current model's first answers to
    the prompt each other answer is compared, in both orders; ours."""

    @model_validator(mode="before")
    @classmethod
    def _scale_from_yaml(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("scale"), list):
            return {**value, "scale": tuple(value["scale"])}
        return value

    @model_validator(mode="after")
    def _scale_rises(self) -> "Judge":
        if self.scale is not None and self.scale[0] >= self.scale[1]:
            raise ValueError(f"scale is {list(self.scale)}, expected [lowest, highest]")
        return self

    @model_validator(mode="after")
    def _greedy_once(self) -> "Judge":
        if self.temperature == 0 and self.n_draws > 1:
            raise ValueError(
                f"temperature is 0 with {self.draws} draws, which are one judgment repeated: "
                "expected draws 1 or a temperature above 0"
            )
        return self

    @model_validator(mode="after")
    def _one_judge(self) -> "Judge":
        own = [field for field in OWN_JUDGES if getattr(self, field) is not None]
        if len(own) > 1:
            raise ValueError(
                f"{own[0]} and {own[1]} are both set, expected one judge: take one out"
            )
        if own and self.by != "current":
            raise ValueError(
                f"by is {self.by} and {own[0]} is set, expected one judge: take one out"
            )
        if self.engine is not None and (not own or own == ["function"]):
            raise ValueError(
                "engine is set and model is not: a judge that is the current model runs where it "
                "is sampled; name the judge's own model, or take the engine out"
            )
        if self.reward_model is not None and not isinstance(
            self.engine, TransformersEngine | NoneType
        ):
            raise ValueError("reward_model: takes the transformers engine; take the engine out")
        if self.declared is not None and not isinstance(self.engine, OpenaiEngine):
            raise ValueError(
                "declared: takes an openai engine in the same section, with the server's name for "
                "the judge"
            )
        return self

    @property
    def has_model(self) -> bool:
        """Whether it judges with a model of its own, the same in all iterations."""
        return self.function is None and any(
            getattr(self, field) is not None for field in OWN_JUDGES
        )

    @property
    def has_rubric(self) -> bool:
        """Whether it is asked for words, and not for a number."""
        return self.function is None and self.reward_model is None

    @property
    def n_draws(self) -> int:
        """Judgments of an answer; of a comparison, for each of the two orders."""
        return self.draws if self.has_rubric else 1


RESERVED = frozenset(
    (
        *(JUDGE, PROBE, "function", "mean", "expected"),
        *("iteration", "role", "name", "parser", "split", "prompt_id", "sample_id", "request_id"),
        *("draw", "model", "sampling", "text", "tool_calls", "reasoning", "finish_reason"),
        *("n_prompt_tokens", "n_cached_tokens", "n_tokens", "cumulative_logprob"),
        *("engine", "engine_version", "dtype", "error", "error_kind"),
        *("score", "expected_score", "spread", "n_judgments", "n_unparsed"),
    )
)
"""What no judge of `judges` can be called: in `pairs.score` these names mean something else."""

OWN_JUDGES = ("function", "model", "reward_model", "declared")
"""The fields of a judge that say who judges instead of a model of the loop."""


class Pairs(_Section):
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


class Probe(_Section):
    """Prompts and a judge that never choose a pair, asked of every model of the loop."""

    files: list[str] = Field(min_length=1)
    """JSONL files, read as `prompts.files` are."""
    function: str
    """The judge: `file.py:function` or `module:function`."""
    timeout: float = Field(default=120, gt=0)
    """Seconds that the function may take for a row, as `judge.timeout`."""
    draws: int = Field(default=1, ge=1, le=PAST_OFFSET)
    """Answers per model and probe prompt, written as `sampling` says."""


PLACES = ("pairs", "parent", "out")
"""What a command of the user's own is told: a Parquet file with rows as TRL reads them, the folder
of the model to go on from, and the folder in which the trained one must lie in the end."""


class Train(_Section):
    with_: Literal["trl", "command", "hand", "scripted"] = Field(default="trl", alias="with")
    """Who trains: TRL's DPOTrainer, or SFTTrainer where the policy has no rejected side; a
    `command` of your own; you, by `hand` (the run stops, and goes on after `factory adopt`); or
    nobody (`scripted`: for dry runs and tests)."""
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
        for place in PLACES if self.command else ():
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


VLLM_IDENTITY = (
    "config_format",
    "hf_config_path",
    "hf_overrides",
    "kv_cache_dtype",
    "kv_cache_dtype_skip_layers",
    "load_format",
    "logits_processors",
    "lora_dtype",
    "mamba_cache_dtype",
    "mamba_ssm_cache_dtype",
    "model_class_overrides",
    "model_impl",
    "quantization",
    "quantization_config",
    "reasoning_parser",
    "reasoning_parser_plugin",
    "speculative_config",
    "spec_method",
    "spec_model",
    "spec_tokens",
    "tokenizer_mode",
    "watermark_config",
)
"""Arguments of vLLM that change what is sampled: weights or keys and values in other numbers,
another configuration, tokens other than the model alone would draw. They are part of the models'
digests. The rest (memory, parallel sizes, batch limits, …) is how it is run."""


class StopIf(_Section):
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


class Shards(_Section):
    rows: int = Field(default=5000, ge=1)
    """Finished rows that make a shard."""
    seconds: float = Field(default=60, gt=0)
    """The longest that a finished row waits for its shard: what a kill can cost."""


class Recipe(_Section):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)
    """Names the dataset's folder: lower-case letters, digits, `-`, `_`, `.`."""
    seed: int = Field(default=0, ge=0)
    """Every draw's seed is a hash of this, the model, the sampling and the prompt, plus the
    draw."""
    model: Model
    """M_0: the model that the loop starts from, and that every rejected answer is anchored to."""
    prompts: Prompts
    loop: Loop = Loop()
    sampling: Sampling = Sampling()
    judge: Judge = Judge()
    judges: dict[str, Judge] = Field(default_factory=dict)
    """More judges, by names of their own, each with the fields of `judge`: `pairs` may combine
    them, `factory sql` compares them."""
    pairs: Pairs = Pairs()
    probe: Probe | None = None
    train: Train = Train()
    engine: Engine = TransformersEngine()
    shards: Shards = Shards()
    max_failed: float = Field(default=0.05, ge=0, le=1)
    """The share of a step's requests that may fail before the run stops."""
    stop_if: StopIf = StopIf()
    query_memory: str | None = Field(default=None, pattern=r"^[1-9][0-9]*(\.[0-9]+)? ?[KMGT]i?B$")
    """The most memory that queries over the lake hold, as 4GB or 500MiB: what is more goes to files
    in the system's temporary folder (TMPDIR), as far as DuckDB can (a choice of pairs needs some
    200 MB for 60,000 prompts). Where it is silent, DuckDB takes up to 80 % of the machine's. It
    limits no engine and no trainer."""
    folder: Path = Field(default=Path(), exclude=True)
    """Where the recipe lies; set by `load_recipe`."""

    @field_validator("judges")
    @classmethod
    def _judges_can_be_named(cls, value: dict[str, Judge]) -> dict[str, Judge]:
        for name in value:
            taken = name in RESERVED or name.endswith(("_expected", "_judgments"))
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or taken:
                raise ValueError(
                    f"got the name {name!r}, expected lower-case letters, digits and _ and none "
                    f"of {', '.join(sorted(RESERVED))}"
                )
        return value

    @model_validator(mode="after")
    def _judges_are_served(self) -> "Recipe":
        for name, judge in self.all_judges.items():
            if judge.model is not None and judge.engine is None and self.engine.name == "openai":
                raise ValueError(
                    f"{self.field_of(name)}.engine: missing, and engine.model is the server's name "
                    "for M_0: give the judge an engine of its own, with the server's name for it"
                )
        return self

    @model_validator(mode="after")
    def _scores_are_there(self) -> "Recipe":
        if self.pairs.score == "expected" and not (
            self.judge.expected_score and self.judge.has_rubric
        ):
            raise ValueError(
                "pairs.score: got expected, which takes judge.expected_score: true and a judge "
                "that is a model"
            )
        if self.pairs.min_margin_to_noise and self.judge.n_draws < 2:
            raise ValueError(
                "pairs.min_margin_to_noise: takes judge.draws of 2 and more: a single judgment "
                "has no spread"
            )
        if self.pairs.min_margin_to_noise and self.pairs.score not in ("mean", "expected"):
            raise ValueError(
                "pairs.min_margin_to_noise: takes pairs.score mean or expected: the spread is that "
                "of one judge's judgments"
            )
        if unknown := [name for name in self.pairs.agree if name not in self.all_judges]:
            raise ValueError(
                f"pairs.agree: got {unknown[0]!r}, expected names of {', '.join(self.all_judges)}"
            )
        return self

    @property
    def all_judges(self) -> dict[str, Judge]:
        """Every judge that may choose pairs, by name."""
        return {JUDGE: self.judge, **self.judges}

    @staticmethod
    def field_of(judge: str) -> str:
        """The section of a judge, as people write it."""
        return judge if judge == JUDGE else f"judges.{judge}"

    def beside(self, word: str) -> Path | None:
        """The file that a word names, if it lies in the recipe's folder."""
        try:
            file = self.resolve(word)
            is_here = file.is_relative_to(self.folder.resolve()) and file.is_file()
        except (OSError, ValueError, RuntimeError):  # too long, or no word of a path
            return None
        return file if is_here else None

    def model_of_judge(self, name: str) -> str:
        """The name of the model that a judge with a model of its own is: that of the first judge
        with the same one, which is then loaded once for both."""
        mine = self.all_judges[name]
        own = (mine.model, mine.reward_model, mine.declared, mine.engine)
        for other, judge in self.all_judges.items():
            if (judge.model, judge.reward_model, judge.declared, judge.engine) == own:
                return other
        raise AssertionError(f"{name} is one of the judges")

    def engine_of(self, name: str) -> Engine:
        """What runs a model: a judge's own may have an engine of its own."""
        judge = self.all_judges.get(name)
        if judge is not None and judge.reward_model is not None:
            return judge.engine or TransformersEngine()
        return (judge and judge.engine) or self.engine

    @property
    def one_engine(self) -> bool:
        """Whether one engine holds every role but judges with models of their own: trained models
        are adapters, asked for by name."""
        return self.train.lora is not None and self.engine.name in ("vllm", "openai")

    def resolve(self, path: str) -> Path:
        return (self.folder / Path(path).expanduser()).resolve()


SIDES: dict[str, tuple[str, ...]] = {
    # Bears identity: a change makes these stages again, and what they change after them.
    "seed": ("samples", "judgments", "train"),
    "model.path": ("samples", "judgments"),  # by the model's digest, not by where it lies
    "model.revision": ("samples", "judgments"),
    "model.dtype": ("samples", "judgments"),
    "model.adapter": ("samples", "judgments"),
    "prompts.files": ("prompts",),
    "prompts.on_error": ("prompts",),
    "prompts.source": ("prompts",),
    "prompts.license": ("prompts",),
    "prompts.test_fraction": ("pairs",),
    "loop.policy": ("pairs",),
    "loop.iterations": ("pairs",),
    "loop.chunks": ("pairs",),
    "sampling.temperature": ("samples",),
    "sampling.top_p": ("samples",),
    "sampling.top_k": ("samples",),
    "sampling.min_p": ("samples",),
    "sampling.repetition_penalty": ("samples",),
    "sampling.reasoning": ("samples",),
    "sampling.max_tokens": ("prompts", "samples"),  # prompts too long for it are refused
    "judge.temperature": ("judgments",),
    "judge.top_p": ("judgments",),
    "judge.top_k": ("judgments",),
    "judge.min_p": ("judgments",),
    "judge.repetition_penalty": ("judgments",),
    "judge.reasoning": ("judgments",),
    "judge.max_tokens": ("judgments",),
    "judge.expected_score": ("judgments",),
    "judge.constrained": ("judgments",),
    "judge.rubric": ("judgments", "verdicts"),  # its prompt, and its parser and scale, apart
    "judge.function": ("judgments",),
    "judge.by": ("judgments",),
    "judge.declared": ("judgments",),
    "judges": ("judgments", "verdicts"),  # each field as that of `judge`
    "judge.parser": ("verdicts",),
    "judge.scale": ("verdicts",),
    **{f"pairs.{name}": ("pairs",) for name in Pairs.model_fields},
    "probe.files": ("prompts",),
    "probe.function": ("judgments",),
    "engine.script": ("samples", "judgments"),  # it is what answers
    "engine.model": ("samples", "judgments"),  # the server's name for it
    "train.with": ("train",),
    "train.lora": ("train",),
    "train.command": ("train",),
    "train.dpo": ("train",),  # but for the fields that `stages.train` lists as how it is run
    "train.sft": ("train",),  # the same; each of a policy that trains so
    # Outside every key: only the rows that are missing are asked for, and what reads the rows
    # changes with them.
    "sampling.draws": (),
    "judge.draws": (),
    "judge.opponents": (),
    "probe.draws": (),
    # How it is run.
    "name": (),
    "prompts.language": (),
    "max_failed": (),
    "judge.timeout": (),
    "probe.timeout": (),
    "query_memory": (),
    **{f"stop_if.{name}": () for name in StopIf.model_fields},
    "train.checkpoint_seconds": (),
    "train.launcher": (),
    "train.environment": (),
    "engine.name": (),  # but for scripted, whose answers are no model's
    "engine.device": (),
    "engine.batch_size": (),
    "engine.window": (),
    "engine.delay": (),
    "engine.replicas": (),
    "engine.max_restarts": (),
    "engine.hang_seconds": (),
    "engine.base_url": (),
    "engine.key": (),
    "engine.concurrency": (),
    "engine.timeout": (),
    "engine.max_retries": (),
    "engine.native_n": (),
    "engine.price_prompt": (),
    "engine.price_generated": (),
    "shards.rows": (),
    "shards.seconds": (),
}
SIDES |= {
    f"judge.{place}{field}": ("judgments",) if stages else ()
    for field, stages in SIDES.items()
    for place in ("", *(["reward_"] if field.startswith("model.") else []))
    if field.startswith(("model.", "engine."))
}
"""Every field of a recipe and the stages whose keys it enters; tested field by field. vLLM's own
arguments are told apart by VLLM_IDENTITY."""


def resolved(recipe: Recipe, said: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """The recipe with what models' generation_config says where it is silent (NEUTRAL): `said` is
    that of M_0 by `sampling`, and that of each judge by its name."""

    def section(name: str, written: _Generates) -> _Generates:
        config = said.get(name, {})
        fields = {
            field: config[field]
            for field in NEUTRAL
            if getattr(written, field) is None and _is_number(config.get(field))
        }
        return written.model_copy(update=fields)

    return recipe.model_copy(
        update={
            "sampling": section("sampling", recipe.sampling),
            "judge": section(JUDGE, recipe.judge),
            "judges": {name: section(name, judge) for name, judge in recipe.judges.items()},
        }
    )


_Generates = TypeVar("_Generates", bound=Generation)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Reads and checks a recipe; `overrides` are `field.of.section=value`, the value in YAML.

    Raises RecipeError with the file, the field, what came and what was expected.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file; expected a recipe (YAML)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as a recipe: {error}") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not valid YAML: {_one_line(error)}") from None
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: got {_show(data)}, expected a mapping of fields")
    for override in overrides or []:
        _apply(data, override)
    if "folder" in data:
        raise RecipeError(f"{path}: folder: unknown field")
    try:
        return Recipe.model_validate({**data, "folder": path.resolve().parent})
    except ValidationError as error:
        raise RecipeError("\n".join(_sentences(path, error))) from None


def recipe_of_training(model: str, overrides: list[str] | None = None) -> Recipe:
    """A recipe for a training alone, of a model named as from the current folder; nothing but
    `model`, `seed` and `train` of it means anything. Raises RecipeError as `load_recipe`."""
    data: dict[str, Any] = {"model": model}
    for override in overrides or []:
        if override.partition("=")[0].partition(".")[0] not in ("model", "seed", "train"):
            raise RecipeError(
                f"--set {override}: expected a field of a recipe's train or model, or seed: "
                "train.dpo.beta=0.05"
            )
        _apply(data, override)
    unused = {"name": "training", "prompts": {"files": ["none"]}, "folder": Path.cwd()}
    try:
        return Recipe.model_validate({**unused, **data})
    except ValidationError as error:
        raise RecipeError("\n".join(_sentences(Path("--set"), error))) from None


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice and reads 1e-6 as the number it is."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith(":merge"):
                raise yaml.YAMLError(f"line {line}: expected the name of a field before the colon")
            if key_node.value in seen:
                raise yaml.YAMLError(f"line {line}: the field {key_node.value} is given twice")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _apply(data: dict[str, Any], override: str) -> None:
    field, equals, text = override.partition("=")
    if not equals or not field:
        raise RecipeError(f"--set {override}: expected field.of.section=value")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {override}: not valid YAML: {_one_line(error)}") from None
    *sections, last = field.split(".")
    for section in sections:
        inner = data.get(section)
        if section == "model" and isinstance(inner, str):
            inner = {"path": inner}
        if inner is not None and not isinstance(inner, dict):
            raise RecipeError(f"--set {override}: {section} is {_show(inner)}, not a section")
        data[section] = dict(inner or {})
        data = data[section]
    data[last] = value


def _sentences(path: Path, error: ValidationError) -> list[str]:
    sentences = []
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"])
        for variant in ("transformers", "scripted", "vllm", "openai"):
            field = field.replace(f"engine.{variant}", "engine")
        got = _show(problem["input"])
        match problem["type"]:
            case "extra_forbidden":
                alike = re.sub(r"^judges\.[^.]+\.", "judge.", field)
                section, known = alike.rpartition(".")[0], _siblings(alike)
                near = difflib.get_close_matches(alike.rpartition(".")[2], known, n=1, cutoff=0.7)
                hint = f"; expected one of {', '.join(known)}"
                if near:
                    hint = f"; did you mean {f'{section}.' if section else ''}{near[0]}?"
                sentences.append(f"{path}: {field}: unknown field{hint}")
            case "missing":
                sentences.append(f"{path}: {field}: missing, and it has no default")
            case "value_error":
                message = str(problem["ctx"]["error"])
                sentences.append(f"{path}: {field or 'recipe'}: {message}")
            case "model_type" | "model_attributes_type":
                sentences.append(f"{path}: {field}: got {got}, expected a section of fields")
            case "union_tag_invalid":
                expected = problem["ctx"]["expected_tags"].replace("'", "")
                sentences.append(f"{path}: {field}.name: got {got}, expected one of {expected}")
            case "string_pattern_mismatch":
                pattern = problem["ctx"]["pattern"]
                sentences.append(f"{path}: {field}: got {got}, expected text like {pattern}")
            case _:
                message = problem["msg"].replace("Input should be ", "")
                sentences.append(f"{path}: {field}: got {got}, expected {message}")
    return sentences


def _fields() -> list[str]:
    return [*SIDES, *sorted({name.split(".")[0] for name in SIDES if "." in name})]


def _siblings(field: str) -> list[str]:
    """The names of the fields of the section of one."""
    section = field.rpartition(".")[0]
    names = [name for name in _fields() if name.rpartition(".")[0] == section]
    return [name.rpartition(".")[2] for name in names]


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def in_scale(score: float, scale: tuple[float, float] | None) -> bool:
    """Whether a score is a finite number within a scale; without a scale, any finite number."""
    return math.isfinite(score) and (scale is None or scale[0] <= score <= scale[1])
