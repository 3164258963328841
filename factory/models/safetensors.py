"""Read the names, shapes, and sizes of tensors from the header of a safetensors file.

A file starts with the length of its header in eight bytes (little-endian), followed by the header
as JSON and by the weights (https://github.com/huggingface/safetensors, "Format").
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.errors import ModelError

_FLOATS = ("F64", "F32", "BF16", "F16")
"""Number types that are converted to the model's dtype on loading. The integer types of a quantized
model are not converted."""


_LONGEST_HEADER = 100_000_000
"""Maximum length of a header in bytes, as in the format's own reader."""


@dataclass(frozen=True)
class Tensor:
    """The header entry of one tensor in a safetensors file."""

    name: str
    """The tensor's name, such as `model.embed_tokens.weight`."""
    shape: list[int]
    """Length of each axis."""
    floating: bool
    """Whether loading converts the tensor to the model's dtype."""
    stored: int
    """Number of bytes that the tensor takes in the file."""

    @property
    def size(self) -> int:
        """Number of values in the tensor."""
        return math.prod(self.shape)


def read_tensors(file: Path, field: str) -> list[Tensor]:
    """Return the tensors listed in the header of a safetensors file.

    Raises ModelError if the header is damaged, or if the file does not have the length that the
    header implies, for example because its download was interrupted. `field` is the recipe field
    that names the model.
    """
    try:
        with file.open("rb") as opened:
            size = file.stat().st_size
            length = int.from_bytes(opened.read(8), "little")
            if length > min(size - 8, _LONGEST_HEADER):
                raise ValueError("the header is longer than the file")
            header = json.loads(opened.read(length))
        tensors = [_tensor(name, at) for name, at in header.items() if name != "__metadata__"]
        end = max((at["data_offsets"][1] for at in header.values() if "dtype" in at), default=0)
        if 8 + length + end != size:
            raise ValueError(f"the file has {size:,} bytes instead of {8 + length + end:,}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(
            field,
            f"{file.name} is not a complete safetensors file (perhaps a Git LFS pointer or an "
            f"interrupted download; {_reason(error)})",
            "download the file again, for example with `git lfs pull`",
        ) from None
    return tensors


def _reason(error: Exception) -> str:
    return str(error) if type(error) in (ValueError, OSError) else "its header is damaged"


def _tensor(name: str, at: dict[str, Any]) -> Tensor:
    """Return a tensor from its entry in the header. Raises ValueError if the entry is damaged."""
    begin, end = at["data_offsets"]
    lengths = [*at["shape"], begin, end]
    fits = isinstance(at["dtype"], str) and all(type(length) is int for length in lengths)
    if not fits or min(lengths) < 0 or begin > end:
        raise ValueError(f"the header has a damaged entry for {name}")
    return Tensor(name, at["shape"], at["dtype"] in _FLOATS, end - begin)
