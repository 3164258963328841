"""Device selection, loading, and memory cleanup for engines that run in the factory's process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from factory.errors import EngineError, MissingExtra
from factory.models import Checkpoint, check_loaded

try:
    import torch
    from transformers.utils import logging
except ImportError as missing:
    raise MissingExtra("transformers", "train") from missing

_Loaded = TypeVar("_Loaded")


def find_device(name: str) -> torch.device:
    """Return the torch device that `engine.device` selects. Raises EngineError if unavailable.

    The value `auto` selects the first GPU, or the CPU if there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise EngineError(
            "engine.device",
            f"this machine has no device {name} ({error})",
            "set engine.device to auto",
        ) from None


def load_weights(kind: Any, model: Checkpoint) -> Any:
    """Load a model's weights in its dtype.

    `kind` is one of transformers' Auto classes. Raises ModelError if a weight is missing.
    """
    loaded, info = kind.from_pretrained(
        model.path,
        dtype=getattr(torch, model.dtype),
        output_loading_info=True,
        trust_remote_code=False,
    )
    check_loaded(model.path, info["missing_keys"], model.field)
    return loaded


@contextmanager
def hold_loaded(load: Callable[[], _Loaded]) -> Iterator[_Loaded]:
    """Load an engine without showing progress bars, and free its GPU memory at the end."""
    with _no_progress_bars():
        engine = load()
    try:
        yield engine
    finally:
        del engine
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
