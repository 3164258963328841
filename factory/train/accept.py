"""A model that another trainer made: whether it can be the one that the loop waits for."""

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
    read_json,
    read_tensors,
)

ALIKE = ("architectures", "model_type", "hidden_size", "num_hidden_layers", "vocab_size")
"""What a trained model's config.json has in common with its parent's."""

_TIED = "lm_head.weight"
"""Saved by some and not by others where it is the embedding."""


def check_trained_model(
    path: Path, parent: Checkpoint, first: Checkpoint, wants_adapter: bool, field: str
) -> None:
    """Raise ModelError unless a folder has a model that was trained from `parent`.

    If `wants_adapter`, it must be an adapter on the base of `first`, which is M_0. Otherwise it
    must have weights of the parent's names and shapes, and the parent's tokenizer and chat
    template, or none. `field` is the recipe field or option behind the folder, for errors.

    Reads headers and the files of the tokenizer. Reads the weights only for their digest.
    """
    if not path.is_dir():
        raise ModelError(
            field, f"it left no folder {path.name}", "expected the trained model there"
        )
    if is_adapter(path) != wants_adapter:
        kind, expected = (
            ("an adapter", "whole weights")
            if is_adapter(path)
            else ("no adapter", "one (adapter_config.json)")
        )
        raise ModelError(
            field,
            f"{path} is {kind}, expected {expected}",
            "set train.lora: {} for adapters, and leave it out for whole weights",
        )
    if wants_adapter:
        _check_adapter(path, parent, first, field)
        is_parent = parent.adapter and _has_digest(path, parent.adapter)
    else:
        _check_config(path, parent, field)
        _check_weights(path, parent, field)
        _check_tokenizer(path, parent, field)
        is_parent = parent.adapter is None and _has_digest(path, parent.path)
    if is_parent:
        raise ModelError(
            field, f"{path} is {parent.name} itself", "expected a model that was trained from it"
        )


def _has_digest(path: Path, other: Path) -> bool:
    """Return whether two folders hold the same adapter, or the same weights."""
    if is_adapter(path):
        return adapter_digest(path, "", {}) == adapter_digest(other, "", {})
    return folder_digest(path, "", {}) == folder_digest(other, "", {})


def _check_adapter(path: Path, parent: Checkpoint, first: Checkpoint, field: str) -> None:
    check_adapter(path, first.path, field, first.field)
    if len(model_files(path)) < 2:
        raise ModelError(field, f"{path} has no weights", "expected adapter_model.safetensors")


def _check_config(path: Path, parent: Checkpoint, field: str) -> None:
    config = read_json(path / "config.json", field)
    if not config:
        raise ModelError(field, f"{path} has no config.json", "expected a model's folder")
    for name in ALIKE:
        if config.get(name) != parent.config.get(name):
            raise ModelError(
                field,
                f"{path} has {name} {config.get(name)!r}",
                f"expected {parent.config.get(name)!r}, as its parent {parent.name} has it",
            )


def _check_weights(path: Path, parent: Checkpoint, field: str) -> None:
    shapes, expected = _shapes(path), _shapes(parent.path)
    if not shapes:
        raise ModelError(field, f"{path} has no weights", "expected *.safetensors files")
    for name in sorted((shapes.keys() ^ expected.keys()) - {_TIED}) if expected else ():
        where = "is not among its weights" if name in expected else "is no weight of its parent"
        raise ModelError(field, f"{path}: {name} {where}", "expected the parent's weights, trained")
    for name in sorted(shapes.keys() & expected.keys()):
        if shapes[name] != expected[name]:
            raise ModelError(
                field,
                f"{path}: {name} has the shape {shapes[name]}",
                f"expected {expected[name]}, the shape in its parent",
            )


def _shapes(path: Path) -> dict[str, Any]:
    return {
        tensor.name: tensor.shape
        for file in sorted(path.glob("*.safetensors"))
        for tensor in read_tensors(file, "model")
    }


def _check_tokenizer(path: Path, parent: Checkpoint, field: str) -> None:
    ours, theirs = (read_json(folder / "tokenizer.json", field) for folder in (parent.path, path))
    # How it pads and cuts is the trainer's business and is saved with it.
    parts = (ours.keys() | theirs.keys()) - {"padding", "truncation"}
    if theirs and (other := sorted(part for part in parts if ours.get(part) != theirs.get(part))):
        raise ModelError(
            field,
            f"{path} has another tokenizer than {parent.name} ({other[0]} differs)",
            "expected the same, or none",
        )
    template = chat_template(path, field)
    if template is not None and template != chat_template(parent.path, parent.field):
        raise ModelError(
            field,
            f"{path} has another chat template than {parent.name}",
            "expected the same, or none",
        )
