"""Scan texts for secrets, personal data, and local paths.

Only this module calls the scanners. It hands them each reading of a text, so that no encoding,
split, or look-alike hides anything from one of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from factory.publish.personal import emails_in, personal_in
from factory.publish.places import LOCAL, places_in
from factory.publish.readings import encoded, joined, readings
from factory.publish.secrets import secrets_in, split_tokens_in, tokens_in

__all__ = ["LOCAL", "SCANS", "Hit", "Scanner"]

SCANS = ("secrets", "personal", "paths")
"""The pre-publish checks that scan texts."""

_Found = Iterator[tuple[str, str]]


@dataclass(frozen=True)
class Hit:
    """Something in a text that should not be published."""

    check: str
    """The pre-publish check: secrets, personal, or paths."""
    kind: str
    value: str = field(repr=False)
    """The found part of the text. It must never be printed; print `masked`."""

    @property
    def masked(self) -> str:
        """The first characters of the value, at most four."""
        shown = self.value.strip()[: min(4, len(self.value) // 4)]
        return f"{self.kind}: {shown}… ({len(self.value)} characters)"


class Scanner:
    """Scans each different text once."""

    def __init__(self, folders: Sequence[str] = ()) -> None:
        """Create a scanner that also looks for the local paths `folders`."""
        self._folders = folders
        self._clean: set[bytes] = set()
        self._hits: dict[bytes, list[Hit]] = {}

    def scan(self, text: str) -> Sequence[Hit]:
        """Return what should not be published of a text, at most one hit of each kind."""
        if len(text) < _SHORTEST:
            return ()
        key = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if key in self._clean:
            return ()
        if key not in self._hits:
            hits = self._scan(text)
            if not hits:
                self._clean.add(key)
                return ()
            self._hits[key] = hits
        return self._hits[key]

    def _scan(self, text: str) -> list[Hit]:
        hits: list[Hit] = []

        def add(check: str, values: _Found) -> None:
            for kind, value in values:
                if not any(check == hit.check and _overlap(value, hit.value) for hit in hits):
                    hits.append(Hit(check, kind, value))

        last = text
        for reading in readings(text):
            last = reading
            add("secrets", secrets_in(reading))
            add("personal", personal_in(reading))
            add("paths", places_in(reading, self._folders))
            for content in encoded(reading):
                add("secrets", secrets_in(content))
                add("personal", personal_in(content))
        for whole in joined(last):
            add("secrets", tokens_in(whole))
            add("personal", emails_in(whole))
        add("secrets", split_tokens_in(last))
        return hits


def _overlap(a: str, b: str) -> bool:
    return a in b or b in a


_SHORTEST = 6
"""Number of characters of the shortest text that is scanned."""
