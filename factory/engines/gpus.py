"""The GPUs of this machine, by nvidia-smi and without torch. Finds NVIDIA's only."""

import csv
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace

from factory.errors import EngineError

_MIB = 1024 * 1024

_QUERY = "--query-gpu=index,uuid,name,memory.total,memory.free"

_SECONDS = 30
"""Timeout of nvidia-smi. A driver that is starting takes up to ten seconds."""


@dataclass(frozen=True)
class Gpu:
    """One GPU, or one slice of it (MIG)."""

    id: str
    """Its name in CUDA_VISIBLE_DEVICES."""
    name: str
    index: int | None = None
    """Its number by nvidia-smi; None of a slice."""
    total_bytes: int | None = None
    """None if unknown: for slices, and for GPUs that share the machine's memory."""
    free_bytes: int | None = None


def find_gpus() -> list[Gpu]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES names, in its order; all if it is not set.

    Empty without nvidia-smi or a driver. Raises EngineError if nvidia-smi does not answer.
    """
    command = ["nvidia-smi", _QUERY, "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except OSError:
        return []
    except subprocess.TimeoutExpired:
        raise EngineError(
            "nvidia-smi",
            f"no answer in {_SECONDS} s, so the driver hangs",
            "restart the machine",
        ) from None
    if listed.returncode != 0:
        return []
    return visible_gpus(parse_gpus(listed.stdout), os.environ.get("CUDA_VISIBLE_DEVICES"))


def parse_gpus(text: str) -> list[Gpu]:
    """Parse the output of nvidia-smi, one GPU per line: index, UUID, name, total and free MiB.

    A GPU without its own memory has [N/A] or [Not Supported] instead of a number.
    """
    lines = csv.reader(text.splitlines(), skipinitialspace=True)
    return [
        Gpu(line[1], line[2], int(line[0]), _bytes(line[3]), _bytes(line[4]))
        for line in lines
        if len(line) == _QUERY.count(",") + 1  # other lines say that there is no device
    ]


def _bytes(mebibytes: str) -> int | None:
    return int(mebibytes) * _MIB if mebibytes.isdecimal() else None


def visible_gpus(found: Sequence[Gpu], named: str | None) -> list[Gpu]:
    """Return the GPUs that a value of CUDA_VISIBLE_DEVICES names, by number or UUID prefix.

    None names all. As in CUDA, the names after an unknown one are ignored (CUDA Programming Guide,
    CUDA Environment Variables). A number stays the GPU's id: CUDA may count in another order.
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
    if name.startswith("MIG-"):  # nvidia-smi's query knows whole GPUs only
        return Gpu(name, "a slice of a GPU (MIG)")
    if name.isdecimal():
        whole = next((gpu for gpu in found if gpu.index == int(name)), None)
        return whole and replace(whole, id=name)
    return next((gpu for gpu in found if name and gpu.id.startswith(name)), None)


def group_gpus(found: Sequence[Gpu], size: int) -> list[list[Gpu]]:
    """Return consecutive groups of `size` GPUs, without the rest."""
    return [list(found[at : at + size]) for at in range(0, len(found) - size + 1, size)]
