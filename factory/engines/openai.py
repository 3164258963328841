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
import functools
import itertools
import json
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.engines.openai_answers import read_answers
from factory.engines.openai_cost import Budget
from factory.engines.openai_environment import api_key
from factory.engines.openai_replies import (
    OddReply,
    ServedModel,
    read_completion,
    read_models,
    read_version,
)
from factory.engines.protocol import ErrorKind, Request, Result, failures, runs
from factory.errors import EngineError, FactoryError, MissingExtra
from factory.models import Checkpoint, adapter_rank
from factory.recipe import NEUTRAL, OpenaiEngine

try:
    import aiohttp

    from factory.engines.openai_client import Client, RequestFailed, to_json
except ImportError as missing:
    raise MissingExtra("aiohttp", "openai") from missing

READ_AHEAD = 2
"""Number of requests to read per concurrent request, to keep the server busy while rows are
written."""

TOP_LOGPROBS = 20
"""Number of log-probabilities to request per token: the maximum of OpenAI's API and vLLM's default
maximum."""

WAKE = 1.0
"""Seconds after which a wait for answers times out and starts again. Without a timeout, an
interrupt that arrives just before the wait would be handled only after the next answer."""

UNFIT = (400, 413, 422)
"""HTTP statuses of requests that would fail again if retried."""


class _Server:
    """A server: its client, its models, and the translation of its errors."""

    def __init__(self, settings: OpenaiEngine) -> None:
        self.settings = settings
        self.client = Client(settings)
        self.completions_url = self.client.url("/chat/completions")
        self._names: dict[str, str] = {}
        """Names of the models on the server, by the models' digests."""
        self._naming = asyncio.Lock()
        self.vllm = False
        """Whether the server runs vLLM."""
        self.version = f"aiohttp {aiohttp.__version__}"
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
                f"the server at {self.client.address} does not serve the model {model}",
                f"choose a model that the server serves ({names})",
            )
        self.context = served[model].context
        if served[model].owner == "vllm":
            self.vllm = True
            self.version = await self._vllm_version()
        for wanted in models:
            await self.name(wanted)

    async def models(self) -> dict[str, ServedModel]:
        """Return the server's models by name. Raises EngineError if the server does not respond."""
        try:
            return read_models(await self.client.get(self.client.url("/models")))
        except RequestFailed as failed:
            raise self.fatal_error(failed) from None
        except OddReply as odd:
            raise EngineError(
                "engine.base_url",
                f"the server at {self.client.address} does not list its models ({odd})",
                "check the address, which usually ends in /v1",
            ) from None

    async def _vllm_version(self) -> str:
        try:
            found = await self.client.get(self.client.url("/version", above_v1=True))
        except RequestFailed:  # a gateway may hide paths that are not under /v1
            return "vllm"
        version = read_version(found)
        return f"vllm {version}" if version else "vllm"

    async def name(self, model: Checkpoint) -> str:
        """Return the name under which the server serves a model, and load a missing adapter."""
        if model.digest in self._names:
            return self._names[model.digest]
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
        body = to_json({"lora_name": name, "lora_path": str(adapter.resolve())})
        try:
            await self.client.post(
                self.client.url("/load_lora_adapter"), body, bytes, max_retries=0
            )
        except RequestFailed as failed:
            if name in await self.models():  # another process loaded it first
                return
            raise EngineError(
                "engine.base_url",
                f"the server at {self.client.address} cannot load the adapter {model.name} "
                f"({failed})",
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

    def fatal_error(self, failed: RequestFailed) -> EngineError:
        """Convert the failure of a request to an EngineError, which stops the step."""
        address, status = self.client.address, failed.status
        if status in (401, 403):
            variable = self.settings.key
            unset = "" if api_key(self.settings) else f", and {variable} is not set"
            return EngineError(
                "engine.key",
                f"the server at {address} refused the API key ({failed}){unset}",
                f"set the environment variable {variable} to a valid key",
            )
        if status == 404:
            return EngineError(
                "engine.base_url",
                f"the server at {address} did not find the model or the address ({failed})",
                "check the address, which usually ends in /v1, and whether the server was "
                "restarted (finished rows are saved)",
            )
        if status is not None:
            return EngineError(
                "engine.base_url",
                f"the server at {address} returned an error ({failed})",
                "look for the cause in the server's log",
            )
        return EngineError(
            "engine.base_url",
            f"the server at {address} cannot be reached ({failed})",
            "start the server, or correct the address",
        )


@dataclass(frozen=True)
class _Part:
    """Draws of a request that are asked together."""

    request: Request
    draws: Sequence[int]
    largest_cost: float
    """Largest possible cost; 0 without a limit on the cost."""


_Finished = tuple[_Part, asyncio.Task[list[Result]]]


class _Batches:
    """Tasks that finished in the event loop, handed to the caller's thread in batches.

    A batch contains the tasks that finished in one cycle of the loop, so that the two threads
    seldom wait for each other.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._batch: list[_Finished] = []
        self.ready: queue.SimpleQueue[list[_Finished]] = queue.SimpleQueue()

    def add(self, part: _Part, task: asyncio.Task[list[Result]]) -> None:
        if not self._batch:
            self._loop.call_soon(self._hand_over)
        self._batch.append((part, task))

    def _hand_over(self) -> None:
        batch, self._batch = self._batch, []
        self.ready.put(batch)


class _Engine:
    name = "openai"

    def __init__(self, server: _Server, loop: asyncio.AbstractEventLoop, spent: float) -> None:
        self._server, self._loop = server, loop
        self._settings = server.settings
        self._budget = Budget(server.settings, spent)
        self.version = server.version

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        batches = _Batches(self._loop)
        tasks: set[asyncio.Task[list[Result]]] = set()
        parts = _Peekable(self._parts(requests))
        concurrency = self._settings.concurrency
        n_pending = 0
        error: FactoryError | None = None
        self._on_loop(lambda: self._server.client.stop(is_stopping=False))
        try:
            while True:
                # Start several at a time, so that the two threads seldom wait for each other.
                room = READ_AHEAD * concurrency - n_pending
                if error is None and (room >= concurrency // 4 or not n_pending):
                    started = list(self._affordable(parts, room))
                    n_pending += len(started)
                    self._on_loop(functools.partial(self._start, started, tasks, batches))
                if not n_pending:
                    break
                try:
                    batch = batches.ready.get(timeout=WAKE)
                except queue.Empty:
                    continue
                n_pending -= len(batch)
                for part, task in batch:
                    try:
                        results = [] if task.cancelled() else task.result()
                    except FactoryError as raised:
                        # The requests that are already sent still return answers, which cost money.
                        self._on_loop(self._server.client.stop)
                        error, results = error or raised, []
                    self._budget.settle(part.largest_cost, results)
                    yield from results
        finally:
            self._on_loop(lambda: [task.cancel() for task in tasks])
        if error is not None:
            raise error
        if (too_costly := parts.peek()) is not None:
            raise self._budget.exhausted(too_costly.largest_cost)

    def _on_loop(self, call: Callable[[], Any]) -> None:
        if not self._loop.is_closed():  # a generator may be closed after its engine
            self._loop.call_soon_threadsafe(call)

    def _parts(self, requests: Iterable[Request]) -> Iterator[_Part]:
        """Split requests into runs of draws, or into single draws without `native_n`."""
        for request in requests:
            # vLLM refuses n > 1 at temperature 0.
            together = self._settings.native_n and request.generation.temperature > 0
            for draws in runs(request.draws) if together else ([draw] for draw in request.draws):
                yield _Part(request, draws, self._budget.largest_cost(request, draws))

    def _affordable(self, parts: "_Peekable", room: int) -> Iterator[_Part]:
        """Yield the next parts, as long as there is room and money for them."""
        for _ in range(room):
            part = parts.peek()
            if part is None or not self._budget.reserve(part.largest_cost):
                return
            yield parts.take()

    def _start(
        self, parts: Sequence[_Part], tasks: set[asyncio.Task[list[Result]]], batches: _Batches
    ) -> None:
        """Start to answer some parts. Runs in the event loop."""
        for part in parts:
            task = self._loop.create_task(self._answer(part))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            task.add_done_callback(functools.partial(batches.add, part))

    async def _answer(self, part: _Part) -> list[Result]:
        request, draws, server = part.request, part.draws, self._server
        assert request.model is not None, "the openai engine got a request for a Python function"
        body = self._body(await server.name(request.model), request, draws)
        n_lost = 0
        cost: float | None = None
        try:
            reply = await server.client.post(
                server.completions_url,
                to_json(body),
                lambda said: read_completion(said, len(draws)),
            )
        except RequestFailed as failed:
            reason, kind = await self._fault(failed)
            results = list(failures(request, reason, kind, draws))
            n_lost = failed.n_lost
        except OddReply as odd:
            results = list(failures(request, str(odd), "transient", draws))
            n_lost = 1
        else:
            cost = self._budget.cost(reply.value.usage)
            results = list(read_answers(request, draws, reply.value, server.context))
            n_lost = reply.n_lost + (cost is None)
        # With a limit, count an unknown cost as the largest possible one.
        if n_lost and part.largest_cost:
            cost = (cost or 0.0) + n_lost * part.largest_cost
        if cost is None:
            return results
        return [dataclasses.replace(result, cost=cost / len(draws)) for result in results]

    def _body(self, model: str, request: Request, draws: Sequence[int]) -> dict[str, Any]:
        generation = request.generation
        body: dict[str, Any] = {
            "model": model,
            "messages": [_message(message) for message in request.messages],
            "temperature": generation.temperature,
            "top_p": generation.top_p,
            "max_tokens": generation.max_tokens,
            "seed": request.seed + draws[0],
        }
        if request.tools:
            body["tools"] = request.tools
        if len(draws) > 1:
            body["n"] = len(draws)
        if request.labels:
            body |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        return body | self._extra(request, draws)

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

    async def _fault(self, failed: RequestFailed) -> tuple[str, ErrorKind]:
        """Return why a request failed. Raises EngineError if all others would fail as well."""
        if failed.status in (401, 403, 404):
            # A 404 concerns the model or the address, never a single request.
            raise self._server.fatal_error(failed) from None
        if failed.status in UNFIT:
            return f"the server refused the request ({failed})", "permanent"
        if failed.status is not None:
            return f"the server failed ({failed})", "transient"
        if failed.timed_out:
            return str(failed), "transient"
        await self._server.models()  # raises if the server is gone
        return f"the connection was lost ({failed})", "transient"


class _Peekable:
    """An iterator of parts whose next part can be looked at first."""

    def __init__(self, parts: Iterator[_Part]) -> None:
        self._parts = parts
        self._next: _Part | None = None

    def peek(self) -> _Part | None:
        if self._next is None:
            self._next = next(self._parts, None)
        return self._next

    def take(self) -> _Part:
        part, self._next = self.peek(), None
        assert part is not None, "there is no further part"
        return part


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
def open_engine(
    settings: OpenaiEngine, models: Sequence[Checkpoint], spent: float = 0.0
) -> Iterator[_Engine]:
    """Connect to the server given in `settings`, and load the models' adapters into it.

    `spent` is the part of `max_cost` that earlier work has cost. Pending requests are canceled when
    the context ends. Raises EngineError if the server cannot be reached, refuses the API key, or
    cannot serve one of the models.
    """
    server = _Server(settings)
    with _loop() as loop:
        try:
            asyncio.run_coroutine_threadsafe(server.look(models), loop).result()
            yield _Engine(server, loop, spent)
        finally:
            asyncio.run_coroutine_threadsafe(server.close(), loop).result()
