"""Canonical JSON, and the hashes made of it: ids of rows, keys of folders, digests of files.

Knows nothing of recipes, tables or lakes. What goes into a key is decided by the stages.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ID_LENGTH = 24
"""Hex digits of an id or key: 96 bits, so 10^9 rows collide with a chance below 10^-11."""


def canonical(value: Any) -> str:
    """The one JSON text of `value`: sorted keys, no spaces, UTF-8 as it is.

    A mapping's entries that are None are left out, so that a setting added later with the default
    None changes no key. Integral floats and integers are the same number (1.0 is 1). Raises
    TypeError for what has no single JSON text: NaN, infinities, bytes, sets, other objects.
    """
    return json.dumps(
        _plain(value), ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    )


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{value} has no canonical form: expected a finite number")
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        if any(not isinstance(name, str) for name in value):
            raise TypeError(
                f"a mapping with keys that are not strings has no canonical form: {value}"
            )
        return {name: _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise TypeError(f"a {type(value).__name__} has no canonical form: expected JSON values")


def short_hash(text: str) -> str:
    """The first `ID_LENGTH` hex digits of the SHA-256 of `text`."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:ID_LENGTH]


def row_id(*parts: str | int | None) -> str:
    """An id of its parts, joined by the unit separator (U+001F), with None as the empty text.

    `left(sha256(concat_ws(chr(31), …, coalesce(part, ''))), 24)` is the same in SQL.
    """
    return short_hash("\x1f".join("" if part is None else str(part) for part in parts))


def folder_key(stage: str, version: int, settings: Mapping[str, Any]) -> str:
    """The key of a folder: its stage, that stage's version, and all that decides its rows."""
    return short_hash(canonical({"stage": stage, "version": version, "settings": settings}))


def seed_of(*parts: str | int | None) -> int:
    """A base seed of 62 bits, so that a draw's number can be added within a signed 64-bit int."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_digest(digests: Iterable[tuple[str, str]]) -> str:
    """One digest of (relative name, SHA-256) pairs, whatever their order."""
    return short_hash(canonical(dict(digests)))
