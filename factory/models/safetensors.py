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
from factory.files import is_regular

_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
"""Size of a value in bits, by number type, as in the format's own reader."""

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
        if not is_regular(file):
            raise ValueError("it is not a file")
        with file.open("rb") as opened:
            size = file.stat().st_size
            length = int.from_bytes(opened.read(8), "little")
            if length > min(size - 8, _LONGEST_HEADER):
                raise ValueError("the header is longer than the file")
            header = json.loads(opened.read(length))
        metadata = header.pop("__metadata__", None)
        if not all(type(value) is str for value in (metadata or {}).values()):
            raise ValueError("the metadata in its header is damaged")
        tensors = [_tensor(name, at) for name, at in header.items()]
        end = _end_of_tensors(header)
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


def _end_of_tensors(header: dict[str, Any]) -> int:
    """Return the end of the last tensor. Raises ValueError if tensors overlap or leave a gap."""
    end = 0
    for name, (begin, after) in sorted(
        ((name, at["data_offsets"]) for name, at in header.items()), key=lambda pair: pair[1]
    ):
        if begin != end:
            raise ValueError(f"the header has a damaged entry for {name}")
        end = after
    return end


def _reason(error: Exception) -> str:
    return str(error) if type(error) in (ValueError, OSError) else "its header is damaged"


def _tensor(name: str, at: dict[str, Any]) -> Tensor:
    """Return a tensor from its entry in the header. Raises ValueError if the entry is damaged."""
    begin, end = at["data_offsets"]
    lengths = [*at["shape"], begin, end]
    fits = isinstance(at["dtype"], str) and all(type(length) is int for length in lengths)
    if not fits or min(lengths) < 0 or max(lengths) >= 2**63 or begin > end:
        raise ValueError(f"the header has a damaged entry for {name}")
    name.encode()  # raises ValueError for half a surrogate pair
    bits = _BITS.get(at["dtype"])
    if bits is None:
        raise ValueError(f"{name} has the unknown number type {at['dtype'][:30]}")
    if math.prod(at["shape"]) * bits != 8 * (end - begin):
        raise ValueError(f"the size of {name} does not fit its shape {at['shape'][:9]}")
    return Tensor(name, at["shape"], at["dtype"] in _FLOATS, end - begin)
