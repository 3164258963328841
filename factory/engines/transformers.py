"""The `transformers` engine, which generates answers in batches on a CPU or one GPU.

The engine reads requests one window at a time and sorts them by length. The draws of a request
share the KV cache of its prompt. Every draw has its own seed and, except for rounding, does not
depend on the other rows of the batch. `generate` has no seed per row, so `SeededSampling` chooses
the tokens.

If a label of a score has several tokens, the engine runs the model once more on the beginnings of
the labels, and reuses the KV cache of the judgments.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from factory.engines.labels import FoundScore, LabelTree, Tokens, find_score, label_tree
from factory.engines.protocol import Request, Result
from factory.engines.read_ahead import Row, read_prompt, read_windows
from factory.engines.tokenizers import AnswerDecoder, load_tokenizer
from factory.errors import EngineError, MissingExtra
from factory.models import Checkpoint
from factory.recipe import TransformersEngine

try:
    import torch
    import transformers
    from transformers import (
        AutoModelForCausalLM,
        Cache,
        GenerationConfig,
        LogitsProcessorList,
    )

    from factory.engines.device import find_device, hold_loaded, load_weights
    from factory.engines.kv_cache import copy_to_rows
    from factory.engines.sampling import Choices, SeededSampling
except ImportError as missing:
    raise MissingExtra("transformers", "train") from missing


def _batch_key(row: Row) -> tuple[Any, ...]:
    """Return the settings that all rows of a batch must share."""
    request = row.request
    return request.generation, request.labels, request.score_at, request.choices


@dataclass(frozen=True)
class _Part:
    """The beginning of a label, at the position of the score in a judgment."""

    row: int
    """The judgment's row in the batch."""
    before: Tokens
    """Tokens of the judgment before the score."""
    beginning: Tokens


class _Engine:
    name = "transformers"
    version = transformers.__version__

    def __init__(self, settings: TransformersEngine, model: Checkpoint) -> None:
        self._settings = settings
        self._device = find_device(settings.device)
        try:
            self._tokenizer = load_tokenizer(model.path, model.field, padding_side="left")
            self._model = _load(model).to(self._device)
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineError(
                model.field, f"could not load {model.name}: {error}", "check the model's files"
            ) from error
        self._model.eval()
        self._decoder = AnswerDecoder(self._tokenizer)
        self._stops = _stop_tokens(model, self._tokenizer)
        self._pad = self._tokenizer.pad_token_id
        if self._pad is None:
            self._pad = self._stops[0] if self._stops else 0
        # Sampling must depend only on the recipe: discard the model's generation_config.
        self._model.generation_config = GenerationConfig()
        self._context = model.context_length
        self._trees: dict[tuple[str, ...], LabelTree] = {}

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
        extra = self._tree(request.labels).longest
        return read_prompt(request, self._tokenizer, self._context, extra=max(0, extra - 1))

    @torch.inference_mode()
    def _decode(self, batch: Sequence[Row]) -> Iterator[Result]:
        prompts = {row.request.id: row.tokens for row in batch}
        place = {request_id: place for place, request_id in enumerate(prompts)}
        ids, mask = self._pad_left(list(prompts.values()))
        rows = torch.tensor([place[row.request.id] for row in batch], device=self._device)
        most = batch[0].request.generation.max_tokens
        sampling = self._sampling(batch)
        cache = self._read_prompts(ids, mask, rows, most)
        output = self._model.generate(
            input_ids=ids[rows],
            attention_mask=mask[rows],
            past_key_values=cache,
            logits_processor=LogitsProcessorList([sampling]),
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=most,
                eos_token_id=self._stops or None,
                pad_token_id=self._pad,
            ),
        )
        logprobs = torch.stack(sampling.logprobs, dim=1).tolist()
        answers = [self._cut(answer) for answer in output[:, ids.shape[1] :].tolist()]
        results = [self._result(*each) for each in zip(batch, answers, logprobs, strict=True)]
        if sampling.watched:
            watched = torch.stack(sampling.watched, dim=1).cpu()
            found = self._find_scores(batch, answers, watched)
            self._read_labels(batch, found, cache, mask[rows])
            results = [
                replace(result, score_logprobs=score.logprobs if score else None)
                for result, score in zip(results, found, strict=True)
            ]
        yield from results

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
            watched=self._tree(request.labels).next_tokens(),
        )

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return tokens

    def _tree(self, labels: tuple[str, ...]) -> LabelTree:
        if labels not in self._trees:
            vocabulary = self._tokenizer.get_vocab()
            self._trees[labels] = label_tree(vocabulary, self._tokenizer.tokenize, labels)
        return self._trees[labels]

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

    def _cut(self, answer: list[int]) -> list[int]:
        """Return an answer's tokens up to the first stop token."""
        ends = [place for place, token in enumerate(answer) if token in self._stops]
        return answer[: ends[0] + 1] if ends else answer

    def _result(self, row: Row, answer: list[int], logprobs: list[float]) -> Result:
        return Result(
            row.request.id,
            row.draw,
            # Drop the stop token here, because some tokenizers do not mark it as special.
            text=self._decoder(
                answer[:-1] if answer[-1] in self._stops else answer,
                row.request.generation.reasoning,
            ),
            n_prompt_tokens=len(row.tokens),
            n_tokens=len(answer),
            finish_reason="stop" if answer[-1] in self._stops else "length",
            cumulative_logprob=sum(logprobs[: len(answer)]),
        )

    # Scores

    def _find_scores(
        self, batch: Sequence[Row], answers: Sequence[list[int]], watched: torch.Tensor
    ) -> list[FoundScore | None]:
        """Return the score in each answer. `watched` has the log-probabilities of the labels' first
        tokens, with shape (answers, positions, tokens)."""
        tree = self._tree(batch[0].request.labels)
        tags = batch[0].request.generation.reasoning

        def decode(tokens: Sequence[int]) -> str:
            return self._decoder(tokens, tags)

        def find(row: Row, answer: list[int], seen: torch.Tensor) -> FoundScore | None:
            if answer[-1] in self._stops:  # the parser must not see the text of a stop token
                answer = answer[:-1]

            def logprobs(place: int) -> dict[int, float]:
                return dict(zip(tree.next_tokens(), seen[place].tolist(), strict=True))

            return find_score(tree, row.request, answer, decode, logprobs)

        return list(map(find, batch, answers, watched))

    def _read_labels(
        self,
        batch: Sequence[Row],
        scores: Sequence[FoundScore | None],
        cache: Cache | None,
        mask: torch.Tensor,
    ) -> None:
        """Run the model on the beginnings of labels, and store the next tokens' log-probabilities
        in the scores. Draws with the same text before the score share a row.

        `cache` is the KV cache of the prompts and answers, and `mask` is the prompts' attention
        mask, with one row per answer.
        """
        first: dict[tuple[str, Tokens], int] = {}
        parts: dict[_Part, list[FoundScore]] = {}
        for number, score in enumerate(scores):
            if score is None:
                continue
            before = tuple(score.before)
            row = first.setdefault((batch[number].request.id, before), number)
            for beginning in score.missing:
                parts.setdefault(_Part(row, before, beginning), []).append(score)
        remaining = iter(parts)
        while some := list(itertools.islice(remaining, self._settings.batch_size)):
            logprobs = self._read_parts(batch, some, cache, mask)
            for part, following in zip(some, logprobs, strict=True):
                for score in parts[part]:
                    tokens = score.tree.next_tokens(part.beginning)
                    seen = following[tokens].tolist()
                    score.after[part.beginning] = dict(zip(tokens, seen, strict=True))

    def _read_parts(
        self, batch: Sequence[Row], parts: Sequence[_Part], cache: Cache | None, mask: torch.Tensor
    ) -> torch.Tensor:
        """Return the log-probabilities of all tokens after each part, with shape (parts, tokens).

        The parts reuse the KV cache of their prompts and judgments. The mask hides the judgment's
        tokens from the score on.
        """
        ids, seen = self._pad_left([list(part.beginning) for part in parts])
        past = None
        if cache is not None:
            rows = torch.tensor([part.row for part in parts], device=self._device)
            past = copy_to_rows(cache, rows, ids.shape[1])
        if past is None:
            texts = [[*batch[part.row].tokens, *part.before, *part.beginning] for part in parts]
            ids, seen = self._pad_left(texts)
        else:
            n_prompt = mask.shape[1]
            cached = seen.new_zeros((len(parts), past.get_seq_length()))
            cached[:, :n_prompt] = mask[rows]
            for place, part in enumerate(parts):
                cached[place, n_prompt : n_prompt + len(part.before)] = 1
            seen = torch.cat([cached, seen], dim=1)
        positions = (seen.cumsum(dim=-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        logits = self._model(
            input_ids=ids,
            attention_mask=seen,
            position_ids=positions,
            past_key_values=past,
            use_cache=past is not None,
            logits_to_keep=1,
        ).logits[:, -1]
        return torch.log_softmax(logits.float(), dim=-1)


def _load(model: Checkpoint) -> Any:
    """Load the weights in the model's dtype, with its adapter if it has one.

    In float32, the adapter is merged, so that it costs no time. In half precision, it stays
    separate, as in training and in vLLM. Merging would lose changes that are smaller than half the
    distance between two numbers of that dtype (a relative distance of 1/256 in bfloat16).
    """
    base = load_weights(AutoModelForCausalLM, model)
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
