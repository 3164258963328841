"""The `openai` engine, a client of any server with OpenAI's chat completions API.

The client runs on an event loop in a separate thread. The caller's thread reads requests and yields
results in the order in which they finish. The engine cannot verify which model the server runs. It
recognizes vLLM by the server's list of models.

Results and errors never contain the API key, and results never contain the server's address.

vLLM 0.32 on a CPU applies an adapter to requests without an adapter if both are in one batch and
all adapter slots are in use (vllm-project/vllm#48421). Start such a server with `--max-loras` above
the number of adapters.
"""

import asyncio
import dataclasses
import itertools
import json
import os
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from factory.engines.protocol import ErrorKind, Request, Result, failures, runs
from factory.errors import EngineError, MissingExtra, one_line
from factory.models import Checkpoint, adapter_rank
from factory.recipe import NEUTRAL, OpenaiEngine

try:
    import openai
    from openai.types import Model
    from openai.types.chat import ChatCompletion

    from factory.engines.openai_answers import read_answers
except ImportError as missing:
    raise MissingExtra("openai", "openai") from missing

READ_AHEAD = 2
"""Number of requests to read per concurrent request, to keep the server busy while rows are
written."""

TOP_LOGPROBS = 20
"""Number of log-probabilities to request per token: the maximum of OpenAI's API and vLLM's default
maximum."""

LOOKS, PATIENCE = 2, 30.0
"""Retries and timeout (in seconds) of status requests, short so that a wrong address is reported
soon."""

NO_KEY = "none"
"""API key to send if the environment has none: the client requires a key, local servers ignore
it."""

WAKE = 1.0
"""Seconds after which a wait for answers times out and starts again. Without a timeout, an
interrupt that arrives just before the wait would be handled only after the next answer."""

UNFIT = (400, 413, 422)
"""HTTP statuses of requests that would fail again if retried."""

MILLION = 1_000_000
"""Number of tokens to which a price in the recipe refers."""

LONGEST_REASON = 300
"""Maximum length of a server's error message in a result, in characters."""


class _Server:
    """A server: its client, its models, and the translation of its errors."""

    def __init__(self, settings: OpenaiEngine) -> None:
        self.settings = settings
        self._key = os.environ.get(settings.key, "").strip()
        self.client = openai.AsyncOpenAI(
            base_url=settings.base_url,
            api_key=self._key or NO_KEY,
            timeout=settings.timeout,
            max_retries=settings.max_retries,
        )
        self._status_client = self.client.with_options(max_retries=LOOKS, timeout=PATIENCE)
        self._names: dict[str, str] = {}
        """Names of the models on the server, by the models' digests."""
        self._naming = asyncio.Lock()
        self.vllm = False
        """Whether the server runs vLLM."""
        self.version = openai.__version__
        self.context: int | None = None
        """Maximum number of tokens of a prompt and its answer; None if unknown."""

    async def look(self, models: Sequence[Checkpoint]) -> None:
        """Read the server's version and context length, and check that it can serve the models."""
        served = await self.models()
        model = self.settings.model
        if model not in served:
            names = ", ".join(itertools.islice(served, 10)) or "none"
            raise EngineError(
                "engine.model",
                f"the server at {self.settings.base_url} does not serve the model {model}",
                f"choose a model that the server serves ({names})",
            )
        self.context = getattr(served[model], "max_model_len", None)
        if served[model].owned_by == "vllm":
            self.vllm = True
            self.version = await self._vllm_version()
        for wanted in models:
            await self.name(wanted)

    async def models(self) -> dict[str, Model]:
        """Return the server's models by name. Raises EngineError if the server does not respond."""
        try:
            page = await self._status_client.models.list()
        except openai.APIError as error:
            raise self.fatal_error(error) from None
        return {model.id: model for model in getattr(page, "data", None) or []}

    async def _vllm_version(self) -> str:
        root = str(self.client.base_url).rstrip("/").removesuffix("/v1")
        try:
            info: Any = await self._status_client.get(f"{root}/version", cast_to=object)
        except openai.APIError:  # a gateway may hide paths that are not under /v1
            return "vllm"
        return f"vllm {info['version']}"

    async def name(self, model: Checkpoint) -> str:
        """Return the name under which the server serves a model, and load a missing adapter."""
        async with self._naming:
            if model.digest not in self._names:
                self._names[model.digest] = await self._find(model)
        return self._names[model.digest]

    async def _find(self, model: Checkpoint) -> str:
        if model.adapter is None:
            if model.name != "M_0" and not model.name.islower():
                raise EngineError(
                    "engine",
                    f"the server serves only {self.settings.model}, but {model.name} has different "
                    "weights",
                    "train adapters (set train.lora), or use the vllm engine",
                )
            return self.settings.model
        name = f"factory-{model.digest[:16]}"
        if name not in await self.models():
            await self._load(name, model, model.adapter)
        return name

    async def _load(self, name: str, model: Checkpoint, adapter: Path) -> None:
        body = {"lora_name": name, "lora_path": str(adapter.resolve())}
        once = self.client.with_options(max_retries=0)
        try:
            await once.post("/load_lora_adapter", body=body, cast_to=str)
        except openai.APIError as error:
            if name in await self.models():  # another process loaded it first
                return
            raise EngineError(
                "engine.base_url",
                f"the server at {self.settings.base_url} cannot load the adapter {model.name} "
                f"({self.describe(error)})",
                "restart vLLM with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, --enable-lora, and "
                f"--max-lora-rank {adapter_rank(adapter)} or higher, and make sure that it can "
                f"read {adapter.resolve()}",
            ) from None

    async def close(self) -> None:
        """Cancel all pending requests, and close the connections."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.client.close()
        await asyncio.get_running_loop().shutdown_default_executor()

    def fatal_error(self, error: openai.APIError) -> EngineError:
        """Convert an API error to an EngineError, which stops the step."""
        settings, status = self.settings, getattr(error, "status_code", None)
        if status in (401, 403):
            unset = "" if self._key else f", and {settings.key} is not set"
            return EngineError(
                "engine.key",
                f"the server at {settings.base_url} refused the API key ({status}){unset}",
                f"set the environment variable {settings.key} to a valid key",
            )
        if status == 404:
            return EngineError(
                "engine.base_url",
                f"the server at {settings.base_url} did not find the model or the address "
                f"({self.describe(error)})",
                "check the address, which usually ends in /v1, and whether the server was "
                "restarted (finished rows are saved)",
            )
        if status is not None:
            return EngineError(
                "engine.base_url",
                f"the server at {settings.base_url} returned an error ({self.describe(error)})",
                "look for the cause in the server's log",
            )
        return EngineError(
            "engine.base_url",
            f"the server at {settings.base_url} cannot be reached ({self.describe(error)})",
            "start the server, or correct the address",
        )

    def describe(self, error: openai.APIError) -> str:
        """Return a one-line description of an error, without the API key.

        For a failed connection, return only the type: the message may contain host names.
        """
        if not isinstance(error, openai.APIStatusError):
            return type(error.__cause__ or error).__name__
        body = error.body
        message = body.get("message") if isinstance(body, dict) else body
        line = one_line(message or error.message)
        if self._key:
            line = line.replace(self._key, "***")
        return f"{error.status_code}: {line[:LONGEST_REASON]}"


class _Engine:
    name = "openai"

    def __init__(self, server: _Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server, self._loop = server, loop
        self._settings = server.settings
        self._room = asyncio.Semaphore(self._settings.concurrency)
        self.version = server.version

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        finished: queue.SimpleQueue[Future[list[Result]]] = queue.SimpleQueue()
        parts = self._parts(requests)
        most = READ_AHEAD * self._settings.concurrency
        in_flight: set[Future[list[Result]]] = set()
        try:
            while True:
                for request, draws in itertools.islice(parts, most - len(in_flight)):
                    answering = self._answer(request, draws)
                    future = asyncio.run_coroutine_threadsafe(answering, self._loop)
                    in_flight.add(future)
                    future.add_done_callback(finished.put)
                if not in_flight:
                    return
                try:
                    future = finished.get(timeout=WAKE)
                except queue.Empty:
                    continue
                in_flight.remove(future)
                yield from future.result()
        finally:
            for future in in_flight:
                future.cancel()

    def _parts(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Sequence[int]]]:
        """Split requests into runs of draws, or into single draws without `native_n`."""
        for request in requests:
            # vLLM refuses n > 1 at temperature 0.
            if self._settings.native_n and request.generation.temperature > 0:
                for draws in runs(request.draws):
                    yield request, draws
            else:
                for draw in request.draws:
                    yield request, [draw]

    async def _answer(self, request: Request, draws: Sequence[int]) -> list[Result]:
        assert request.model is not None, "the openai engine got a request for a Python function"
        async with self._room:
            model = await self._server.name(request.model)
            try:
                completion = await self._complete(model, request, draws)
            except openai.APIError as error:
                reason, kind = await self._fault(error)
                return list(failures(request, reason, kind, draws))
            except json.JSONDecodeError:
                reason = "the server's response is not valid JSON"
                return list(failures(request, reason, "transient", draws))
        cost = self._cost(completion, len(draws))
        results = read_answers(request, draws, completion, self._server.context)
        return [dataclasses.replace(result, cost=cost) for result in results]

    async def _complete(self, model: str, request: Request, draws: Sequence[int]) -> ChatCompletion:
        generation = request.generation
        messages: Any = [_message(message) for message in request.messages]
        tools: Any = request.tools or openai.omit
        return await self._server.client.chat.completions.create(
            model=model,
            messages=messages,
            tools=tools,
            temperature=generation.temperature,
            top_p=generation.top_p,
            max_tokens=generation.max_tokens,
            seed=request.seed + draws[0],
            n=len(draws) if len(draws) > 1 else openai.omit,
            logprobs=True if request.labels else openai.omit,
            top_logprobs=TOP_LOGPROBS if request.labels else openai.omit,
            extra_body=self._extra(request, draws),
        )

    def _extra(self, request: Request, draws: Sequence[int]) -> dict[str, Any]:
        """Return the request parameters that OpenAI's API lacks, under vLLM's names."""
        extra: dict[str, Any] = {}
        for name, neutral in NEUTRAL.items():
            value = request.generation.value(name)
            if value is None and self._server.vllm:
                value = neutral  # otherwise vLLM uses the model's generation_config
            if value is not None:
                extra[name] = value
        if request.template_kwargs:
            extra["chat_template_kwargs"] = request.template_kwargs
        if request.choices:
            extra["structured_outputs"] = {"choice": list(request.choices)}
        if len(draws) > 1 and self._server.vllm:
            extra["return_token_ids"] = True
        return extra

    async def _fault(self, error: openai.APIError) -> tuple[str, ErrorKind]:
        """Return why a request failed. Raises EngineError if all others would fail as well."""
        reason = self._server.describe(error)
        match error:
            case openai.APIStatusError(status_code=401 | 403 | 404):
                # A 404 concerns the model or the address, never a single request.
                raise self._server.fatal_error(error) from None
            case openai.APIStatusError(status_code=status) if status in UNFIT:
                return f"the server refused the request ({reason})", "permanent"
            case openai.APIStatusError():
                return f"the server failed ({reason})", "transient"
            case openai.APITimeoutError():
                timeout = f"{self._settings.timeout:g} seconds"
                return f"the server did not answer within {timeout}", "transient"
            case openai.APIConnectionError():
                await self._server.models()  # raises if the server is gone
                return f"the connection was lost ({reason})", "transient"
        return f"the server's response could not be parsed ({reason})", "transient"

    def _cost(self, completion: ChatCompletion, n_draws: int) -> float | None:
        """Return one draw's share of a request's cost. Cached prompt tokens cost the full price."""
        prices = (self._settings.price_prompt, self._settings.price_generated)
        usage = getattr(completion, "usage", None)
        if usage is None or prices == (None, None):
            return None
        read, generated = (price or 0.0 for price in prices)
        cost: float = usage.prompt_tokens * read + usage.completion_tokens * generated
        return cost / MILLION / n_draws


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message in the format of OpenAI's API, where tool arguments are JSON text."""
    calls = message.get("tool_calls")
    return {**message, "tool_calls": [_call(call) for call in calls]} if calls else dict(message)


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or isinstance(function.get("arguments"), str):
        return call
    arguments = json.dumps(function.get("arguments") or {}, ensure_ascii=False)
    return {**call, "function": {**function, "arguments": arguments}}


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a separate thread until the context ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="openai", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def open_engine(settings: OpenaiEngine, models: Sequence[Checkpoint]) -> Iterator[_Engine]:
    """Connect to the server given in `settings`, and load the models' adapters into it.

    Pending requests are canceled when the context ends. Raises EngineError if the server cannot be
    reached, refuses the API key, or cannot serve one of the models.
    """
    server = _Server(settings)
    with _loop() as loop:
        try:
            asyncio.run_coroutine_threadsafe(server.look(models), loop).result()
            yield _Engine(server, loop)
        finally:
            asyncio.run_coroutine_threadsafe(server.close(), loop).result()
