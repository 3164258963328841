"""Interpret errors from the Hugging Face Hub, and compute the time to wait before a retry.

huggingface-hub 2.4 keeps the HTTP response in one of the causes of an error.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from json import JSONDecodeError
from typing import Any

_TRANSIENT = (408, 429, 500, 502, 503, 504)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, followed by the exceptions that caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def status(error: BaseException) -> int | None:
    """Return the HTTP status of a failed request to the Hub, or None if there was no response."""
    for each in causes(error):
        response = getattr(each, "response", None)
        code = getattr(response, "status_code", None)
        if isinstance(code, int):
            return code
    return None


def is_of_hub(error: BaseException) -> bool:
    """Return whether an exception came from the Hub or the network rather than from a bug."""
    return status(error) is not None or _is_lost(error)


def _is_lost(error: BaseException) -> bool:
    """Return whether the connection was lost or the response was unreadable."""
    import httpx2

    kinds = (httpx2.TransportError, ConnectionError, TimeoutError, JSONDecodeError)
    return any(isinstance(each, kinds) for each in causes(error))


def is_transient(error: BaseException) -> bool:
    """Return whether a failed request to the Hub may succeed if it is retried."""
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
