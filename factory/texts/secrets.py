"""Mask secrets and local paths in texts that are printed or stored."""

import os
import re
from collections.abc import Iterator, Mapping

MASK = "***"

SHORTEST = 8
"""Minimum length of a secret (our choice). Shorter values, such as EMPTY, are placeholders for
servers that need no key."""

_NAMES = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)$", re.I)
"""Names of environment variables that contain secrets."""

_IN_URL = re.compile(
    r"""
    (?<=://)(?P<user>[^\s/@:]*):[^\s/]*@                  # a password
    | (?<=http://)[^\s/@:]+@ | (?<=https://)[^\s/@:]+@    # a token
    | (?P<name>[?&](?:api[-_]?key|access[-_]?token|token|key|secret|password|signature)=)
      [^\s&#'"]+
    """,
    re.VERBOSE | re.IGNORECASE,
)

_TOKEN = re.compile(r"(?P<name>\b[Bb]earer\s+)[\w.~+/=-]{8,}|\bhf_[A-Za-z0-9]{16,}|\bsk-[\w-]{16,}")

_named: set[str] = set()
_kept: set[str] = set()


def name_secret(variable: str) -> None:
    """Mask the value of an environment variable from now on, whatever its name is."""
    _named.add(variable)


def keep_secret(value: str) -> None:
    """Mask a value from now on. Use it for secrets that are not in the environment."""
    _kept.add(value)


def mask_secrets(text: str, *, forms: bool = True) -> str:
    """Replace the secrets in a text by `***`. Returns the same object if there are none.

    Secrets are the values of environment variables such as HF_TOKEN and OPENAI_API_KEY, and the
    values given to `keep_secret`. With `forms`, passwords in URLs and known forms of tokens are
    also secrets.
    """
    masked = text
    for secret in sorted(_secrets(), key=len, reverse=True):
        masked = masked.replace(secret, MASK)
    if forms and "://" in masked:
        masked = _IN_URL.sub(_mask_in_url, masked)
    if forms and any(part in masked for part in ("earer", "hf_", "sk-")):
        masked = _TOKEN.sub(lambda found: f"{found['name'] or ''}{MASK}", masked)
    return text if masked == text else masked


def _mask_in_url(found: re.Match[str]) -> str:
    if found["user"] is not None:
        return f"{found['user']}:{MASK}@"
    return f"{found['name']}{MASK}" if found["name"] else f"{MASK}@"


def _secrets() -> Iterator[str]:
    values = [value for name, value in os.environ.items() if name in _named or _NAMES.search(name)]
    for value in (*values, *_kept):
        secret = value.strip()
        if len(secret) >= SHORTEST and not secret.isalpha():
            yield secret


def hide_paths(text: str, paths: Mapping[str, str]) -> str:
    """Replace each path in a text by the value of its entry in `paths`.

    A path ends at a boundary: `/home/a` is not part of `/home/ab`. The root folder is not replaced.
    """
    for path, shown in paths.items():
        if path.strip("/"):
            parts = re.split(rf"(?<![\w.~-]){re.escape(path)}(?![\w-]|\.\w)", text)
            text = shown.join(parts)
    return text
