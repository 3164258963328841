"""One finding of `factory doctor`."""

from dataclasses import dataclass
from typing import Literal

Mark = Literal["ok", "note", "stop"]


@dataclass(frozen=True)
class Check:
    name: str
    mark: Mark
    """note: worth knowing; stop: would keep the recipe from running."""
    message: str


def readable_size(n_bytes: float) -> str:
    """Return bytes in decimal units: 4 MB, 23.4 GB."""
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:,.0f} MB"
