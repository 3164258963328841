"""The `transformers` engine: `generate` in batches, on a CPU or one GPU.

Requests are read a window ahead and sorted by length, so that a batch holds little padding, and
the draws of one request share the reading of its prompt. Every
draw has a seed of its own and does not depend on its neighbours in the batch but for rounding:
`generate` has no seed per row, so the choice of the token is made here, by inverse transform
sampling with one uniform number per row and position.
"""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from factory.checkpoint import Checkpoint
from factory.engines import Request, Result, failures
from factory.errors import EngineError, MissingExtra
from factory.recipe import Generation, TransformersEngine

try:
    import numpy as np
    import torch
    import transformers
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        Cache,
        DynamicCache,
        GenerationConfig,
        LogitsProcessor,
        LogitsProcessorList,
    )
    from transformers.cache_utils import DynamicLayer
except ImportError as missing:
    raise MissingExtra("transformers", "train") from missing


transformers.utils.logging.disable_progress_bar()


class SeededSampling(LogitsProcessor):  # type: ignore[misc]
    """Chooses each row's next token from its own seed, and notes its log-probability.

    Temperature, then top-p, then the first token at which the cumulative probability passes the
    row's uniform number for this position. All other tokens get -inf, so that greedy decoding
    takes the chosen one. Temperature 0 leaves the scores as they are.
    """

    def __init__(self, seeds: Sequence[int], generation: Generation, device: torch.device) -> None:
        uniforms = [np.random.Philox(key=seed).random_raw(generation.max_tokens) for seed in seeds]
        # 53 random bits make a double in [0, 1), as numpy's own generator does.
        uniform = (np.stack(uniforms) >> 11) * (1.0 / 2**53)
        self._uniform = torch.from_numpy(uniform).to(device)
        self._generation = generation
        self.logprobs: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.float()
        if self._generation.temperature == 0:
            token = scores.argmax(dim=-1, keepdim=True)
        else:
            probabilities = torch.softmax(scores / self._generation.temperature, dim=-1)
            token = self._draw(probabilities)
        self.logprobs.append(torch.log_softmax(scores, dim=-1).gather(1, token).squeeze(1))
        return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)

    def _draw(self, probabilities: torch.Tensor) -> torch.Tensor:
        order = None
        if self._generation.top_p < 1:
            probabilities, order = probabilities.sort(dim=-1, descending=True)
            before = probabilities.cumsum(dim=-1) - probabilities
            probabilities = probabilities.masked_fill(before > self._generation.top_p, 0.0)
        cumulative = probabilities.double().cumsum(dim=-1)
        uniform = self._uniform[:, len(self.logprobs), None] * cumulative[:, -1:]
        place = torch.searchsorted(cumulative, uniform, right=True)
        place = place.clamp(max=probabilities.shape[-1] - 1)
        return place if order is None else order.gather(1, place)


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values in buffers with room to the end of the answer: a token more copies nothing.

    DynamicLayer joins all that was read to each new token: two thirds of the time of decoding a
    small model on a CPU (torch's profiler; 256 rows of 100 tokens).
    """

    def __init__(self, layer: DynamicLayer, rows: torch.Tensor, room: int) -> None:
        super().__init__()
        self._buffers = [self._roomy(read, rows, room) for read in (layer.keys, layer.values)]
        self._show(layer.keys.shape[-2])
        self.dtype, self.device = layer.keys.dtype, layer.keys.device
        self.is_initialized = True

    def _roomy(self, read: torch.Tensor, rows: torch.Tensor, room: int) -> torch.Tensor:
        _, heads, length, size = read.shape
        buffer = read.new_empty((len(rows), heads, length + room, size))
        buffer[:, :, :length] = read[rows]
        return buffer

    def _show(self, length: int) -> None:
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self._show(end)
        return self.keys, self.values


@dataclass(frozen=True)
class _Row:
    """One sequence to decode."""

    request: Request
    draw: int
    tokens: list[int]
    """The prompt's."""


class _Window:
    """Requests that were read ahead: rows to decode, results of those that cannot be asked."""

    def __init__(self) -> None:
        self.rows: list[_Row] = []
        self.refused: list[Result] = []
        self.read = False


class _Engine:
    name = "transformers"
    version = transformers.__version__

    def __init__(self, settings: TransformersEngine, model: Checkpoint) -> None:
        self._settings = settings
        self._device = _device(settings.device)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(model.path, padding_side="left")
            self._model = AutoModelForCausalLM.from_pretrained(
                model.path, dtype=getattr(torch, model.dtype)
            ).to(self._device)
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineError(f"{model.name} could not be loaded: {error}") from error
        self._model.eval()
        self._stops = _stop_tokens(self._model, self._tokenizer)
        self._pad = self._tokenizer.pad_token_id
        if self._pad is None:
            self._pad = self._stops[0] if self._stops else 0
        # Nothing that the model's repository sets may change the sampling unseen.
        self._model.generation_config = GenerationConfig()
        self._context = model.context_length or sys.maxsize

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        remaining = iter(requests)
        while window := self._read_window(remaining):
            yield from window.refused
            window.rows.sort(key=lambda row: (len(row.tokens), row.request.id))
            by_generation = itertools.groupby(window.rows, lambda row: row.request.generation)
            for generation, rows in by_generation:
                while batch := list(itertools.islice(rows, self._settings.batch_size)):
                    try:
                        yield from self._decode(generation, batch)
                    except torch.OutOfMemoryError as error:
                        raise EngineError(
                            f"out of memory with {len(batch)} sequences at once: lower "
                            "engine.batch_size, or sampling.max_tokens"
                        ) from error

    def _read_window(self, remaining: Iterator[Request]) -> "_Window | None":
        window = _Window()
        room = self._settings.window * self._settings.batch_size
        while len(window.rows) < room and (request := next(remaining, None)) is not None:
            window.read = True
            try:
                tokens = self._tokenize(request)
            except Exception as error:  # a template may refuse a conversation with any exception
                reason = f"the chat template refused it: {error}"
                window.refused.extend(failures(request, reason, "permanent"))
                continue
            most = request.generation.max_tokens
            if len(tokens) + most > self._context:
                reason = (
                    f"too long: {len(tokens)} tokens and up to {most} to answer, "
                    f"the model's context is {self._context}"
                )
                window.refused.extend(failures(request, reason, "permanent"))
                continue
            window.rows.extend(_Row(request, draw, tokens) for draw in request.draws)
        return window if window.read else None

    def _tokenize(self, request: Request) -> list[int]:
        messages = [
            {name: value for name, value in message.items() if value is not None}
            for message in request.messages
        ]
        encoded = self._tokenizer.apply_chat_template(
            messages,
            tools=request.tools,
            add_generation_prompt=True,
            return_dict=True,
            **request.template_kwargs,
        )
        tokens: list[int] = encoded["input_ids"]
        return tokens

    @torch.inference_mode()
    def _decode(self, generation: Generation, batch: Sequence[_Row]) -> Iterator[Result]:
        prompts = {row.request.id: row.tokens for row in batch}
        place = {request_id: place for place, request_id in enumerate(prompts)}
        ids, mask = self._pad_left(list(prompts.values()))
        rows = torch.tensor([place[row.request.id] for row in batch], device=self._device)
        sampling = SeededSampling(
            [row.request.seed + row.draw for row in batch], generation, self._device
        )
        output = self._model.generate(
            input_ids=ids[rows],
            attention_mask=mask[rows],
            past_key_values=self._read_prompts(ids, mask, rows, generation.max_tokens),
            logits_processor=LogitsProcessorList([sampling]),
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=generation.max_tokens,
                eos_token_id=self._stops or None,
                pad_token_id=self._pad,
            ),
        )
        answers = output[:, ids.shape[1] :].tolist()
        logprobs = torch.stack(sampling.logprobs, dim=1).tolist()
        for row, answer, logprob in zip(batch, answers, logprobs, strict=True):
            yield self._result(row, answer, logprob)

    def _pad_left(self, prompts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(map(len, prompts))
        ids = torch.full((len(prompts), longest), self._pad)
        mask = torch.zeros_like(ids)
        for place, tokens in enumerate(prompts):
            ids[place, longest - len(tokens) :] = torch.tensor(tokens)
            mask[place, longest - len(tokens) :] = 1
        return ids.to(self._device), mask.to(self._device)

    def _read_prompts(
        self, ids: torch.Tensor, mask: torch.Tensor, rows: torch.Tensor, most: int
    ) -> Cache | None:
        """Reads each prompt once, but for its last token, and copies what was read to the rows
        that draw from it, with room for `most` tokens. None for models whose state is not a plain
        cache of keys and values: `generate` then reads the prompt of each row."""
        if ids.shape[1] < 2:
            return None
        positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
        read = self._model(
            input_ids=ids[:, :-1],
            attention_mask=mask[:, :-1],
            position_ids=positions[:, :-1],
            use_cache=True,
            logits_to_keep=1,
        ).past_key_values
        if any(type(layer) is not DynamicLayer for layer in read.layers):
            return None
        cache = DynamicCache()
        cache.layers = [_RoomyLayer(layer, rows, most + 1) for layer in read.layers]
        return cache

    def _result(self, row: _Row, answer: list[int], logprob: list[float]) -> Result:
        ends = [place for place, token in enumerate(answer) if token in self._stops]
        n_tokens = ends[0] + 1 if ends else len(answer)
        text = self._tokenizer.decode(answer[:n_tokens], skip_special_tokens=True)
        return Result(
            row.request.id,
            row.draw,
            text=text,
            n_prompt_tokens=len(row.tokens),
            n_tokens=n_tokens,
            finish_reason="stop" if ends else "length",
            cumulative_logprob=sum(logprob[:n_tokens]),
        )


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise EngineError(f"engine.device: {name} is no device of this machine: {error}") from None


def _stop_tokens(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer: the model's generation config names them, for chat models
    often more than the tokenizer's one."""
    stops = model.generation_config.eos_token_id
    found = [stops] if isinstance(stops, int) else list(stops or [])
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in found:
        found.append(tokenizer.eos_token_id)
    return found


@contextmanager
def open_engine(settings: TransformersEngine, models: Sequence[Checkpoint]) -> Iterator[_Engine]:
    """Loads one model; its memory is given back when the context ends."""
    (model,) = models
    engine = _Engine(settings, model)
    try:
        yield engine
    finally:
        del engine
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
