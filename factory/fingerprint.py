"""Compute the hashes that serve as row IDs, folder keys, file digests, and random seeds.

Structured values are written as canonical JSON and then hashed. This module depends on no other
part of the factory. The stages decide which settings a key hashes.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ID_LENGTH = 24
"""Number of hex digits in an ID or key. These are 96 bits, so the chance that any two of 10^9 rows
share an ID is below 10^-11."""


def canonical(value: Any) -> str:
    """Return a value as canonical JSON, with sorted keys, no spaces, and unescaped UTF-8.

    Omits the entries of a mapping that are None, so that a new setting with the default None
    changes no key. Writes an integral float as an integer (1.0 as 1). Raises TypeError for values
    without a canonical JSON text: NaN, infinities, bytes, sets, and other objects.
    """
    return json.dumps(
        _plain(value), ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    )


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"got {value}, expected a finite number")
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        if any(not isinstance(name, str) for name in value):
            raise TypeError(f"got {value}, expected a mapping with strings as keys")
        return {name: _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise TypeError(f"got a value of type {type(value).__name__}, which JSON cannot represent")


def short_hash(text: str) -> str:
    """Return the first `ID_LENGTH` hex digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:ID_LENGTH]


def row_id(*parts: str | int | None) -> str:
    """Return a row's ID, which is a hash of the given parts.

    The parts are joined by the unit separator (U+001F). None counts as an empty text.
    `left(sha256(concat_ws(chr(31), …, coalesce(part, ''))), 24)` computes the same ID in SQL.
    """
    return short_hash("\x1f".join("" if part is None else str(part) for part in parts))


def folder_key(stage: str, version: int, settings: Mapping[str, Any]) -> str:
    """Return the key of a lake folder: a hash of the stage's name, version, and settings."""
    return short_hash(canonical({"stage": stage, "version": version, "settings": settings}))


def seed_of(*parts: str | int | None) -> int:
    """Return a 62-bit random seed, computed as a hash of the given parts.

    Adding the number of a draw to the seed stays within a signed 64-bit integer.
    """
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_digest(digests: Iterable[tuple[str, str]]) -> str:
    """Return one digest for several files, given the relative name and SHA-256 of each."""
    return short_hash(canonical(dict(digests)))
