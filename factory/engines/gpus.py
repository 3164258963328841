"""The GPUs of this machine, as NVIDIA's own tool tells them. Knows no engine and no torch.

Other makers' GPUs are not seen.
"""

import csv
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace

from factory.errors import EngineError

_MIB = 1024 * 1024

_QUERY = "--query-gpu=index,uuid,name,memory.total,memory.free"

_SECONDS = 30
"""A driver that starts takes up to ten; one that says nothing for so long hangs."""


@dataclass(frozen=True)
class Gpu:
    """One GPU, or one slice of it (MIG)."""

    id: str
    """What names it in CUDA_VISIBLE_DEVICES."""
    name: str
    index: int | None = None
    """Its number by nvidia-smi; None of a slice."""
    total_bytes: int | None = None
    """None where it is not told: of slices, and of GPUs that share the machine's memory."""
    free_bytes: int | None = None


def find_gpus() -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES lets this process see, in its order; all if it is not
    set. Empty where there is no nvidia-smi, or it finds no driver.

    Raises EngineError where nvidia-smi gives no answer.
    """
    command = ["nvidia-smi", _QUERY, "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except OSError:
        return []
    except subprocess.TimeoutExpired:
        raise EngineError(
            f"nvidia-smi gave no answer in {_SECONDS} s: the GPUs' driver hangs; start the "
            "machine again"
        ) from None
    if told.returncode != 0:
        return []
    return visible(parse(told.stdout), os.environ.get("CUDA_VISIBLE_DEVICES"))


def parse(text: str) -> list[Gpu]:
    """What nvidia-smi printed: index, uuid, name, total and free memory in MiB, one GPU a line.

    A GPU without memory of its own says [N/A] or [Not Supported] instead of a number.
    """
    lines = csv.reader(text.splitlines(), skipinitialspace=True)
    return [
        Gpu(line[1], line[2], int(line[0]), _bytes(line[3]), _bytes(line[4]))
        for line in lines
        if len(line) == _QUERY.count(",") + 1  # other lines are sentences: that there is no device
    ]


def _bytes(mebibytes: str) -> int | None:
    return int(mebibytes) * _MIB if mebibytes.isdecimal() else None


def visible(found: Sequence[Gpu], named: str | None) -> list[Gpu]:
    """Those of the GPUs that a value of CUDA_VISIBLE_DEVICES names, by number or by the beginning
    of a UUID; None names all.

    As in CUDA, what follows a name that fits none is not seen either (CUDA Programming Guide, CUDA
    Environment Variables). A number stays the GPU's id: CUDA may count in another order.
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


def groups(found: Sequence[Gpu], size: int) -> list[list[Gpu]]:
    """The GPUs in groups of `size` that follow one another; those left over are in none."""
    return [list(found[at : at + size]) for at in range(0, len(found) - size + 1, size)]
