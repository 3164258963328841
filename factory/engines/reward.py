"""A reward model as a judge: one number for each answer, on a CPU or one GPU.

A reward model is a sequence classifier of transformers with one label: it reads a whole
conversation, of which the answer is the last turn, and its logit is the value. Requests are read a
window ahead and sorted by length, so that a batch holds little padding.
"""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from factory.engines.protocol import Request, Result, failures, prompt_tokens
from factory.errors import EngineError, MissingExtra, ModelError
from factory.models import Checkpoint, read_tensors
from factory.recipe import TransformersEngine

FIELD = "judge.reward_model"

HEADS = ("score", "classifier", "classification_head", "logits_proj")
"""What the last layer of a sequence classifier is called in transformers 5.19."""


def check(model: Checkpoint, field: str = FIELD) -> None:
    """Raises ModelError unless a folder has a sequence classifier with one label and the weights of
    its last layer, which would else be random. Reads its config.json and the headers of its
    weights; imports no engine. `field` is what the recipe calls it."""
    given = f"{field}: {model.path.name}"
    if model.adapter is not None:
        raise ModelError(
            f"{given} has an adapter, expected whole weights: merge it into the model, and leave "
            f"{field}.adapter out"
        )
    architectures = model.config.get("architectures") or []
    if not any(str(name).endswith("ForSequenceClassification") for name in architectures):
        raise ModelError(
            f"{given} is a {' '.join(map(str, architectures)) or 'model of no architecture'}, "
            "expected a …ForSequenceClassification with one label; a model that writes its "
            "judgments is named in judge.model"
        )
    labels = model.config.get("num_labels") or len(model.config.get("id2label") or (0, 1))
    if labels != 1:
        raise ModelError(
            f"{given} has {labels} labels, expected one, whose logit is the value of an answer: "
            "take a reward model"
        )
    tensors = [
        tensor.name
        for file in sorted(model.path.glob("*.safetensors"))
        for tensor in read_tensors(file, field)
    ]
    if tensors and not any(part in HEADS for name in tensors for part in name.split(".")):
        raise ModelError(
            f"{given} has no weights of a last layer ({', '.join(HEADS)}), without which its "
            "values are random: take a model that was trained as a reward model"
        )


@dataclass(frozen=True)
class _Row:
    """One conversation to read."""

    request: Request
    tokens: list[int]


class _Engine:
    name = "transformers"

    def __init__(self, settings: TransformersEngine, model: Checkpoint) -> None:
        try:
            import transformers
        except ImportError:
            raise MissingExtra("transformers", "train") from None
        from factory.engines.transformers import find_device

        self.version: str = transformers.__version__
        self._settings = settings
        self._device = find_device(settings.device)
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(model.path)
            self._model = _load(model).to(self._device).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineError(f"{model.name} could not be loaded: {error}") from error
        self._config = self._model.config.get_text_config()
        self._config.use_cache = False  # nothing is written after what is read
        self._pad: int | None = self._config.pad_token_id
        self._context = getattr(self._config, "max_position_embeddings", None) or sys.maxsize

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        import torch

        remaining = iter(requests)
        size = self._settings.batch_size
        while window := list(itertools.islice(remaining, self._settings.window * size)):
            rows = []
            for request in window:
                read = self._read(request)
                if isinstance(read, str):
                    yield from failures(request, read, "permanent")
                else:
                    rows.append(_Row(request, read))
            rows.sort(key=lambda row: (len(row.tokens), row.request.id))
            for start in range(0, len(rows), size):
                batch = rows[start : start + size]
                try:
                    values = self._values([row.tokens for row in batch])
                except torch.OutOfMemoryError as error:
                    raise EngineError(
                        f"out of memory with {len(batch)} conversations at once: lower "
                        "engine.batch_size"
                    ) from error
                for row, value in zip(batch, values, strict=True):
                    for draw in row.request.draws:
                        yield Result(
                            row.request.id, draw, value=value, n_prompt_tokens=len(row.tokens)
                        )

    def _read(self, request: Request) -> list[int] | str:
        """A conversation's tokens, or why it has no value."""
        try:
            tokens = prompt_tokens(request, self._tokenizer, answered=True)
        except Exception as error:  # a template may refuse a conversation with any exception
            return f"the chat template refused it: {error}"
        if not tokens:
            return "the chat template made nothing of it"
        if len(tokens) > self._context:
            return f"too long: {len(tokens)} tokens, the model's context is {self._context}"
        return tokens

    def _values(self, rows: Sequence[list[int]]) -> list[float]:
        """The logits of conversations, each as if it were read alone.

        Padded on the right, where it moves no token's position. Causal models take the logit of
        the last token that is not the padding of their configuration. Where that names none, alone
        they take that of the last token: the padding is then a token that no row ends with.
        """
        import torch

        ends = {row[-1] for row in rows}
        pad = self._pad
        if pad is None:
            pad = next(token for token in itertools.count() if token not in ends)
            self._config.pad_token_id = pad
        longest = max(map(len, rows))
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(longest) < lengths[:, None]).long()
        with torch.inference_mode():
            logits = self._model(
                input_ids=ids.to(self._device), attention_mask=mask.to(self._device)
            ).logits
        values: list[float] = logits[:, 0].float().tolist()
        return values


def _load(model: Checkpoint) -> Any:
    """The weights in the model's dtype, but for the last layer: its logit in bfloat16 would have
    eight bits, and many answers of a prompt the same value."""
    import torch
    from transformers import AutoModelForSequenceClassification

    loaded, info = AutoModelForSequenceClassification.from_pretrained(
        model.path, dtype=getattr(torch, model.dtype), output_loading_info=True
    )
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"{FIELD}: {model.path.name} has no weights for {', '.join(missing[:3])}, which would "
            "be random: take a model that was trained as a reward model"
        )
    head = next((found for name in HEADS if (found := getattr(loaded, name, None))), None)
    if isinstance(head, torch.nn.Linear) and head.weight.dtype != torch.float32:
        head.float()
        head.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    return loaded


def open_engine(settings: TransformersEngine, model: Checkpoint) -> AbstractContextManager[_Engine]:
    """Loads a reward model; its memory is given back when the context ends. Raises ModelError where
    it is none (`check`)."""
    check(model)
    from factory.engines.transformers import loaded

    return loaded(lambda: _Engine(settings, model))
