"""The `transformers` engine, which generates answers in batches on a CPU or one GPU.

The engine reads requests one window at a time and sorts them by length. The draws of a request
share the KV cache of its prompt. Every draw has its own seed and, except for rounding, does not
depend on the other rows of the batch. `generate` has no seed per row, so `SeededSampling` chooses
the tokens.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from factory.engines.labels import by_label, label_tokens, score_token
from factory.engines.protocol import Request, Result
from factory.engines.read_ahead import Row, read_prompt, read_windows
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
        GenerationConfig,
        LogitsProcessorList,
    )

    from factory.engines.device import find_device, hold_loaded
    from factory.engines.kv_cache import copy_to_rows
    from factory.engines.sampling import Choices, SeededSampling
except ImportError as missing:
    raise MissingExtra("transformers", "train") from missing


def _batch_key(row: Row) -> tuple[Any, ...]:
    """Return the settings that all rows of a batch must share."""
    request = row.request
    return request.generation, request.labels, request.score_at, request.choices


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
            raise EngineError(
                model.field, f"could not load {model.name}: {error}", "check the model's files"
            ) from error
        self._model.eval()
        self._stops = _stop_tokens(model, self._tokenizer)
        self._pad = self._tokenizer.pad_token_id
        if self._pad is None:
            self._pad = self._stops[0] if self._stops else 0
        # Sampling must depend only on the recipe: discard the model's generation_config.
        self._model.generation_config = GenerationConfig()
        self._context = model.context_length
        self._label_tokens: dict[tuple[str, ...], dict[str, list[int]]] = {}

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        size = self._settings.batch_size
        for window, refused in read_windows(requests, self._read, self._settings.window * size):
            yield from refused
            for _, rows in itertools.groupby(window, _batch_key):
                while batch := list(itertools.islice(rows, size)):
                    try:
                        yield from self._decode(batch)
                    except torch.OutOfMemoryError as error:
                        raise EngineError(
                            "engine.batch_size",
                            f"out of memory with a batch of {len(batch)} sequences",
                            "lower engine.batch_size or sampling.max_tokens",
                        ) from error

    def _read(self, request: Request) -> list[int]:
        return read_prompt(request, self._tokenizer, self._context)

    @torch.inference_mode()
    def _decode(self, batch: Sequence[Row]) -> Iterator[Result]:
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

    def _sampling(self, batch: Sequence[Row]) -> SeededSampling:
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
        """Return the token ids of all labels, in a fixed order."""
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
        """Run the model once on each prompt without its last token, and copy the KV cache to rows.

        Each row has space for `most` more tokens. Return None for models without a plain KV cache;
        `generate` then processes the prompt of each row.
        """
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
        return copy_to_rows(read, rows, most + 1)

    def _result(
        self, row: Row, answer: list[int], logprob: list[float], watched: torch.Tensor | None
    ) -> Result:
        ends = [place for place, token in enumerate(answer) if token in self._stops]
        n_tokens = ends[0] + 1 if ends else len(answer)
        return Result(
            row.request.id,
            row.draw,
            # Without the stop token, which some tokenizers do not mark as special.
            text=self._text(answer[: ends[0]] if ends else answer),
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
        """Return the labels' log-probabilities at the score; None if the score is not a label.

        `watched` has shape (positions, tokens of the labels).
        """
        tokens = self._watched(request.labels)
        place = score_token(answer, self._text, request.score_at, request.generation.reasoning)
        if place is None or answer[place] not in tokens:
            return None
        logprobs = dict(zip(tokens, watched[place].tolist(), strict=True))
        allowed = {token: logprob for token, logprob in logprobs.items() if logprob > -math.inf}
        return by_label(allowed, self._tokens_of(request.labels))


def _load(model: Checkpoint) -> Any:
    """Load the weights in the model's dtype, with its adapter if it has one.

    In float32, the adapter is merged, so that it costs no time. In half precision, it stays
    separate, as in training and in vLLM. Merging would lose changes that are smaller than half the
    distance between two numbers of that dtype (a relative distance of 1/256 in bfloat16).
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
    """Return the stop tokens: those of the model, and the tokenizer's end-of-sequence token."""
    found = model.stop_tokens
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in found:
        found.append(tokenizer.eos_token_id)
    return found


def open_engine(
    settings: TransformersEngine, models: Sequence[Checkpoint]
) -> AbstractContextManager[_Engine]:
    """Load a model, and free its memory when the context ends."""
    (model,) = models
    return hold_loaded(lambda: _Engine(settings, model))
