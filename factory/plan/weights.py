"""Estimate the size of a model and the memory of its training, without reading its weights.

All sizes are estimates; each function says what it leaves out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.errors import RecipeError
from factory.models import Tensor, declared_dtype, model_files, read_tensors
from factory.recipe import Method, Model, Train
from factory.stages import adapter_fields

_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes per number."""


@dataclass(frozen=True)
class Weights:
    """The size of a model, by its files."""

    parameters: int
    dtype: str
    loaded: int
    """Bytes when loaded in its dtype."""
    adapter: int
    """Parameters of the adapter that the recipe trains; 0 if it trains all weights."""


def weigh(model: Model, path: Path, field: str, train: Train | None = None) -> Weights | None:
    """Return the size of a model in the folder `path`; None if it has no weights (the scripted
    engine needs none).

    `field` is the recipe section that names the model, and `train` how the recipe trains it. Raises
    ModelError if a file is cut short, and RecipeError if the adapter's rank is no number.
    """
    field = f"{field}.path"
    files = [file for file in model_files(path) if file.suffix in (".safetensors", ".bin")]
    # Some repositories hold the same weights a second time, as consolidated.safetensors.
    files = [file for file in files if file.name.startswith("model")] or files
    if not files:
        return None
    declared = declared_dtype(path, field)
    dtype = declared if model.dtype == "auto" else model.dtype
    tensors = [tensor for file in files for tensor in _tensors(file, declared, field)]
    number = _BYTES.get(dtype, 4)
    return Weights(
        parameters=sum(tensor.size for tensor in tensors),
        dtype=dtype,
        loaded=sum(
            tensor.size * number if tensor.floating else tensor.stored for tensor in tensors
        ),
        adapter=0 if train is None else _adapter_parameters(train, tensors),
    )


def _tensors(file: Path, dtype: str, field: str) -> list[Tensor]:
    """Return the tensors of a file of weights. A pickled file counts as one tensor of the model's
    dtype, since reading it needs torch."""
    if file.suffix == ".safetensors":
        return read_tensors(file, field)
    size = file.stat().st_size
    return [Tensor(file.name, [size // _BYTES.get(dtype, 4)], True, size)]


def _adapter_parameters(train: Train, tensors: Sequence[Tensor]) -> int:
    """Return the parameters of the adapter: rank × (in + out) per matrix that it changes; 0 for a
    pickled model, whose matrices are unknown."""
    fields = adapter_fields(train)
    if fields is None:
        return 0
    rank, targets = fields["r"], fields["target_modules"]
    if not isinstance(rank, int):
        raise RecipeError("train.lora.r", f"got {rank!r}", "expected a whole number")
    return sum(
        rank * sum(tensor.shape)
        for tensor in tensors
        if len(tensor.shape) == 2 and _targeted(tensor.name.removesuffix(".weight"), targets)
    )


def _targeted(module: str, targets: Any) -> bool:
    """Return whether PEFT puts an adapter on a module: the last part of its name is in a list, a
    regular expression matches all of it, or it is any linear layer but the last."""
    last = module.rpartition(".")[2]
    if targets == "all-linear":
        return "embed" not in last and last != "lm_head"
    if isinstance(targets, str):
        return re.fullmatch(targets, module) is not None
    return last in (targets or ())


def training_bytes(train: Train, method: Method, weights: Weights) -> int:
    """Estimate the memory of a training with AdamW, in bytes.

    Counts the weights, their gradients, and two moments, each in the dtype of training (float32:
    4 + 4 + 8 bytes per parameter), and for DPO the reference model (4), unless its
    log-probabilities are precomputed. With LoRA these are the adapter's parameters; the base is
    loaded once, in its own dtype, and is the reference.

    Leaves out activations, which grow with batch and length, and torch's reserved memory.
    """
    if train.lora is not None:
        return weights.loaded + 16 * weights.adapter
    fields = train.fields(method)
    options = fields.get("model_init_kwargs") or {}
    number = _BYTES.get(str(options.get("dtype", "float32")), 4)
    copies = 4 if method == "sft" or fields.get("precompute_ref_log_probs") else 5
    return copies * number * weights.parameters


def stored_bytes(train: Train, weights: Weights) -> int:
    """Return the bytes of a trained model on disk; an adapter's parameters are in float32."""
    return weights.loaded if train.lora is None else 4 * weights.adapter


def checkpoint_bytes(train: Train, weights: Weights) -> int:
    """Return the bytes on disk during a training, next to the model: two checkpoints with weights
    and AdamW's moments in float32, and the weights before they are cast."""
    if train.lora is not None:
        return 2 * 12 * weights.adapter
    return (2 * 12 + 4) * weights.parameters
