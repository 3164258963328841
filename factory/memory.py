"""The memory that there is, of GPUs and of this machine. Knows no model and no torch."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from factory.gpus import Gpu


@dataclass(frozen=True)
class Room:
    """Memory that something has to fit into, in bytes; None where it is not told."""

    where: str
    total: float | None
    free: float | None


def memory_of(ours: Sequence[Gpu]) -> Room:
    """The memory of these GPUs together, or the machine's where there are none."""
    if not ours:
        return machine()
    where = "the GPU" if len(ours) == 1 else f"{len(ours)} GPUs"
    return Room(
        where, _sum([gpu.total_bytes for gpu in ours]), _sum([gpu.free_bytes for gpu in ours])
    )


def _sum(parts: Sequence[int | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def machine() -> Room:
    """This machine's memory, or what its container may use of it (cgroup v2)."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = free = page * os.sysconf("SC_PHYS_PAGES")
    told = Path("/proc/meminfo")
    if told.is_file():
        available = re.search(r"^MemAvailable:\s+(\d+) kB$", told.read_text(), re.MULTILINE)
        free = int(available[1]) * 1024 if available else free
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (most := limit.read_text().strip()).isdecimal():
        total = min(total, int(most))
    return Room("this machine", total, min(free, total))
