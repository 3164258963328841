"""Score answers with a reward model, on a CPU or one GPU.

A reward model is a sequence classifier of transformers with one label. It reads a conversation that
ends with the answer, and its logit is the score. The engine reads requests one window at a time and
sorts them by length.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from factory.engines.protocol import Request, Result
from factory.engines.read_ahead import Row, read_prompt, read_windows
from factory.engines.threads import share_cores
from factory.engines.tokenizers import load_tokenizer
from factory.errors import EngineError, MissingExtra, ModelError
from factory.models import Checkpoint, read_tensors
from factory.recipe import TransformersEngine

HEADS = ("score", "classifier", "classification_head", "logits_proj")
"""Names of the last layer in the sequence classifiers of transformers 5.19."""


def check_reward_model(model: Checkpoint) -> None:
    """Check that a model is a sequence classifier with one label. Raises ModelError.

    The weights must include the last layer, since transformers initializes missing layers randomly.
    This reads config.json and the headers of the weights, and imports no engine.
    """
    field, name = model.field, model.path.name
    if model.adapter is not None:
        raise ModelError(
            field,
            f"{name} has an adapter, but a reward model needs merged weights",
            "merge the adapter into the model, then remove the field `adapter`",
        )
    architectures = model.config.get("architectures") or []
    if not any(str(name).endswith("ForSequenceClassification") for name in architectures):
        raise ModelError(
            field,
            f"{name} has the architecture {' '.join(map(str, architectures)) or '(none)'}, "
            "but a reward model must be a sequence classifier with one label",
            "use judge.model for a model that writes judgments as text",
        )
    labels = model.config.get("num_labels") or len(model.config.get("id2label") or (0, 1))
    if labels != 1:
        raise ModelError(
            field,
            f"{name} has {labels} labels, but a reward model must have exactly one",
            "use a reward model with one label",
        )
    tensors = [
        tensor.name
        for file in sorted(model.path.glob("*.safetensors"))
        for tensor in read_tensors(file, field)
    ]
    if tensors and not any(part in HEADS for name in tensors for part in name.split(".")):
        raise ModelError(
            field,
            f"{name} lacks the weights of the last layer ({', '.join(HEADS)}), so the scores "
            "would be random",
            "use a model that was trained as a reward model",
        )


class _Engine:
    name = "transformers"

    def __init__(self, settings: TransformersEngine, model: Checkpoint) -> None:
        try:
            import transformers
        except ImportError:
            raise MissingExtra("transformers", "train") from None
        from factory.engines.device import find_device

        self.version: str = transformers.__version__
        self._settings = settings
        self._device = find_device(settings.device)
        try:
            self._tokenizer = load_tokenizer(model.path, model.field)
            self._model = _load(model).to(self._device).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineError(
                model.field, f"could not load {model.name}: {error}", "check the model's files"
            ) from error
        self._config = self._model.config.get_text_config()
        self._config.use_cache = False  # the model generates no tokens
        self._pad: int | None = self._config.pad_token_id
        self._context: int | None = getattr(self._config, "max_position_embeddings", None)

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        size = self._settings.batch_size
        for rows, refused in read_windows(requests, self._read, self._settings.window * size):
            yield from refused
            for start in range(0, len(rows), size):
                yield from self._judge(rows[start : start + size])

    def _read(self, request: Request) -> list[int]:
        return read_prompt(request, self._tokenizer, self._context, answered=True)

    def _judge(self, batch: Sequence[Row]) -> Iterator[Result]:
        import torch

        try:
            values = self._values([row.tokens for row in batch])
        except torch.OutOfMemoryError as error:
            raise EngineError(
                "engine.batch_size",
                f"out of memory with a batch of {len(batch)} conversations",
                "lower engine.batch_size",
            ) from error
        for row, value in zip(batch, values, strict=True):
            yield Result(row.request.id, row.draw, value=value, n_prompt_tokens=len(row.tokens))

    def _values(self, rows: Sequence[list[int]]) -> list[float]:
        """Return the logits of a batch of conversations, unaffected by padding.

        Padding is on the right, so that it does not shift the positions of tokens. Causal models
        return the logit of the last token that differs from the padding token in the configuration.
        If the configuration has none, use a token with which no row ends.
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
    """Load the weights in the model's dtype, and the last layer in float32.

    In bfloat16, the logit would have only eight significant bits, so that many answers to a prompt
    would get the same score.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    from factory.engines.device import load_weights

    loaded = load_weights(AutoModelForSequenceClassification, model)
    head = next((found for name in HEADS if (found := getattr(loaded, name, None))), None)
    if isinstance(head, torch.nn.Linear) and head.weight.dtype != torch.float32:
        head.float()
        head.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    return loaded


def open_engine(settings: TransformersEngine, model: Checkpoint) -> AbstractContextManager[_Engine]:
    """Load a reward model, and free its memory when the context ends.

    Raises ModelError if the model is not a reward model (see `check_reward_model`).
    """
    check_reward_model(model)
    share_cores()
    from factory.engines.device import hold_loaded

    return hold_loaded(lambda: _Engine(settings, model))
