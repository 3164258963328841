"""Keys and values of prompts, copied to the rows that draw from them."""

from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values in buffers with room for the whole answer, so that a new token copies none.

    DynamicLayer concatenates everything read so far with each new token: two thirds of the time of
    decoding a small model on a CPU (torch's profiler; 256 rows of 100 tokens).
    """

    def __init__(self, layer: DynamicLayer, rows: torch.Tensor, room: int) -> None:
        super().__init__()
        self._buffers = [self._roomy(read, rows, room) for read in (layer.keys, layer.values)]
        self._show(layer.keys.shape[-2])
        self.dtype, self.device = layer.keys.dtype, layer.keys.device
        self.is_initialized = True

    def _roomy(self, read: torch.Tensor, rows: torch.Tensor, room: int) -> torch.Tensor:
        _, heads, length, size = read.shape
        buffer = read.new_empty((len(rows), heads, length + room, size))
        buffer[:, :, :length] = read[rows]
        return buffer

    def _show(self, length: int) -> None:
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self._show(end)
        return self.keys, self.values


def copy_to_rows(cache: Cache, rows: torch.Tensor, room: int) -> DynamicCache | None:
    """Copy the cache of prompts to rows, each with room for `room` more tokens.

    `rows` has the index of each row's prompt. None if the model's state is not a plain cache of
    keys and values.
    """
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    copied = DynamicCache()
    copied.layers = [_RoomyLayer(layer, rows, room) for layer in cache.layers]
    return copied
