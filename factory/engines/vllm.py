"""The `vllm` engine: vLLM offline, fed and emptied without a barrier.

Runs in a process of its own (`factory.engines.processes`). Three threads share its work: one reads
requests and makes tokens of them, one steps vLLM, and one (the process's own) sends results; the
model runs in vLLM's own process beside these, and waits for none of them while it has requests.

A request's draws are vLLM's native `n`: it seeds the k-th of them with the request's seed + k, and
each is given out when it ends, not when the slowest of them does. vLLM is asked for tokens only;
a text is decoded once, when its answer is finished, as the `transformers` engine does.
"""

import ast
import difflib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from factory.engines.gpus import find_gpus, groups
from factory.engines.labels import by_label, label_tokens, score_token
from factory.engines.protocol import Request, Result, failures, prompt_tokens, runs
from factory.errors import EngineError, MissingExtra, RecipeError
from factory.models import Checkpoint
from factory.recipe import VllmEngine

OURS = {
    "model": "it is model.path",
    "model_weights": "it is model.path",
    "tokenizer": "it is the model's own",
    "revision": "it is model.revision",
    "tokenizer_revision": "it is model.revision",
    "dtype": "it is model.dtype",
    "seed": "every draw has a seed of its own, made of the recipe's",
    "generation_config": "set sampling.top_k and its like instead",
    "override_generation_config": "set sampling.top_k and its like instead",
    "skip_tokenizer_init": "the factory decodes the answers",
    "enable_lora": "it follows from train.lora and model.adapter",
    "runner": "the engine generates",
    "convert": "the engine generates",
    "data_parallel_size": "set engine.replicas instead",
}
"""Arguments of vLLM that the factory sets, and what a recipe sets instead."""

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM 0.32 takes for max_lora_rank (vllm.config.lora.MaxLoRARanks)."""

CPU_CACHE = "2"
"""GB of keys and values that an engine on a CPU holds, where VLLM_CPU_KVCACHE_SPACE says nothing;
vLLM's own default is most of the machine's memory. Ours."""

ADAPTERS_AT_ONCE = 2
"""Adapters that a batch may mix: M_i with an M_0 that is an adapter itself."""


@cache
def argument_names() -> frozenset[str]:
    """The names of vLLM's engine arguments: the fields of its EngineArgs, read from its source,
    since importing vLLM takes seconds and is left to the process that runs it."""
    found = find_spec("vllm")
    if found is None or found.origin is None:
        raise MissingExtra("vllm", "vllm")
    source = Path(found.origin).parent / "engine" / "arg_utils.py"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == "EngineArgs":
            fields = [part.target for part in node.body if isinstance(part, ast.AnnAssign)]
            return frozenset(name.id for name in fields if isinstance(name, ast.Name))
    raise EngineError(f"vLLM has no EngineArgs in {source.name}: expected a version from 0.32 on")


def check(settings: VllmEngine, rank: int) -> None:
    """Refuses arguments that vLLM does not have, or that the factory sets, and adapters that
    vLLM cannot hold; `rank` is the largest of the recipe's adapters (0: there are none)."""
    for name in settings.arguments:
        if name in OURS:
            raise RecipeError(f"engine.{name}: is set by the factory ({OURS[name]}); take it out")
        if name not in argument_names():
            near = difflib.get_close_matches(name, sorted(argument_names()), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise RecipeError(f"engine.{name}: vLLM's EngineArgs has no such argument{hint}")
    most = settings.arguments.get("max_lora_rank", RANKS[-1])
    if rank > most:
        raise RecipeError(
            f"engine.max_lora_rank: the adapters have rank {rank}, and vLLM is to allow {most}: "
            "raise it, or lower the rank (train.lora.r)"
        )


def environments(settings: VllmEngine) -> list[dict[str, str]]:
    """The variables of each engine's process: its own GPUs, or its own part of the CPU's cores."""
    silent = {"VLLM_NO_USAGE_STATS": "1"}  # nothing is told to anybody outside
    found = find_gpus()
    if not found:
        replicas = 1 if settings.replicas == "auto" else settings.replicas
        memory = os.environ.get("VLLM_CPU_KVCACHE_SPACE", CPU_CACHE)
        return [{**silent, "VLLM_CPU_KVCACHE_SPACE": memory, **cores} for cores in _cores(replicas)]
    shares = groups(found, settings.group_size)
    replicas = len(shares) if settings.replicas == "auto" else settings.replicas
    if not shares or replicas > len(shares):
        raise RecipeError(
            f"engine.replicas: {settings.replicas} engines of {settings.group_size} GPUs each, and "
            f"this machine has {len(found)}: lower engine.replicas or engine.tensor_parallel_size"
        )
    return [
        {**silent, "CUDA_VISIBLE_DEVICES": ",".join(gpu.id for gpu in share)}
        for share in shares[:replicas]
    ]


def _cores(replicas: int) -> list[dict[str, str]]:
    """Engines beside each other on a CPU, each bound to cores of its own."""
    name = "VLLM_CPU_OMP_THREADS_BIND"
    if replicas == 1 or name in os.environ:
        return [{}] * replicas
    cores = sorted(os.sched_getaffinity(0))
    share = max(1, len(cores) // replicas)
    return [
        {name: ",".join(str(cores[(place * share + at) % len(cores)]) for at in range(share))}
        for place in range(replicas)
    ]


@dataclass
class _Asked:
    """A request in vLLM, or a part of it: draws that follow one another."""

    request: Request
    draws: Sequence[int]
    prompt: list[int]
    answers: list["_Answer"] = field(default_factory=list)


@dataclass
class _Answer:
    """One draw so far."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[dict[int, float]] = field(default_factory=list)
    """Of the labels' tokens at each place; empty where nobody wants them."""


class _End:
    """Ends the inbox, with what the reading of requests raised."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Engine:
    name = "vllm"

    def __init__(
        self,
        settings: VllmEngine,
        models: Sequence[Checkpoint],
        rank: int,
        beat: Callable[[], None],
    ) -> None:
        try:
            import vllm
        except ImportError:
            raise MissingExtra("vllm", "vllm") from None
        from transformers import AutoTokenizer
        from vllm.engine.arg_utils import EngineArgs
        from vllm.platforms import current_platform
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        model = models[0]
        adapters: dict[str, Any] = {}
        if rank:
            adapters = {
                "enable_lora": True,
                # vLLM 0.32 on a CPU takes a request without an adapter for one with the adapter of
                # the last slot (its issue 48421): one slot more keeps that one empty.
                "max_loras": ADAPTERS_AT_ONCE + current_platform.is_cpu(),
                "max_lora_rank": next(most for most in RANKS if most >= rank),
            }
        arguments = EngineArgs(
            **{
                "model": str(model.path),
                "dtype": model.dtype,
                "generation_config": "vllm",
                "disable_log_stats": True,
                "enable_prefix_caching": True,
                # vLLM 0.32 ends with "CPU Generator does not use offset" where a seeded request's
                # prompt is read in parts on a CPU.
                **({"enable_chunked_prefill": False} if current_platform.is_cpu() else {}),
                **adapters,
                **settings.arguments,
            }
        )
        self._engine = LLMEngine.from_engine_args(arguments, UsageContext.LLM_CLASS)
        config = self._engine.vllm_config
        self.version = vllm.__version__
        self.room = 2 * config.scheduler_config.max_num_seqs
        """Draws that keep the engine busy while finished ones go and others come."""
        self._context = int(config.model_config.max_model_len)
        self._reading, self._writing = (  # one for each thread: they are not made for two
            AutoTokenizer.from_pretrained(model.path) for _ in range(2)
        )
        self._stops = sorted({*model.stop_tokens, self._writing.eos_token_id} - {None})
        self._special = set(self._writing.all_special_ids)
        self._labels: dict[tuple[str, ...], dict[str, list[int]]] = {}
        self._adapters: dict[Path, int] = {}
        self._in_flight: dict[str, _Asked] = {}
        self._beat = beat
        self._count = 0

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        inbox: queue.SimpleQueue[_Asked | list[Result] | _End] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(requests, inbox), daemon=True).start()
        ended = False
        while not ended or self._in_flight:
            for item in _waiting(inbox, block=not self._in_flight):
                match item:
                    case _Asked():
                        yield from self._add(item)
                    case _End(error=error):
                        if error is not None:
                            raise error
                        ended = True
                    case _:
                        yield from item
            if self._in_flight:
                for output in self._engine.step():
                    yield from self._results(output)
                self._beat()

    def close(self) -> None:
        self._engine.engine_core.shutdown()

    # reading

    def _read(
        self, requests: Iterable[Request], inbox: "queue.SimpleQueue[_Asked | list[Result] | _End]"
    ) -> None:
        error: BaseException | None = None
        try:
            for request in requests:
                for item in self._prepare(request):
                    inbox.put(item)
        except BaseException as raised:  # it is raised again where the results are read
            error = raised
        inbox.put(_End(error))

    def _prepare(self, request: Request) -> Iterator[_Asked | list[Result]]:
        try:
            tokens = prompt_tokens(request, self._reading)
        except Exception as error:  # a template may refuse a conversation with any exception
            reason = f"the chat template refused it: {error}"
            yield list(failures(request, reason, "permanent"))
            return
        most = request.generation.max_tokens
        if len(tokens) + most > self._context:
            reason = (
                f"too long: {len(tokens)} tokens and up to {most} to answer, "
                f"the engine's context is {self._context}"
            )
            yield list(failures(request, reason, "permanent"))
            return
        for draws in runs(request.draws):
            yield _Asked(request, draws, tokens, [_Answer() for _ in draws])

    # asking

    def _add(self, asked: _Asked) -> Iterator[Result]:
        from vllm.exceptions import VLLMClientError
        from vllm.inputs import tokens_input

        self._count += 1
        name = str(self._count)
        try:
            self._engine.add_request(
                name,
                tokens_input(asked.prompt),
                self._sampling(asked),
                lora_request=self._adapter(asked.request),
            )
        except (ValueError, VLLMClientError) as error:  # what vLLM refuses of one request
            reason = f"vLLM refused it: {_one_line(error)}"
            yield from failures(asked.request, reason, "permanent", asked.draws)
        else:
            self._in_flight[name] = asked

    def _sampling(self, asked: _Asked) -> Any:
        from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

        request, generation = asked.request, asked.request.generation
        wanted: dict[str, Any] = {}
        if request.labels:
            ids = [
                token for tokens in self._label_tokens(request.labels).values() for token in tokens
            ]
            wanted = {"logprobs": len(ids), "logprob_token_ids": ids, "flat_logprobs": True}
        if request.choices:
            wanted["structured_outputs"] = StructuredOutputsParams(choice=list(request.choices))
        return SamplingParams(
            n=len(asked.draws),
            temperature=generation.temperature,
            top_p=generation.top_p,
            top_k=int(generation.value("top_k") or 0),
            min_p=generation.value("min_p") or 0.0,
            repetition_penalty=generation.value("repetition_penalty") or 1.0,
            max_tokens=generation.max_tokens,
            seed=request.seed + asked.draws[0],
            stop_token_ids=self._stops,
            detokenize=False,
            # Each draw is given out when it ends, with all its tokens but the first at once.
            output_kind=RequestOutputKind.DELTA,
            stream_interval=generation.max_tokens + 1,
            **wanted,
        )

    def _adapter(self, request: Request) -> Any:
        from vllm.lora.request import LoRARequest

        adapter = request.model.adapter if request.model else None
        if adapter is None:
            return None
        number = self._adapters.setdefault(adapter, len(self._adapters) + 1)
        return LoRARequest(str(adapter), number, str(adapter))

    def _label_tokens(self, labels: tuple[str, ...]) -> dict[str, list[int]]:
        if labels not in self._labels:
            tokenizer = self._writing
            self._labels[labels] = label_tokens(tokenizer.get_vocab(), tokenizer.tokenize, labels)
        return self._labels[labels]

    # answers

    def _results(self, output: Any) -> Iterator[Result]:
        asked = self._in_flight[output.request_id]
        for part in output.outputs:
            answer = asked.answers[part.index]
            answer.tokens.extend(part.token_ids)
            if part.logprobs is not None:
                answer.logprobs.extend(
                    {token: seen.logprob for token, seen in place.items()}
                    for place in part.logprobs
                )
            if part.finish_reason is not None:
                yield self._result(asked, part.index, part.finish_reason, output.num_cached_tokens)
        if output.finished:
            del self._in_flight[output.request_id]

    def _result(self, asked: _Asked, place: int, reason: str, cached: int | None) -> Result:
        answer, asked.answers[place] = asked.answers[place], _Answer()
        request, draw = asked.request, asked.draws[place]
        if reason not in ("stop", "length"):
            error = f"vLLM ended it with {reason}"
            return Result(request.id, draw, error=error, error_kind="transient")
        return Result(
            request.id,
            draw,
            text=self._decode(answer.tokens),
            n_prompt_tokens=len(asked.prompt),
            n_cached_tokens=cached,
            n_tokens=len(answer.tokens),
            finish_reason=reason,
            score_logprobs=self._score(request, answer) if request.labels else None,
        )

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._writing.decode(tokens, skip_special_tokens=True)
        return text

    def _score(self, request: Request, answer: _Answer) -> list[dict[str, Any]] | None:
        tokens = self._label_tokens(request.labels)
        place = score_token(
            answer.tokens, self._decode, request.score_at, request.generation.reasoning
        )
        if place is None or all(answer.tokens[place] not in ids for ids in tokens.values()):
            return None
        return by_label(answer.logprobs[place], tokens)


def _waiting(inbox: "queue.SimpleQueue[Any]", *, block: bool) -> Iterator[Any]:
    """What has come; the first of it is waited for where there is nothing else to do."""
    try:
        yield inbox.get(block=block)
        while True:
            yield inbox.get_nowait()
    except queue.Empty:
        return


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


@contextmanager
def open_engine(
    settings: VllmEngine, models: Sequence[Checkpoint], rank: int, beat: Callable[[], None]
) -> Iterator[_Engine]:
    """Loads the weights that the models share; `rank` is the largest of the adapters that will be
    asked for (0: none will). `beat` is called at every step that made tokens."""
    engine = _Engine(settings, models, rank, beat)
    try:
        yield engine
    finally:
        engine.close()
