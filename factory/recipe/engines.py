"""Settings for the engines that a recipe can select: transformers, vllm, openai, and scripted."""

import math
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from factory.errors import RecipeError
from factory.recipe.fields import (
    ADVANCED,
    HIDDEN,
    HOW_RUN,
    OWN,
    Decides,
    InvalidField,
    Section,
)
from factory.texts import mask_secrets, name_secret


class TransformersEngine(Section):
    """Settings of the transformers engine, which runs the model in the factory's own process."""

    name: Annotated[Literal["transformers"], HOW_RUN] = "transformers"
    """Selects the transformers engine. This is the default engine."""
    device: Annotated[str, HOW_RUN] = "auto"
    """PyTorch device that runs the model, such as `cuda:1`. `auto` selects the first GPU, or the
    CPU if there is no GPU."""
    batch_size: Annotated[int, HOW_RUN] = Field(default=64, ge=1, le=100_000)
    """Number of sequences that the engine decodes together. The default is our choice, untested."""
    window: Annotated[int, HOW_RUN, ADVANCED] = Field(default=16, ge=1, le=100_000)
    """Number of batches that the engine reads ahead and sorts by length, to reduce padding. The
    default is our choice, untested."""


class _Processes(Section):
    """Settings of the engines that run in separate processes."""

    max_restarts: Annotated[int, HOW_RUN] = Field(default=3, ge=0, le=10_000)
    """Number of times that the factory restarts a dead engine process before the run stops. The
    default is our choice, untested."""
    hang_seconds: Annotated[float, HOW_RUN] = Field(default=600, gt=0, le=1_000_000)
    """Seconds without a new token after which the factory treats a busy engine process as dead. The
    default is our choice, untested."""


class ScriptedEngine(_Processes):
    """Settings of the scripted engine, which calls a Python function instead of a model.

    Use it to try out a recipe without a GPU.
    """

    # `name` is marked HOW_RUN because the digest of a scripted model already includes the script.
    name: Annotated[Literal["scripted"], HOW_RUN]
    """Selects the scripted engine."""
    script: Annotated[str | None, Decides(OWN)] = None
    """Function that answers, as `file.py:function`. It takes the messages and a seed, and returns
    the text of the answer. By default, the engine answers with a few random words and a score."""
    delay: Annotated[float, HOW_RUN, HIDDEN] = Field(default=0, ge=0, le=1_000_000)
    """Seconds to wait before each answer, for tests."""
    replicas: Annotated[int | None, HOW_RUN, HIDDEN] = Field(default=None, ge=1, le=10_000)
    """Number of engine processes, for tests. By default, the engine runs in the factory's own
    process."""


class VllmEngine(_Processes):
    """Settings of the vLLM engine, which runs vLLM on this machine without a server.

    Every field that is not listed here is passed to vLLM's `EngineArgs`. Arguments that change what
    the model samples, such as `quantization` or `kv_cache_dtype`, are part of the model's digest.
    All other arguments only affect how the engine runs.
    """

    model_config = ConfigDict(extra="allow")

    name: Annotated[Literal["vllm"], HOW_RUN]
    """Selects the vLLM engine."""
    replicas: Annotated[Literal["auto"] | Annotated[int, Field(le=10_000)], HOW_RUN] = "auto"
    """Number of vLLM processes, each with its own GPUs. `auto` starts one process for every
    tensor_parallel_size × pipeline_parallel_size GPUs, or a single process if there is no GPU."""

    @field_validator("replicas")
    @classmethod
    def _at_least_one(cls, value: Literal["auto"] | int) -> Literal["auto"] | int:
        if isinstance(value, int) and value < 1:
            raise InvalidField("", f"got {value}", "expected auto or a positive integer")
        return value

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of vLLM's `EngineArgs` that the recipe sets."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def group_size(self) -> int:
        """The number of GPUs that one vLLM process uses.

        Raises RecipeError if one of the two parallel sizes is not a number above 0.
        """
        names = ("tensor_parallel_size", "pipeline_parallel_size")
        return math.prod(int(self.number(name, 1)) for name in names)

    def number(self, name: str, default: float) -> float:
        """Return a numeric vLLM argument from the recipe, or the default if the recipe does not set
        it.

        Raises RecipeError if the value is not a number above 0.
        """
        value = self.arguments.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise RecipeError(f"engine.{name}", f"got {value!r}", "expected a number above 0")
        return value


class OpenaiEngine(Section):
    """Settings of the openai engine, which sends requests to an OpenAI-compatible server.

    `vllm serve` is such a server. The factory cannot verify which weights the server runs, so the
    name under which the server serves a model is part of the model's identity. To use LoRA
    adapters, start vLLM with `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING. The factory then
    loads each adapter into the server and requests it by name.
    """

    name: Annotated[Literal["openai"], HOW_RUN]
    """Selects the openai engine."""
    base_url: Annotated[str, HOW_RUN] = Field(pattern=r"^https?://[^\s/]+")
    """URL of the server, such as `http://localhost:8000/v1`."""
    model: Annotated[str, Decides(OWN)]
    """Name under which the server serves M_0. In a judge's own engine section, the name under which
    it serves the judge."""
    key: Annotated[str, HOW_RUN] = Field(default="OPENAI_API_KEY", pattern=r"^[A-Z_][A-Z0-9_]*$")
    """Name of the environment variable that contains the API key. The key is never stored."""
    concurrency: Annotated[int, HOW_RUN] = Field(default=64, ge=1, le=10_000)
    """Maximum number of concurrent requests. The engine sends fewer if the server refuses some. The
    default is our choice, untested."""
    timeout: Annotated[float, HOW_RUN] = Field(default=600, gt=0, le=1_000_000)
    """Seconds after which the client cancels and retries a request. The default is our choice,
    untested."""
    max_retries: Annotated[int, HOW_RUN] = Field(default=6, ge=0, le=10_000)
    """Maximum number of retries after status 429, status 5xx, a timeout, or a lost connection. The
    engine waits as long as the server asks, or longer before each retry. The default is our choice,
    untested."""
    native_n: Annotated[bool, HOW_RUN, ADVANCED] = True
    """Whether one request may ask the server for several answers. Set it to false for a server that
    does not support the parameter `n`."""
    price_prompt: Annotated[float | None, HOW_RUN] = Field(default=None, ge=0, le=1_000_000)
    """Price of a million prompt tokens, in any currency. The factory uses it to show costs, and
    for `max_cost`."""
    price_generated: Annotated[float | None, HOW_RUN] = Field(default=None, ge=0, le=1_000_000)
    """Price of a million generated tokens, in the same currency as `price_prompt`."""
    max_cost: Annotated[float | None, HOW_RUN] = Field(default=None, ge=0, le=1_000_000_000)
    """Maximum cost of all requests of the recipe to this server, in the currency of the prices,
    including earlier runs on the same lake. Before it is exceeded, the run stops. A request counts
    at its largest possible cost until its answer arrives. Requires both prices."""

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        expected = "expected the address of an API, such as http://localhost:8000/v1"
        try:
            url = urlsplit(value)
            valid = bool(url.hostname) and url.port != 0 and not url.fragment
            (url.hostname or "").encode("idna")
        except ValueError:  # also of a host name that is too long or of a port above 65535
            valid = False
        if not valid or any(char.isspace() or not char.isprintable() for char in value):
            raise InvalidField("", f"got {mask_secrets(value)}", expected)
        if (path := url.path.rstrip("/")).endswith("/completions"):
            shorter = value.replace(path, path.removesuffix("/completions").removesuffix("/chat"))
            raise InvalidField("", "got the address of an endpoint", f"remove the end: {shorter}")
        return value

    @model_validator(mode="after")
    def _has_prices(self) -> Self:
        if self.max_cost is not None and None in (self.price_prompt, self.price_generated):
            missing = "price_prompt" if self.price_prompt is None else "price_generated"
            raise InvalidField(
                missing,
                "max_cost is set, but this price is not",
                "set price_prompt and price_generated, in the currency of max_cost",
            )
        return self

    def model_post_init(self, context: Any) -> None:
        name_secret(self.key)


def _named(value: Any) -> Any:
    return {"name": "transformers", **value} if isinstance(value, dict) else value


Engine = Annotated[
    TransformersEngine | ScriptedEngine | VllmEngine | OpenaiEngine,
    Field(discriminator="name"),
    BeforeValidator(_named),
]
"""The settings of one of the four engines. Without a `name`, these are the settings of the
transformers engine."""


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
"""Arguments of vLLM that change what the model samples, and are part of the model's digest. They
change the precision of the weights or of the KV cache, the configuration, or the sampled tokens.
All other arguments, such as memory, parallel sizes, and batch limits, only affect how vLLM runs."""
