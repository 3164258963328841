"""The tensors of a safetensors file, as its header tells them. Reads no weights.

The format: the header's length in eight bytes (little-endian), the header as JSON, the weights
(https://github.com/huggingface/safetensors, "Format").
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from factory.errors import ModelError

_FLOATS = ("F64", "F32", "BF16", "F16")
"""Numbers, as safetensors calls them, that are loaded as the model's dtype says; those of a
quantized model stay as they are."""


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: list[int]
    floating: bool
    """Whether it is loaded in the model's dtype."""
    stored: int
    """Bytes in the file."""

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


def read_tensors(file: Path, field: str) -> list[Tensor]:
    """Return the tensors of a safetensors file.

    Raises ModelError with `field`, the recipe field that names the model, if the file is shorter
    than its header or the header is not JSON.
    """
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        try:
            if length > file.stat().st_size:
                raise ValueError("its header is longer than the file")
            header = json.loads(opened.read(length))
        except ValueError:
            raise ModelError(
                field,
                f"{file.name} is not a complete safetensors file (a git-lfs pointer, or a download "
                "that was cut short)",
                "fetch it again",
            ) from None
    tensors = []
    for name, at in header.items():
        if name != "__metadata__":
            begin, end = at["data_offsets"]
            tensors.append(Tensor(name, at["shape"], at["dtype"] in _FLOATS, end - begin))
    return tensors
