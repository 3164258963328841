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
    """The tensors of a safetensors file.

    Raises ModelError, which names the recipe's `field` that led here, where the file is shorter
    than its header.
    """
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > file.stat().st_size:
            raise ModelError(
                f"{field}: {file.name} is not a safetensors file of its full size (a pointer "
                "of git-lfs, or a download that was cut short): fetch it again"
            )
        header = json.loads(opened.read(length))
    tensors = []
    for name, at in header.items():
        if name != "__metadata__":
            begin, end = at["data_offsets"]
            tensors.append(Tensor(name, at["shape"], at["dtype"] in _FLOATS, end - begin))
    return tensors
