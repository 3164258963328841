"""Estimate how large a model is and how much memory its training needs.

All sizes are estimates. Each function documents what its estimate leaves out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.errors import RecipeError
from factory.models import Tensor, declared_dtype, model_files, read_json, read_tensors, text_config
from factory.recipe import TRL_MAX_LENGTH, Method, Model, Train
from factory.stages import adapter_fields

_TRL_DEFAULTS = {"per_device_train_batch_size": 8, "max_length": TRL_MAX_LENGTH}
"""Defaults of DPOConfig and SFTConfig in TRL 1.16."""

_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes per number, by dtype."""


@dataclass(frozen=True)
class Weights:
    """The size of a model, computed from its files."""

    parameters: int
    dtype: str
    loaded: int
    """Bytes in memory when the model is loaded in this dtype."""
    adapter: int
    """Parameters of the adapter that the recipe trains; 0 if it trains all weights."""
    shape: "Shape"
    """The dimensions of the model, which determine the memory for activations."""


_DIMENSIONS = (
    ("num_hidden_layers", "n_layer"),
    ("hidden_size", "n_embd"),
    ("intermediate_size", "n_inner"),
    ("vocab_size",),
)
"""The field names of each dimension in `config.json`. GPT-2 uses the second name."""


def _first(config: Mapping[str, Any], names: Sequence[str]) -> int:
    """Return the value of the first name in a config that is a whole number, or 0."""
    return next((config[name] for name in names if isinstance(config.get(name), int)), 0)


@dataclass(frozen=True)
class Shape:
    """Dimensions of a transformer model from its `config.json`; 0 if unknown."""

    layers: int = 0
    hidden: int = 0
    inner: int = 0
    """Width of the feed-forward layers."""
    vocabulary: int = 0

    @classmethod
    def of(cls, path: Path, field: str) -> "Shape":
        """Return the dimensions of the model in the folder `path`."""
        config = text_config(read_json(path / "config.json", field))
        return cls(*(_first(config, names) for names in _DIMENSIONS))


def weigh(model: Model, path: Path, field: str, train: Train | None = None) -> Weights | None:
    """Return the size of the model in a folder, or None if the folder contains no weights.

    `field` is the recipe section that names the model, and `train` the recipe's training settings.
    The scripted engine needs no weights. Raises ModelError if a file is truncated, and RecipeError
    if the adapter's rank is not a whole number.
    """
    field = f"{field}.path"
    files = [file for file in model_files(path) if file.suffix in (".safetensors", ".bin")]
    # Some repositories store the same weights a second time, as consolidated.safetensors.
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
        shape=Shape.of(path, field),
    )


def _tensors(file: Path, dtype: str, field: str) -> list[Tensor]:
    """Return the tensors of a weights file.

    A pickled file counts as one tensor of the model's dtype, because reading it needs torch.
    """
    if file.suffix == ".safetensors":
        return read_tensors(file, field)
    size = file.stat().st_size
    return [Tensor(file.name, [size // _BYTES.get(dtype, 4)], True, size)]


def _adapter_parameters(train: Train, tensors: Sequence[Tensor]) -> int:
    """Return the number of the adapter's parameters: rank × (in + out) for each adapted matrix.

    Returns 0 for a pickled model, because its matrices are unknown.
    """
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
    """Return whether PEFT adds an adapter to a module.

    `targets` is a list of last name parts, a regular expression that must match the full name, or
    "all-linear" for every linear layer except the output layer.
    """
    last = module.rpartition(".")[2]
    if targets == "all-linear":
        return "embed" not in last and last != "lm_head"
    if isinstance(targets, str):
        return re.fullmatch(targets, module) is not None
    return last in (targets or ())


def training_bytes(train: Train, method: Method, weights: Weights) -> int:
    """Estimate the memory in bytes that training with AdamW needs.

    The estimate counts the weights, their gradients, and two moments, each in the training dtype
    (in float32, 4 + 4 + 8 bytes per parameter). DPO adds the reference model (4 bytes per
    parameter), unless its log-probabilities are precomputed. With LoRA, only the adapter's
    parameters are trained. The base model is loaded once, in its own dtype, and is also the
    reference.

    The estimate leaves out activations (see `activation_bytes`) and the memory that torch reserves.
    """
    if train.lora is not None:
        return weights.loaded + 16 * weights.adapter
    fields = train.fields(method)
    options = fields.get("model_init_kwargs") or {}
    number = _BYTES.get(str(options.get("dtype", "float32")), 4)
    copies = 4 if method == "sft" or fields.get("precompute_ref_log_probs") else 5
    return copies * number * weights.parameters


def activation_bytes(train: Train, method: Method, weights: Weights, *, on_cpu: bool) -> int:
    """Estimate the memory in bytes for activations, if every sequence has the maximum length.

    Fitted to the peak memory of 24 trainings with TRL 1.16 in bfloat16, with models of 135 million
    and 1.2 billion parameters and 256 to 16,384 tokens per batch. On an H200, 16 of 19 peaks are
    within 7% of `training_bytes` plus this estimate, and 3 peaks below 1 GB are up to 26% higher.
    On a CPU, after 0.54 GB for Python and its packages, 4 of 5 peaks are within 10%, and one is
    32% higher. Not measured: other precisions, and training without gradient checkpointing.
    """
    tokens, shape = batch_tokens(train, method), weights.shape
    layer = 20 * (shape.hidden + shape.inner)
    if train.fields(method).get("gradient_checkpointing", True):
        stored = 2 * shape.layers * shape.hidden + layer
    else:
        stored = shape.layers * layer
    # On a CPU, TRL processes the logits of up to 4,096 tokens at once, in several copies.
    logits = 28 * shape.vocabulary * min(tokens, 4096) if on_cpu else 0
    return tokens * stored + logits


def batch_tokens(train: Train, method: Method) -> int:
    """Return the maximum number of tokens in a training batch. A DPO pair has two sequences.

    A batch size or a length that is not a number counts as TRL's default.
    """
    fields = train.fields(method)
    size, length = (
        value if isinstance(value := fields.get(name), int) else default
        for name, default in _TRL_DEFAULTS.items()
    )
    return size * length * (2 if method == "dpo" else 1)


def stored_bytes(train: Train, weights: Weights) -> int:
    """Return the size in bytes of a trained model on disk. Adapters are stored in float32."""
    return weights.loaded if train.lora is None else 4 * weights.adapter


def checkpoint_bytes(train: Train, weights: Weights) -> int:
    """Return the temporary disk space in bytes that a training needs.

    It holds two checkpoints with weights and AdamW's moments in float32, and for full fine-tuning
    the float32 weights before they are cast.
    """
    if train.lora is not None:
        return 2 * 12 * weights.adapter
    return (2 * 12 + 4) * weights.parameters
