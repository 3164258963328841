"""The `transformers` engine: `generate` in batches, on a CPU or one GPU.

Requests are read a window ahead and sorted by length, so that a batch holds little padding, and
the draws of one request share the reading of its prompt. Every
draw has a seed of its own and does not depend on its neighbours in the batch but for rounding:
`generate` has no seed per row, so the token is chosen by `sampling`.
"""

import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from factory.engines.labels import by_label, label_tokens, score_token
from factory.engines.protocol import Request, Result, failures, prompt_tokens
from factory.errors import EngineError, MissingExtra
from factory.models import Checkpoint
from factory.recipe import TransformersEngine

try:
    import torch
    import transformers
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        Cache,
        DynamicCache,
        GenerationConfig,
        LogitsProcessorList,
    )
    from transformers.cache_utils import DynamicLayer

    from factory.engines.sampling import Choices, SeededSampling
except ImportError as missing:
    raise MissingExtra("transformers", "train") from missing


transformers.utils.logging.disable_progress_bar()

_Held = TypeVar("_Held")


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

    @property
    def asked(self) -> tuple[Any, ...]:
        """What the rows of one batch have in common."""
        request = self.request
        return request.generation, request.labels, request.score_at, request.choices


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
        self._device = find_device(settings.device)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(model.path, padding_side="left")
            self._model = _load(model).to(self._device)
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineError(f"{model.name} could not be loaded: {error}") from error
        self._model.eval()
        self._stops = _stop_tokens(model, self._tokenizer)
        self._pad = self._tokenizer.pad_token_id
        if self._pad is None:
            self._pad = self._stops[0] if self._stops else 0
        # Nothing that the model's repository sets may change the sampling unseen.
        self._model.generation_config = GenerationConfig()
        self._context = model.context_length or sys.maxsize
        self._label_tokens: dict[tuple[str, ...], dict[str, list[int]]] = {}

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        remaining = iter(requests)
        while window := self._read_window(remaining):
            yield from window.refused
            window.rows.sort(key=lambda row: (len(row.tokens), row.request.id))
            for _, rows in itertools.groupby(window.rows, lambda row: row.asked):
                while batch := list(itertools.islice(rows, self._settings.batch_size)):
                    try:
                        yield from self._decode(batch)
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
                tokens = prompt_tokens(request, self._tokenizer)
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

    @torch.inference_mode()
    def _decode(self, batch: Sequence[_Row]) -> Iterator[Result]:
        prompts = {row.request.id: row.tokens for row in batch}
        place = {request_id: place for place, request_id in enumerate(prompts)}
        ids, mask = self._pad_left(list(prompts.values()))
        rows = torch.tensor([place[row.request.id] for row in batch], device=self._device)
        most = batch[0].request.generation.max_tokens
        sampling = self._sampling(batch)
        output = self._model.generate(
            input_ids=ids[rows],
            attention_mask=mask[rows],
            past_key_values=self._read_prompts(ids, mask, rows, most),
            logits_processor=LogitsProcessorList([sampling]),
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=most,
                eos_token_id=self._stops or None,
                pad_token_id=self._pad,
            ),
        )
        answers = output[:, ids.shape[1] :].tolist()
        logprobs = torch.stack(sampling.logprobs, dim=1).tolist()
        watched = torch.stack(sampling.watched, dim=1).cpu() if sampling.watched else None
        for number, row in enumerate(batch):
            seen = None if watched is None else watched[number]
            yield self._result(row, answers[number], logprobs[number], seen)

    def _sampling(self, batch: Sequence[_Row]) -> SeededSampling:
        request = batch[0].request
        choices = None
        if request.choices:
            answers = [self._tokens(choice) for choice in request.choices]
            choices = Choices(answers, self._stops or [self._pad])
        return SeededSampling(
            [row.request.seed + row.draw for row in batch],
            request.generation,
            self._device,
            prompts=[row.tokens for row in batch],
            choices=choices,
            watched=self._watched(request.labels),
        )

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return tokens

    def _tokens_of(self, labels: tuple[str, ...]) -> dict[str, list[int]]:
        if labels not in self._label_tokens:
            vocabulary = self._tokenizer.get_vocab()
            self._label_tokens[labels] = label_tokens(vocabulary, self._tokenizer.tokenize, labels)
        return self._label_tokens[labels]

    def _watched(self, labels: tuple[str, ...]) -> list[int]:
        """The tokens of all labels, in a fixed order."""
        return [token for tokens in self._tokens_of(labels).values() for token in tokens]

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

    def _result(
        self, row: _Row, answer: list[int], logprob: list[float], watched: torch.Tensor | None
    ) -> Result:
        ends = [place for place, token in enumerate(answer) if token in self._stops]
        n_tokens = ends[0] + 1 if ends else len(answer)
        return Result(
            row.request.id,
            row.draw,
            text=self._text(answer[:n_tokens]),
            n_prompt_tokens=len(row.tokens),
            n_tokens=n_tokens,
            finish_reason="stop" if ends else "length",
            cumulative_logprob=sum(logprob[:n_tokens]),
            score_logprobs=(
                None if watched is None else self._score(row.request, answer[:n_tokens], watched)
            ),
        )

    def _text(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    def _score(
        self, request: Request, answer: Sequence[int], watched: torch.Tensor
    ) -> list[dict[str, Any]] | None:
        """The labels' log-probabilities where the score stands; None where it is no label's token.

        `watched`: positions × tokens of the labels.
        """
        tokens = self._watched(request.labels)
        place = score_token(answer, self._text, request.score_at, request.generation.reasoning)
        if place is None or answer[place] not in tokens:
            return None
        logprobs = dict(zip(tokens, watched[place].tolist(), strict=True))
        allowed = {token: logprob for token, logprob in logprobs.items() if logprob > -math.inf}
        return by_label(allowed, self._tokens_of(request.labels))


def find_device(name: str) -> torch.device:
    """The device that `engine.device` names; EngineError where the machine has none such."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise EngineError(f"engine.device: {name} is no device of this machine: {error}") from None


def _load(model: Checkpoint) -> Any:
    """The weights in the model's dtype, with its adapter.

    In float32 the adapter is merged and costs nothing more. In half precision it stays beside the
    weights, as in training and in vLLM: merged, a change smaller than half a step between two
    numbers of that type (in bfloat16 one in 256) would be rounded away.
    """
    base = AutoModelForCausalLM.from_pretrained(model.path, dtype=getattr(torch, model.dtype))
    if model.adapter is None:
        return base
    try:
        from peft import PeftModel
    except ImportError:
        raise MissingExtra("peft", "train") from None
    adapted = PeftModel.from_pretrained(base, model.adapter)
    return adapted.merge_and_unload() if model.dtype == "float32" else adapted.get_base_model()


def _stop_tokens(model: Checkpoint, tokenizer: Any) -> list[int]:
    """The tokens that end an answer: the model's, for chat models often more than the tokenizer's
    one."""
    found = model.stop_tokens
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in found:
        found.append(tokenizer.eos_token_id)
    return found


def open_engine(
    settings: TransformersEngine, models: Sequence[Checkpoint]
) -> AbstractContextManager[_Engine]:
    """Loads one model; its memory is given back when the context ends."""
    (model,) = models
    return loaded(lambda: _Engine(settings, model))


@contextmanager
def loaded(make: Callable[[], _Held]) -> Iterator[_Held]:
    """Holds what is made; the memory of its GPU is given back when the context ends."""
    engine = make()
    try:
        yield engine
    finally:
        del engine
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
