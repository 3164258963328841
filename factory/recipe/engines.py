"""The sections of a recipe that configure an engine."""

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, field_validator

from factory.errors import RecipeError
from factory.recipe.sections import Section


class TransformersEngine(Section):
    name: Literal["transformers"] = "transformers"
    device: str = "auto"
    """auto takes the first GPU if there is one, else the CPU."""
    batch_size: int = Field(default=64, ge=1)
    """Sequences that are decoded together."""
    window: int = Field(default=16, ge=1)
    """How many batches are read ahead and sorted by length."""


class _Processes(Section):
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


class OpenaiEngine(Section):
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
