"""The result of one check by `factory doctor`."""

from dataclasses import dataclass
from typing import Literal

from factory.texts import mask_secrets

Mark = Literal["ok", "note", "stop"]


@dataclass(frozen=True)
class Check:
    """The result of one check by `factory doctor`."""

    name: str
    mark: Mark
    """`note` is worth knowing; `stop` means that the recipe cannot run."""
    message: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", mask_secrets(self.message))


def readable_size(n_bytes: float) -> str:
    """Format a number of bytes in decimal units, such as "4 MB" or "23.4 GB"."""
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:,.0f} MB"
