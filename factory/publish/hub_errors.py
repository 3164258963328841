"""What an error of the Hub's client stands for: a status, a lost connection, a time to wait.

The client hides the answer that it got in the causes of its errors (huggingface-hub 2.4).
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from json import JSONDecodeError
from typing import Any

_TRANSIENT = (408, 429, 500, 502, 503, 504)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def status(error: BaseException) -> int | None:
    """The HTTP status that an error of the client stands for, wherever in its causes."""
    for each in causes(error):
        response = getattr(each, "response", None)
        code = getattr(response, "status_code", None)
        if isinstance(code, int):
            return code
    return None


def is_of_hub(error: BaseException) -> bool:
    """Whether an error came over the network, and is no bug of ours."""
    return status(error) is not None or _is_lost(error)


def _is_lost(error: BaseException) -> bool:
    """A connection that was dropped, or an answer that is not what the client waited for."""
    import httpx2

    kinds = (httpx2.TransportError, ConnectionError, TimeoutError, JSONDecodeError)
    return any(isinstance(each, kinds) for each in causes(error))


def is_transient(error: BaseException) -> bool:
    code = status(error)
    return code in _TRANSIENT if code is not None else _is_lost(error)


def short(error: BaseException) -> str:
    code = status(error)
    return f"the Hub answered {code}" if code is not None else "the connection was lost"


def waiting(error: BaseException, n: int) -> float:
    """Seconds before the next try: what the Hub asks for, or twice as long each time."""
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
