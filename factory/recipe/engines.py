"""The sections of a recipe that configure an engine."""

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, field_validator

from factory.errors import RecipeError
from factory.recipe.fields import HIDDEN, HOW_RUN, OWN, Decides, InvalidField, Section


class TransformersEngine(Section):
    name: Annotated[Literal["transformers"], HOW_RUN] = "transformers"
    device: Annotated[str, HOW_RUN] = "auto"
    """Device that runs the model; auto takes the first GPU, or the CPU if there is none."""
    batch_size: Annotated[int, HOW_RUN] = Field(default=64, ge=1)
    """Number of sequences to decode together."""
    window: Annotated[int, HOW_RUN] = Field(default=16, ge=1)
    """Number of batches to read ahead and sort by length."""


class _Processes(Section):
    """Engines that run in processes of their own."""

    max_restarts: Annotated[int, HOW_RUN] = Field(default=3, ge=0)
    """Number of times to restart an engine that died before the run stops."""
    hang_seconds: Annotated[float, HOW_RUN] = Field(default=600, gt=0)
    """Seconds without a new token after which a busy engine counts as dead."""


class ScriptedEngine(_Processes):
    # `name` is how it is run, although a script's answers are no model's: the digest of a scripted
    # model says so by itself.
    name: Annotated[Literal["scripted"], HOW_RUN]
    script: Annotated[str | None, Decides(OWN)] = None
    """`file.py:function` (messages, seed → text) that answers; a few random words by default."""
    delay: Annotated[float, HOW_RUN, HIDDEN] = Field(default=0, ge=0)
    """Seconds per answer, for tests."""
    replicas: Annotated[int | None, HOW_RUN, HIDDEN] = Field(default=None, ge=1)
    """Number of processes, for tests; by default the engine runs in the factory's process."""


class VllmEngine(_Processes):
    """vLLM, offline. Takes every argument of vLLM's EngineArgs beside the fields here: those in
    VLLM_IDENTITY decide samples, the others only affect how it is run."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[Literal["vllm"], HOW_RUN]
    replicas: Annotated[Literal["auto"] | int, HOW_RUN] = "auto"
    """Number of engines, each with its own GPUs; auto is one for every group of
    tensor_parallel_size × pipeline_parallel_size GPUs (one without a GPU)."""

    @field_validator("replicas")
    @classmethod
    def _at_least_one(cls, value: Literal["auto"] | int) -> Literal["auto"] | int:
        if isinstance(value, int) and value < 1:
            raise InvalidField("", f"got {value}", "expected auto or a number of at least 1")
        return value

    @property
    def arguments(self) -> dict[str, Any]:
        """vLLM's own arguments, as the recipe sets them."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def group_size(self) -> int:
        """Number of GPUs of one engine. Raises RecipeError where one of the two sizes is not a
        number."""
        names = ("tensor_parallel_size", "pipeline_parallel_size")
        return math.prod(int(self.number(name, 1)) for name in names)

    def number(self, name: str, default: float) -> float:
        """Return one of vLLM's own arguments. Raises RecipeError unless it is a number above 0."""
        value = self.arguments.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise RecipeError(f"engine.{name}", f"got {value!r}", "expected a number above 0")
        return value


class OpenaiEngine(Section):
    """Any server with OpenAI's chat completions API, such as `vllm serve`.

    What the server really runs cannot be checked: the server's name for the model is part of what
    identifies the model, and nothing else is known. Adapters are requested by name, and sent to the
    server as vLLM takes them (`--enable-lora`, VLLM_ALLOW_RUNTIME_LORA_UPDATING).
    """

    name: Annotated[Literal["openai"], HOW_RUN]
    base_url: Annotated[str, HOW_RUN] = Field(pattern=r"^https?://[^\s/]+")
    """URL of the server, such as `http://localhost:8000/v1`."""
    model: Annotated[str, Decides(OWN)]
    """The server's name for M_0."""
    key: Annotated[str, HOW_RUN] = Field(default="OPENAI_API_KEY", pattern=r"^[A-Z_][A-Z0-9_]*$")
    """Environment variable with the API key; the key itself is never stored."""
    concurrency: Annotated[int, HOW_RUN] = Field(default=64, ge=1)
    """Maximum number of concurrent requests."""
    timeout: Annotated[float, HOW_RUN] = Field(default=600, gt=0)
    """Seconds after which a request is canceled and retried."""
    max_retries: Annotated[int, HOW_RUN] = Field(default=6, ge=0)
    """Maximum number of retries of a request after 429, 5xx, or a lost connection, with increasing
    delays."""
    native_n: Annotated[bool, HOW_RUN] = True
    """Whether the server draws several answers for one request."""
    price_prompt: Annotated[float | None, HOW_RUN] = Field(default=None, ge=0)
    """Price of a million prompt tokens, in any currency; only used to show costs."""
    price_generated: Annotated[float | None, HOW_RUN] = Field(default=None, ge=0)
    """Price of a million generated tokens."""


def _named(value: Any) -> Any:
    return {"name": "transformers", **value} if isinstance(value, dict) else value


Engine = Annotated[
    TransformersEngine | ScriptedEngine | VllmEngine | OpenaiEngine,
    Field(discriminator="name"),
    BeforeValidator(_named),
]
"""The engine that runs a model; `transformers` if it has no name."""


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
"""Arguments of vLLM that change what is sampled: another precision of the weights or of the KV
cache, another configuration, or other tokens than the model alone would draw. They are part of the
models' digests. All other arguments (memory, parallel sizes, batch limits, …) only affect how it is
run."""
