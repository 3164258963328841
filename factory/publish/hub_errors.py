"""Interpret errors from the Hugging Face Hub, and compute the time to wait before a retry.

huggingface-hub 2.4 keeps the HTTP response in one of the causes of an error. hf-xet 1.8, which
uploads the Parquet files, raises Python's own exceptions. The kind of the error and the HTTP status
are only in the text of these exceptions.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from json import JSONDecodeError
from typing import Any

from factory.errors import Argument, HubError, one_line

LONGEST_WAIT = 300.0
"""Longest wait between two attempts, in seconds. If the Hub asks for more, the push stops."""

_TRANSIENT = (408, 429, 500, 502, 503, 504)

_FULL = ("quota", "storage limit", "storage_limit", "exceeded")

_AGAIN = "run the same command again (it skips files that are already uploaded)"

_XET_STATUS = re.compile(r"HTTP status (?:client|server) error \((\d{3})\b")
_XET_KIND = re.compile(
    r"^([A-Z][\w/ ]* error|Rate limited|Timeout|Not found|Operation cancelled): "
)
_XET_LOST = ("Network error", "Timeout", "Rate limited", "Server error")
_XET_ADDRESS = re.compile(r",? (?:domain:|for url) \S+")


class XetError(Exception):
    """An error of the Xet client, which has already retried transient errors."""

    def __init__(self, error: Exception) -> None:
        """Read the text of an exception that `hf_xet` raised."""
        text = str(error)
        kind, code = _XET_KIND.match(text), _XET_STATUS.search(text)
        self.kind = kind[1] if kind else ""
        """The first words of the text, such as "Network error"."""
        self.code = int(code[1]) if code else None
        """The HTTP status, if the server answered."""
        self.is_of_token = "/xet-write-token/" in text
        """Whether the Hub refused to give the client a token for its storage."""
        # An address in the text may be signed.
        self.words = one_line(_XET_ADDRESS.sub("", text[kind.end() :] if kind else text), 200)
        super().__init__(text)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, followed by the exceptions that caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def status(error: BaseException) -> int | None:
    """Return the HTTP status of a failed request to the Hub, or None if there was no response."""
    for each in causes(error):
        if isinstance(each, XetError):
            return each.code
        response = getattr(each, "response", None)
        code = getattr(response, "status_code", None)
        if isinstance(code, int):
            return code
    return None


def is_of_hub(error: BaseException) -> bool:
    """Return whether an exception came from the Hub or the network rather than from a bug."""
    return isinstance(error, XetError) or status(error) is not None or _is_lost(error)


def is_of_xet(error: BaseException) -> bool:
    """Return whether the Xet client raised an exception during an upload.

    Exceptions of the Hub's client have a response or another exception as their cause.
    """
    return status(error) is None and len(list(causes(error))) == 1


def _is_lost(error: BaseException) -> bool:
    """Return whether the connection was lost or the response was unreadable."""
    import httpx2

    kinds = (httpx2.TransportError, ConnectionError, TimeoutError, JSONDecodeError)
    return any(isinstance(each, kinds) for each in causes(error))


def is_transient(error: BaseException) -> bool:
    """Return whether a failed request to the Hub may succeed if it is retried."""
    if isinstance(error, XetError):
        return False
    code = status(error)
    return code in _TRANSIENT if code is not None else _is_lost(error)


def short(error: BaseException) -> str:
    """Return a short description of an error from the Hub."""
    code = status(error)
    return f"the Hub answered {code}" if code is not None else "the connection was lost"


def waiting(error: BaseException, n: int) -> float:
    """Return the number of seconds to wait before a request to the Hub is retried.

    This is the time that the Hub asks for, or else 2**n seconds after attempt n, counted from 0.
    """
    from huggingface_hub.utils import parse_ratelimit_headers

    headers: Any = {}
    for each in causes(error):
        response = getattr(each, "response", None)
        if response is not None:
            headers = response.headers
            break
    if delay := headers.get("Retry-After"):
        return max(0.0, _seconds(delay, 2.0**n))
    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    return 2.0**n


def _seconds(delay: str, otherwise: float) -> float:
    with suppress(ValueError):
        return float(delay)
    with suppress(ValueError):
        return (parsedate_to_datetime(delay) - datetime.now(UTC)).total_seconds()
    return otherwise


def explain(what: str, error: Exception, repository: str, tries: int, token: str) -> HubError:
    """Return the error with which a push stops: what failed, why, and what to do.

    `what` is the task, such as "creating the commit", and `tries` the number of attempts. The token
    is removed from the Hub's message.
    """
    code, message = status(error), _message(error, token)
    if code == 401:
        return HubError(
            "HF_TOKEN",
            f"{what}: the Hub rejected the token (401{message})",
            "create a token with write access at huggingface.co/settings/tokens, then run "
            "`hf auth login` or set HF_TOKEN",
        )
    if code in (402, 413, 507) or (code in (403, None) and _is_full(error, message)):
        told = f"{code or ''}{message}".removeprefix(": ")
        return HubError(
            Argument("repo"),
            f"{what}: the storage quota of {repository} is used up ({told})",
            f"free some space, then {_AGAIN}",
        )
    if isinstance(error, XetError):
        return _explain_xet(what, error, repository)
    if code == 403:
        return HubError(
            "HF_TOKEN",
            f"{what}: the token has no write access to {repository} (403{message})",
            "use a token with write access, or choose another repository",
        )
    if is_transient(error):
        wait = waiting(error, tries - 1)
        again = f"wait {wait / 60:.0f} minutes, then {_AGAIN}" if wait > LONGEST_WAIT else _AGAIN
        return HubError(
            Argument("repo"), f"{what}: {short(error)} on attempt {tries}{message}", again
        )
    return HubError(
        Argument("repo"),
        f"{what}: the Hub rejected the request ({code or short(error)}{message})",
    )


def _explain_xet(what: str, error: XetError, repository: str) -> HubError:
    without_xet = "if it fails again, set HF_HUB_DISABLE_XET=1 to upload without Xet"
    if error.code == 403:
        return HubError(
            "HF_TOKEN",
            f"{what}: the Hub's storage refused the upload to {repository} (403)",
            "check that the token has write access and that the storage quota is not used up, "
            f"then {_AGAIN}",
        )
    if error.kind == "I/O error":
        return HubError(
            "HF_XET_CACHE",
            f"{what}: the Xet client cannot read or write a file on this machine ({error.words})",
            "free some disk space, or set HF_XET_CACHE to another folder, then run the same "
            "command again",
        )
    if error.kind in _XET_LOST and (error.code is None or error.code in _TRANSIENT):
        lost = "the connection to the Hub's storage was lost"
        answered = f"the Hub's storage answered {error.code}"
        return HubError(
            Argument("repo"),
            f"{what}: {answered if error.code else lost}",
            f"{_AGAIN}; {without_xet}",
        )
    return HubError(
        Argument("repo"),
        f"{what}: the Hub's storage rejected the upload ({error.code or error.words})",
        f"run the same command again; {without_xet}",
    )


def _is_full(error: Exception, message: str) -> bool:
    words = error.words if isinstance(error, XetError) else message
    return any(word in words.lower() for word in _FULL)


def _message(error: Exception, token: str) -> str:
    """Return the server's message after a colon, or an empty string. The token is removed."""
    if isinstance(error, XetError):
        return "" if error.code else f": {error.words}".replace(token, "…")
    for each in causes(error):
        words = getattr(each, "server_message", None)
        if words:
            return ": " + one_line(str(words).replace(token, "…"), 200)
    return ""
