"""Read the names, shapes, and sizes of tensors from the header of a safetensors file.

A file starts with the length of its header in eight bytes (little-endian), followed by the header
as JSON and by the weights (https://github.com/huggingface/safetensors, "Format").
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from factory.errors import ModelError

_FLOATS = ("F64", "F32", "BF16", "F16")
"""Number types that are converted to the model's dtype on loading. The integer types of a quantized
model are not converted."""


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

    Raises ModelError if the file is shorter than its header or the header is not JSON. `field` is
    the recipe field that names the model.
    """
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        try:
            if length > file.stat().st_size:
                raise ValueError("the header is longer than the file")
            header = json.loads(opened.read(length))
        except ValueError:
            raise ModelError(
                field,
                f"{file.name} is not a complete safetensors file (perhaps a Git LFS pointer or an "
                "interrupted download)",
                "download the file again, for example with `git lfs pull`",
            ) from None
    tensors = []
    for name, at in header.items():
        if name != "__metadata__":
            begin, end = at["data_offsets"]
            tensors.append(Tensor(name, at["shape"], at["dtype"] in _FLOATS, end - begin))
    return tensors
