"""How large a model is by its files, and what it takes to train it. Reads no weights.

The bytes are estimates: each says what it leaves out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.errors import RecipeError
from factory.models import Tensor, declared_dtype, model_files, read_tensors
from factory.recipe import Method, Recipe, Train
from factory.stages import adapter_fields

_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
"""Of one number."""


@dataclass(frozen=True)
class Weights:
    """What a model's files say of its size."""

    parameters: int
    dtype: str
    loaded: int
    """Bytes, once loaded in its dtype."""
    adapter: int
    """Parameters of the adapter that the recipe trains; 0 where it trains all weights."""


def weigh(recipe: Recipe, path: Path) -> Weights | None:
    """The size of M_0, whose folder is `path`; None where it has no weights (the scripted engine
    needs none).

    Raises ModelError where a file is cut short, RecipeError where the adapter's rank is no number.
    """
    files = [file for file in model_files(path) if file.suffix in (".safetensors", ".bin")]
    # Some repositories hold the same weights a second time, as consolidated.safetensors.
    files = [file for file in files if file.name.startswith("model")] or files
    if not files:
        return None
    declared = declared_dtype(path, "model.path")
    dtype = declared if recipe.model.dtype == "auto" else recipe.model.dtype
    tensors = [tensor for file in files for tensor in _tensors(file, declared)]
    number = _BYTES.get(dtype, 4)
    return Weights(
        parameters=sum(tensor.size for tensor in tensors),
        dtype=dtype,
        loaded=sum(
            tensor.size * number if tensor.floating else tensor.stored for tensor in tensors
        ),
        adapter=_adapter_parameters(recipe.train, tensors),
    )


def _tensors(file: Path, dtype: str) -> list[Tensor]:
    """The tensors of a file of weights; a pickled file is taken for one tensor of the model's
    dtype, since reading it needs torch."""
    if file.suffix == ".safetensors":
        return read_tensors(file, "model.path")
    size = file.stat().st_size
    return [Tensor(file.name, [size // _BYTES.get(dtype, 4)], True, size)]


def _adapter_parameters(train: Train, tensors: Sequence[Tensor]) -> int:
    """Parameters of the adapter: rank × (in + out) of every matrix that it is put on. Of a
    pickled model they are not known, and 0."""
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
    """Whether PEFT puts an adapter on a module: by its last name in a list, by a regular
    expression of all of it, or on every linear layer but the last."""
    last = module.rpartition(".")[2]
    if targets == "all-linear":
        return "embed" not in last and last != "lm_head"
    if isinstance(targets, str):
        return re.fullmatch(targets, module) is not None
    return last in (targets or ())


def training_bytes(train: Train, method: Method, weights: Weights) -> int:
    """About what a training needs, in bytes, by AdamW's count: the weights, their gradients and two
    moments, each in the dtype of training (float32: 4 + 4 + 8 bytes a parameter), and of DPO the
    reference model beside them (4), unless its log-probabilities are taken beforehand. With LoRA
    that is so of the adapter's parameters; the base is there once, in its own dtype, and is its
    own reference.

    Leaves out activations, which grow with batch and length, and what torch holds in reserve.
    """
    if train.lora is not None:
        return weights.loaded + 16 * weights.adapter
    fields = train.fields(method)
    options = fields.get("model_init_kwargs") or {}
    number = _BYTES.get(str(options.get("dtype", "float32")), 4)
    copies = 4 if method == "sft" or fields.get("precompute_ref_log_probs") else 5
    return copies * number * weights.parameters


def kept_bytes(train: Train, weights: Weights) -> int:
    """What a trained model takes on a disk, in bytes; an adapter's parameters are in float32."""
    return weights.loaded if train.lora is None else 4 * weights.adapter


def beside_bytes(train: Train, weights: Weights) -> int:
    """What lies beside a model while it is trained, in bytes: two checkpoints, each with weights
    and AdamW's moments in float32, and the weights before they are cast."""
    if train.lora is not None:
        return 2 * 12 * weights.adapter
    return (2 * 12 + 4) * weights.parameters
