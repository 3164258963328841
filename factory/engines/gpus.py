"""Find this machine's NVIDIA GPUs with nvidia-smi, without importing torch."""

import csv
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace

from factory.errors import EngineError

_MIB = 1024 * 1024

_QUERY = "--query-gpu=index,uuid,name,memory.total,memory.free"

_SECONDS = 30
"""Timeout of nvidia-smi in seconds. A driver that is still starting needs up to ten seconds."""


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU, or one slice of a GPU that is partitioned with MIG."""

    id: str
    """Value that selects the GPU in CUDA_VISIBLE_DEVICES."""
    name: str
    """Product name."""
    index: int | None = None
    """Index in nvidia-smi; None for a slice."""
    total_bytes: int | None = None
    """Memory in bytes; None for slices and for GPUs that share the machine's memory."""
    free_bytes: int | None = None
    """Free memory in bytes; None if unknown."""


def find_gpus() -> list[Gpu]:
    """Return the GPUs listed in CUDA_VISIBLE_DEVICES, or all GPUs if the variable is unset.

    The GPUs have the order of the list. Return an empty list without nvidia-smi or a driver. Raises
    EngineError if nvidia-smi does not finish in time.
    """
    command = ["nvidia-smi", _QUERY, "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(  # noqa: TID251 - it ends within seconds
            command, capture_output=True, text=True, timeout=_SECONDS
        )
    except OSError:
        return []
    except subprocess.TimeoutExpired:
        raise EngineError(
            "nvidia-smi",
            f"the command did not finish within {_SECONDS} s, so the GPU driver has probably hung",
            "restart the machine",
        ) from None
    if listed.returncode != 0:
        return []
    return visible_gpus(parse_gpus(listed.stdout), os.environ.get("CUDA_VISIBLE_DEVICES"))


def parse_gpus(text: str) -> list[Gpu]:
    """Parse the output of nvidia-smi, which lists one GPU per line.

    A line has the GPU's index, UUID, name, total memory, and free memory (both in MiB). GPUs
    without dedicated memory have [N/A] or [Not Supported] instead of numbers.
    """
    lines = csv.reader(text.splitlines(), skipinitialspace=True)
    return [
        Gpu(line[1], line[2], int(line[0]), _bytes(line[3]), _bytes(line[4]))
        for line in lines
        if len(line) == _QUERY.count(",") + 1  # without a device, nvidia-smi prints a message
    ]


def _bytes(mebibytes: str) -> int | None:
    return int(mebibytes) * _MIB if mebibytes.isdecimal() else None


def visible_gpus(found: Sequence[Gpu], named: str | None) -> list[Gpu]:
    """Return the GPUs that a value of CUDA_VISIBLE_DEVICES selects.

    An entry is a GPU's number, a prefix of its UUID, or the id of a MIG slice. None selects all
    GPUs. As in CUDA, an unknown entry hides itself and all later entries (CUDA Programming Guide,
    CUDA Environment Variables). A GPU selected by number keeps the number as its id, since CUDA may
    order GPUs differently.
    """
    if named is None:
        return list(found)
    seen: list[Gpu] = []
    for name in map(str.strip, named.split(",")):
        gpu = _named(found, name)
        if gpu is None:
            break
        seen.append(gpu)
    return seen


def _named(found: Sequence[Gpu], name: str) -> Gpu | None:
    if name.startswith("MIG-"):  # nvidia-smi's query lists only full GPUs
        return Gpu(name, "a slice of a GPU (MIG)")
    if name.isdecimal():
        whole = next((gpu for gpu in found if gpu.index == int(name)), None)
        return whole and replace(whole, id=name)
    return next((gpu for gpu in found if name and gpu.id.startswith(name)), None)


def group_gpus(found: Sequence[Gpu], size: int) -> list[list[Gpu]]:
    """Split GPUs into consecutive groups of `size`, and drop an incomplete last group."""
    return [list(found[at : at + size]) for at in range(0, len(found) - size + 1, size)]
