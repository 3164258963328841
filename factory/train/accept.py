"""A model that another trainer made: whether it can be the one that the loop waits for."""

import json
from pathlib import Path
from typing import Any

from factory.errors import ModelError
from factory.models import (
    Checkpoint,
    adapter_digest,
    chat_template,
    check_adapter,
    folder_digest,
    is_adapter,
    model_files,
    read_tensors,
)

ALIKE = ("architectures", "model_type", "hidden_size", "num_hidden_layers", "vocab_size")
"""What a trained model's config.json has in common with its parent's."""

_TIED = "lm_head.weight"
"""Saved by some and not by others where it is the embedding."""


_TRAINED = "expected what was trained from it"


def check_trained_model(
    path: Path, parent: Checkpoint, first: Checkpoint, wants_adapter: bool, who: str
) -> None:
    """Raises ModelError unless a folder holds what was trained from `parent`: an adapter of the
    base of `first`, M_0, if `wants_adapter`, else weights of the parent's names and shapes, with
    the parent's tokenizer and chat template where it has any. `who` made it, for the sentence.

    Reads headers and the files of the tokenizer; the weights themselves only for their digest.
    """
    if not path.is_dir():
        raise ModelError(f"{who}: it left no folder {path.name}: expected the trained model there")
    if is_adapter(path) != wants_adapter:
        came, expected = (
            ("an adapter", "whole weights")
            if is_adapter(path)
            else ("no adapter", "one (adapter_config.json)")
        )
        raise ModelError(
            f"{who}: {path} is {came}, expected {expected}: set train.lora: {{}} for adapters, and "
            "leave it out for whole weights"
        )
    if wants_adapter:
        check_adapter(path, first.path, who, first.field)
        if len(model_files(path)) < 2:
            raise ModelError(f"{who}: {path} has no weights: expected adapter_model.safetensors")
        if parent.adapter and adapter_digest(path, "", {}) == adapter_digest(
            parent.adapter, "", {}
        ):
            raise ModelError(f"{who}: {path} is {parent.name} itself: {_TRAINED}")
        return
    _check_config(path, parent, who)
    _check_weights(path, parent, who)
    _check_tokenizer(path, parent, who)
    if parent.adapter is None and folder_digest(path, parent.dtype, {}) == folder_digest(
        parent.path, parent.dtype, {}
    ):
        raise ModelError(f"{who}: {path} is {parent.name} itself: {_TRAINED}")


def _check_config(path: Path, parent: Checkpoint, who: str) -> None:
    config = _json(path / "config.json")
    if not config:
        raise ModelError(f"{who}: {path} has no config.json: expected a model's folder")
    for name in ALIKE:
        if config.get(name) != parent.config.get(name):
            raise ModelError(
                f"{who}: {path} has {name} {config.get(name)!r}, and {parent.name}, from which it "
                f"is to be trained, {parent.config.get(name)!r}"
            )


def _check_weights(path: Path, parent: Checkpoint, who: str) -> None:
    shapes, expected = _shapes(path), _shapes(parent.path)
    if not shapes:
        raise ModelError(f"{who}: {path} has no weights: expected *.safetensors files")
    for name in sorted((shapes.keys() ^ expected.keys()) - {_TIED}) if expected else ():
        where = "is not among its weights" if name in expected else "is no weight of its parent"
        raise ModelError(f"{who}: {path}: {name} {where}: expected the parent's weights, trained")
    for name in sorted(shapes.keys() & expected.keys()):
        if shapes[name] != expected[name]:
            raise ModelError(
                f"{who}: {path}: {name} has the shape {shapes[name]}, and its parent's is "
                f"{expected[name]}"
            )


def _shapes(path: Path) -> dict[str, Any]:
    return {
        tensor.name: tensor.shape
        for file in sorted(path.glob("*.safetensors"))
        for tensor in read_tensors(file, "model")
    }


def _check_tokenizer(path: Path, parent: Checkpoint, who: str) -> None:
    ours, theirs = (_json(folder / "tokenizer.json") for folder in (parent.path, path))
    # How it pads and cuts is the trainer's business and is saved with it.
    parts = (ours.keys() | theirs.keys()) - {"padding", "truncation"}
    if theirs and (other := sorted(part for part in parts if ours.get(part) != theirs.get(part))):
        raise ModelError(
            f"{who}: {path} has another tokenizer than {parent.name} ({other[0]} differs): "
            "expected the same, or none"
        )
    template = chat_template(path, who)
    if template is not None and template != chat_template(parent.path, parent.field):
        raise ModelError(
            f"{who}: {path} has another chat template than {parent.name}: expected the same, or "
            "none"
        )


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read as JSON: {error}") from None
    return content if isinstance(content, dict) else {}
