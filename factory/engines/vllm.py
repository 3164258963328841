"""The `vllm` engine, which runs vLLM without a server and streams requests and results.

It runs in a separate process (`factory.engines.fleet`) with three threads: one tokenizes requests,
one calls vLLM's step, and one (in `factory.engines.worker`) sends results. The model runs in vLLM's
own process, which does not wait for these threads while it has requests.

Consecutive draws of a request become one vLLM request with `n`: vLLM seeds the k-th answer with the
request's seed + k, and each answer is returned as soon as it is finished. vLLM returns only tokens.
The engine decodes each finished answer once, as the `transformers` engine does.

If a label of a score has several tokens, the engine sends follow-up requests: the prompt, the
judgment before the score, and the beginning of a label. Most of these tokens are in vLLM's prefix
cache.
"""

import ast
import difflib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from factory.engines.gpus import find_gpus, group_gpus
from factory.engines.labels import LabelTree, find_score, label_tree
from factory.engines.protocol import Request, Result, failures, runs
from factory.engines.read_ahead import PromptRefused, read_prompt
from factory.engines.tokenizers import AnswerDecoder, load_tokenizer
from factory.engines.vllm_labels import (
    FollowUp,
    Judgment,
    finish,
    follow_up_sampling,
    read_logprobs,
    stopped,
)
from factory.errors import EngineError, MissingExtra, RecipeError, one_line
from factory.models import Checkpoint
from factory.recipe import VllmEngine

RESERVED = {
    "model": "set model.path instead",
    "model_weights": "set model.path instead",
    "tokenizer": "the model's tokenizer is always used",
    "revision": "set model.revision instead",
    "tokenizer_revision": "set model.revision instead",
    "dtype": "set model.dtype instead",
    "seed": "each draw's seed is derived from the recipe's seed",
    "generation_config": "set sampling.top_k, min_p, or repetition_penalty instead",
    "override_generation_config": "set sampling.top_k, min_p, or repetition_penalty instead",
    "skip_tokenizer_init": "the factory decodes the answers",
    "enable_lora": "the value depends on train.lora and model.adapter",
    "runner": "the engine only generates text",
    "convert": "the engine only generates text",
    "data_parallel_size": "set engine.replicas instead",
}
"""vLLM arguments that the factory sets itself, with the reason or the field to set instead."""

LONGEST_REASON = 300
"""Maximum length of vLLM's error message in a result, in characters."""

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Allowed values of max_lora_rank in vLLM 0.32 (vllm.config.lora.MaxLoRARanks)."""

CPU_CACHE = "2"
"""Default of VLLM_CPU_KVCACHE_SPACE, the size of a CPU engine's KV cache in GB. vLLM's own default
is most of the machine's memory."""

ADAPTERS_AT_ONCE = 2
"""Maximum number of adapters in one batch: M_i, and M_0 if it is an adapter itself."""


@cache
def argument_names() -> frozenset[str]:
    """Return the names of vLLM's engine arguments.

    Read them from the source code of vLLM's EngineArgs, since importing vLLM takes seconds.
    """
    found = find_spec("vllm")
    if found is None or found.origin is None:
        raise MissingExtra("vllm", "vllm")
    source = Path(found.origin).parent / "engine" / "arg_utils.py"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == "EngineArgs":
            fields = [part.target for part in node.body if isinstance(part, ast.AnnAssign)]
            return frozenset(name.id for name in fields if isinstance(name, ast.Name))
    raise EngineError(
        "vllm",
        f"this version of vLLM defines no class EngineArgs in {source.name}",
        "install vLLM 0.32 or later",
    )


def check_arguments(settings: VllmEngine, rank: int, field: str) -> None:
    """Check the vLLM arguments in a recipe.

    Raises RecipeError for an unknown argument, an argument that the factory sets itself, or a
    `max_lora_rank` below the rank of the adapters. `rank` is the largest rank of the recipe's
    adapters, 0 without adapters. `field` is the recipe section with the arguments.
    """
    for name in settings.arguments:
        if name in RESERVED:
            raise RecipeError(
                f"{field}.{name}",
                f"the recipe cannot set this vLLM argument ({RESERVED[name]})",
                f"remove {name}",
            )
        if name not in argument_names():
            near = difflib.get_close_matches(name, sorted(argument_names()), n=1)
            raise RecipeError(
                f"{field}.{name}",
                f"vLLM's EngineArgs has no argument {name}",
                f"did you mean {near[0]}?" if near else f"remove {name}",
            )
    most = settings.arguments.get("max_lora_rank", RANKS[-1])
    if rank > most:
        raise RecipeError(
            f"{field}.max_lora_rank",
            f"the adapters have rank {rank}, but vLLM allows at most {most}",
            "raise max_lora_rank, or lower train.lora.r",
        )


def environments(settings: VllmEngine, sockets: Path) -> list[dict[str, str]]:
    """Return the environment variables that assign GPUs or CPU cores to each engine process.

    vLLM creates the sockets of its processes in the folder `sockets`. Raises RecipeError if the
    machine has too few GPUs.
    """
    shared = {
        "VLLM_NO_USAGE_STATS": "1",  # vLLM sends usage statistics by default
        "VLLM_RPC_BASE_PATH": str(sockets),
    }
    found = find_gpus()
    if not found:
        replicas = 1 if settings.replicas == "auto" else settings.replicas
        memory = os.environ.get("VLLM_CPU_KVCACHE_SPACE", CPU_CACHE)
        return [{**shared, "VLLM_CPU_KVCACHE_SPACE": memory, **cores} for cores in _cores(replicas)]
    shares = group_gpus(found, settings.group_size)
    replicas = len(shares) if settings.replicas == "auto" else settings.replicas
    if not shares or replicas > len(shares):
        raise RecipeError(
            "engine.replicas",
            f"got {settings.replicas} replicas, but each replica needs {settings.group_size} "
            f"GPU(s) and this machine has {len(found)}",
            "lower engine.replicas or engine.tensor_parallel_size",
        )
    return [
        {**shared, "CUDA_VISIBLE_DEVICES": ",".join(gpu.id for gpu in share)}
        for share in shares[:replicas]
    ]


def _cores(replicas: int) -> list[dict[str, str]]:
    """Return the environment variables that bind each CPU engine to its own cores."""
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
class _Run:
    """Consecutive draws of a request, which vLLM generates as one request."""

    request: Request
    draws: Sequence[int]
    prompt: list[int]
    tree: LabelTree
    answers: list["_Answer"] = field(default_factory=list)


@dataclass
class _Answer:
    """The unfinished answer to one draw."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[dict[int, float]] = field(default_factory=list)
    """Log-probabilities of the labels' tokens at each position; empty for requests without
    labels."""


class _End:
    """A marker for the end of the requests, with the error raised while reading them, if any."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def _arguments(settings: VllmEngine, model: Checkpoint, rank: int) -> dict[str, Any]:
    """Return the arguments of vLLM's EngineArgs. The recipe's override the factory's defaults."""
    from vllm.platforms import current_platform

    adapters: dict[str, Any] = {}
    if rank:
        adapters = {
            "enable_lora": True,
            # vLLM 0.32 on a CPU applies the adapter in the last slot to requests without an
            # adapter (vllm-project/vllm#48421). An additional slot keeps the last one empty.
            "max_loras": ADAPTERS_AT_ONCE + current_platform.is_cpu(),
            "max_lora_rank": next(most for most in RANKS if most >= rank),
        }
    return {
        "model": str(model.path),
        "dtype": model.dtype,
        "generation_config": "vllm",
        "disable_log_stats": True,
        "enable_prefix_caching": True,
        # vLLM 0.32 on a CPU fails with "CPU Generator does not use offset" if it splits the prompt
        # of a seeded request into chunks.
        **({"enable_chunked_prefill": False} if current_platform.is_cpu() else {}),
        **adapters,
        **settings.arguments,
    }


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
        from vllm.engine.arg_utils import EngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        model = models[0]
        arguments = EngineArgs(**_arguments(settings, model, rank))
        self._engine = LLMEngine.from_engine_args(arguments, UsageContext.LLM_CLASS)
        config = self._engine.vllm_config
        self.version = vllm.__version__
        self.room = 2 * config.scheduler_config.max_num_seqs
        """Number of draws in flight that keep the engine busy while others are sent or received."""
        self._context = int(config.model_config.max_model_len)
        self._reading, self._writing = (  # one per thread, since tokenizers are not thread-safe
            load_tokenizer(model.path, model.field) for _ in range(2)
        )
        self._decoder = AnswerDecoder(self._writing)
        self._stops = sorted({*model.stop_tokens, self._writing.eos_token_id} - {None})
        self._trees: dict[tuple[str, ...], LabelTree] = {}
        self._adapters: dict[Path, int] = {}
        self._in_flight: dict[str, _Run | FollowUp] = {}
        self._beat = beat
        self._count = 0

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        inbox: queue.SimpleQueue[_Run | list[Result] | _End] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(requests, inbox), daemon=True).start()
        ended = False
        while not ended or self._in_flight:
            for item in _waiting(inbox, block=not self._in_flight):
                match item:
                    case _Run():
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

    # Requests, in the reading thread

    def _read(
        self, requests: Iterable[Request], inbox: "queue.SimpleQueue[_Run | list[Result] | _End]"
    ) -> None:
        error: BaseException | None = None
        try:
            for request in requests:
                for item in self._prepare(request):
                    inbox.put(item)
        except BaseException as raised:  # re-raised by `generate`
            error = raised
        inbox.put(_End(error))

    def _prepare(self, request: Request) -> Iterator[_Run | list[Result]]:
        tree = self._tree(request.labels)
        extra = max(0, tree.longest - 1)
        try:
            tokens = read_prompt(request, self._reading, self._context, extra=extra)
        except PromptRefused as refused:
            yield list(failures(request, str(refused), "permanent"))
            return
        for draws in runs(request.draws):
            yield _Run(request, draws, tokens, tree, [_Answer() for _ in draws])

    def _tree(self, labels: tuple[str, ...]) -> LabelTree:
        if labels not in self._trees:
            vocabulary = self._reading.get_vocab()
            self._trees[labels] = label_tree(vocabulary, self._reading.tokenize, labels)
        return self._trees[labels]

    # Requests, in the engine's thread

    def _add(self, run: _Run) -> Iterator[Result]:
        from vllm.exceptions import VLLMClientError

        try:
            self._send(run, run.request, run.prompt, self._sampling(run))
        except (ValueError, VLLMClientError) as error:  # concerns only this request
            reason = f"vLLM refused the request: {one_line(error, LONGEST_REASON)}"
            yield from failures(run.request, reason, "permanent", run.draws)

    def _send(
        self, item: _Run | FollowUp, request: Request, tokens: list[int], sampling: Any
    ) -> None:
        from vllm.inputs import tokens_input

        self._count += 1
        name = str(self._count)
        adapter = self._adapter(request)
        self._engine.add_request(name, tokens_input(tokens), sampling, lora_request=adapter)
        self._in_flight[name] = item

    def _sampling(self, run: _Run) -> Any:
        from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

        request, generation = run.request, run.request.generation
        wanted: dict[str, Any] = {}
        if request.labels:
            wanted = {"logprob_token_ids": run.tree.next_tokens(), "flat_logprobs": True}
        if request.choices:
            wanted["structured_outputs"] = StructuredOutputsParams(choice=list(request.choices))
        return SamplingParams(
            n=len(run.draws),
            temperature=generation.temperature,
            top_p=generation.top_p,
            top_k=int(generation.value("top_k") or 0),
            min_p=generation.value("min_p") or 0.0,
            repetition_penalty=generation.value("repetition_penalty") or 1.0,
            max_tokens=generation.max_tokens,
            seed=request.seed + run.draws[0],
            stop_token_ids=self._stops,
            detokenize=False,
            # vLLM returns the first token alone and the others together at the end of the answer.
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

    # Answers

    def _results(self, output: Any) -> Iterator[Result]:
        match self._in_flight[output.request_id]:
            case _Run() as run:
                yield from self._answers(run, output)
            case FollowUp() as follow_up:
                yield from finish(follow_up, output.outputs[0])
        if output.finished:
            del self._in_flight[output.request_id]

    def _answers(self, run: _Run, output: Any) -> Iterator[Result]:
        for part in output.outputs:
            answer = run.answers[part.index]
            answer.tokens.extend(part.token_ids)
            if part.logprobs is not None:
                answer.logprobs.extend(map(read_logprobs, part.logprobs))
            if part.finish_reason is not None:
                result = self._result(run, part.index, part.finish_reason, output.num_cached_tokens)
                run.answers[part.index] = _Answer()
                yield from self._with_score(run, answer, result)

    def _result(self, run: _Run, place: int, reason: str, cached: int | None) -> Result:
        answer, request, draw = run.answers[place], run.request, run.draws[place]
        if reason not in ("stop", "length"):
            return stopped(request.id, draw, reason)
        return Result(
            request.id,
            draw,
            # Drop the stop token here, because some tokenizers do not mark it as special.
            text=self._decoder(
                answer.tokens[:-1] if reason == "stop" else answer.tokens,
                request.generation.reasoning,
            ),
            n_prompt_tokens=len(run.prompt),
            n_cached_tokens=cached,
            n_tokens=len(answer.tokens),
            finish_reason=reason,
        )

    # Scores

    def _with_score(self, run: _Run, answer: _Answer, result: Result) -> Iterator[Result]:
        """Yield a result with the log-probabilities of its labels, or send the follow-up requests
        that compute them."""
        if not run.request.labels or result.error is not None:
            yield result
            return
        tags = run.request.generation.reasoning
        ended = result.finish_reason == "stop"  # the parser must not see the text of a stop token
        score = find_score(
            run.tree,
            run.request,
            answer.tokens[:-1] if ended else answer.tokens,
            lambda some: self._decoder(some, tags),
            answer.logprobs.__getitem__,
        )
        if score is None or not score.missing:
            yield replace(result, score_logprobs=score.logprobs if score else None)
            return
        judgment = Judgment(result, score, len(score.missing))
        for beginning in score.missing:
            tokens = [*run.prompt, *score.before, *beginning]
            sampling = follow_up_sampling(score.tree.next_tokens(beginning))
            self._send(FollowUp(judgment, beginning), run.request, tokens, sampling)


def _waiting(inbox: "queue.SimpleQueue[Any]", *, block: bool) -> Iterator[Any]:
    """Yield the items waiting in the inbox. With `block`, wait for the first item."""
    try:
        yield inbox.get(block=block)
        while True:
            yield inbox.get_nowait()
    except queue.Empty:
        return


@contextmanager
def open_engine(
    settings: VllmEngine, models: Sequence[Checkpoint], rank: int, beat: Callable[[], None]
) -> Iterator[_Engine]:
    """Start vLLM with the base weights that all models share, and stop it when the context ends.

    `rank` is the largest rank of the adapters, 0 without adapters. The engine calls `beat` after
    every step that generated tokens.
    """
    engine = _Engine(settings, models, rank, beat)
    try:
        yield engine
    finally:
        engine.close()
