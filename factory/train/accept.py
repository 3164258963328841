"""Check that a model trained outside the factory can be used in the loop."""

from pathlib import Path
from typing import Any

from factory.errors import ModelError
from factory.models import (
    Checkpoint,
    adapter_digest,
    chat_template,
    check_adapter,
    check_all_weights,
    folder_digest,
    is_adapter,
    model_files,
    read_json,
    read_tensors,
)

ALIKE = ("architectures", "model_type", "hidden_size", "num_hidden_layers", "vocab_size")
"""Fields of config.json that a trained model must share with its parent."""

_TIED = "lm_head.weight"
"""Name of the output weights. If they are tied to the embedding, only some trainers save them."""


def check_trained_model(
    path: Path, parent: Checkpoint, first: Checkpoint, wants_adapter: bool, field: str
) -> None:
    """Raise ModelError unless a folder contains a model trained from `parent`.

    If `wants_adapter`, the folder must contain an adapter for the base model of `first`, which is
    M_0. Otherwise it must contain weights with the names and shapes of the parent's weights. A
    tokenizer and a chat template are optional, but must equal the parent's. `field` is the recipe
    field or option that names the folder, for error messages.

    Reads the headers of the weights and the tokenizer's files. Reads the weights only to compare
    their digest with the parent's.
    """
    if not path.is_dir():
        raise ModelError(
            field, f"the folder {path} does not exist", "write the trained model to that folder"
        )
    if is_adapter(path) != wants_adapter:
        kind, expected = (
            ("an adapter", "full weights")
            if is_adapter(path)
            else ("no adapter_config.json", "an adapter")
        )
        raise ModelError(
            field,
            f"expected {expected}, but {path} contains {kind}",
            "set train.lora to {} to train adapters, or remove train.lora to train full weights",
        )
    if wants_adapter:
        _check_adapter(path, parent, first, field)
        is_parent = parent.adapter and _has_digest(path, parent.adapter)
    else:
        _check_config(path, parent, field)
        _check_weights(path, parent, field)
        check_all_weights(path, field)
        _check_tokenizer(path, parent, field)
        _check_stop_tokens(path, parent, field)
        is_parent = parent.adapter is None and _has_digest(path, parent.path)
    if is_parent:
        raise ModelError(
            field,
            f"{path} contains {parent.name} unchanged",
            f"provide a model that was trained from {parent.name}",
        )


def _has_digest(path: Path, other: Path) -> bool:
    """Return whether two folders contain the same adapter, or the same weights."""
    if is_adapter(path):
        return adapter_digest(path, "", {}) == adapter_digest(other, "", {})
    return folder_digest(path, "", {}) == folder_digest(other, "", {})


def _check_adapter(path: Path, parent: Checkpoint, first: Checkpoint, field: str) -> None:
    check_adapter(path, first.path, field, first.field)
    if len(model_files(path)) < 2:
        raise ModelError(
            field, f"{path} contains no adapter weights", "add adapter_model.safetensors"
        )


def _check_config(path: Path, parent: Checkpoint, field: str) -> None:
    config = read_json(path / "config.json", field)
    if not config:
        raise ModelError(
            field, f"{path} contains no config.json", "provide a complete model folder"
        )
    for name in ALIKE:
        if config.get(name) != parent.config.get(name):
            raise ModelError(
                field,
                f"config.json in {path} sets {name} to {config.get(name)!r}, but "
                f"{parent.name} has {parent.config.get(name)!r}",
                f"provide a model that was trained from {parent.name}",
            )


def _check_weights(path: Path, parent: Checkpoint, field: str) -> None:
    shapes, expected = _shapes(path), _shapes(parent.path)
    if not shapes:
        raise ModelError(
            field, f"{path} contains no *.safetensors files", "save the model as safetensors"
        )
    for name in sorted((shapes.keys() ^ expected.keys()) - {_TIED}) if expected else ():
        where = f"lacks the weight {name}" if name in expected else f"has an extra weight {name}"
        raise ModelError(
            field,
            f"the model in {path} {where}",
            f"provide a model with the same weight names as {parent.name}",
        )
    for name in sorted(shapes.keys() & expected.keys()):
        if shapes[name] != expected[name]:
            raise ModelError(
                field,
                f"the weight {name} in {path} has the shape {shapes[name]}, but in "
                f"{parent.name} it has the shape {expected[name]}",
                f"provide a model that was trained from {parent.name}",
            )


def _shapes(path: Path) -> dict[str, Any]:
    return {
        tensor.name: tensor.shape
        for file in sorted(path.glob("*.safetensors"))
        for tensor in read_tensors(file, "model")
    }


def _check_tokenizer(path: Path, parent: Checkpoint, field: str) -> None:
    ours, theirs = (read_json(folder / "tokenizer.json", field) for folder in (parent.path, path))
    # Trainers save their own padding and truncation settings.
    parts = (ours.keys() | theirs.keys()) - {"padding", "truncation"}
    if theirs and (other := sorted(part for part in parts if ours.get(part) != theirs.get(part))):
        raise ModelError(
            field,
            f"the tokenizer in {path} differs from the tokenizer of {parent.name} in the field "
            f"{other[0]}",
            f"use the tokenizer of {parent.name}, or remove the tokenizer files",
        )
    template = chat_template(path, field)
    if template is not None and template != chat_template(parent.path, parent.field):
        raise ModelError(
            field,
            f"the chat template in {path} differs from the chat template of {parent.name}",
            f"use the chat template of {parent.name}, or remove the chat template",
        )


def _check_stop_tokens(path: Path, parent: Checkpoint, field: str) -> None:
    """Check that the model ends its answers at the same tokens as its parent.

    Some trainers write a generation_config.json with a single one of them.
    """
    name = "generation_config.json"
    if not (path / name).is_file():
        return  # the model gets the file of its parent
    trained = Checkpoint(parent.name, path, digest="", dtype=parent.dtype, field=field)
    if lost := sorted({*parent.stop_tokens} - {*trained.stop_tokens}):
        raise ModelError(
            field,
            f"the model in {path} no longer ends an answer at the token {lost[0]}, as "
            f"{parent.name} does",
            f"copy {name} from {parent.name}, or remove it",
        )
