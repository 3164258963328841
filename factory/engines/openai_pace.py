"""Decide when requests are sent to a server: how many at once, how fast, and when to retry.

The limit on concurrent requests adapts to what the server accepts: it grows by about one request
per round trip, and shrinks when the server refuses requests (statuses 429 and 503) or does not
answer in time. Below the maximum, requests are also spread evenly over time, and the limit may fall
below one request. This way, a fast server with a low rate limit is not asked in bursts.
"""

import asyncio
import math
import random
import re
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

WEIGHT = 0.1
"""Weight of the newest reply in the averages (our choice)."""

CUT_MOST, CUT_LEAST = 0.5, 0.9
"""Factors by which the limit shrinks: 0.9 while few requests are refused, 0.5 while most are (our
choice)."""

GROWTH = 0.05
"""Growth of the limit per second, relative to its value, while no request is refused (our
choice)."""

CUT_SECONDS = 1.0
"""Time in which the limit shrinks only once, because one cause may refuse many requests (our
choice)."""

MEASURED_SECONDS = 2.0
"""Time over which accepted requests are counted. The limit does not shrink below 0.9 times what the
server accepted in this time (our choice)."""

LONGEST_GAP = 2.0
"""Maximum number of seconds between the starts of two requests (our choice)."""

BACKOFF, LONGEST_BACKOFF = 0.5, 8.0
"""Seconds before the first retry, and at most before later ones, unless the server says otherwise.
The same as in the openai package."""


class Pace:
    """The pace of the requests to one server. Belongs to one event loop."""

    def __init__(self, maximum: int) -> None:
        """`maximum` is the largest number of concurrent requests."""
        self._maximum = maximum
        self.limit = float(maximum)
        """Current limit on concurrent requests. Can be less than 1."""
        self.running = 0
        self._retries: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()
        self._latency = 1.0
        """Average seconds of accepted requests. Before the first one, an assumption."""
        self._refused = 0.0
        """Average share of refused requests among the latest ones."""
        self._accepted: deque[float] = deque()
        """Times at which the latest requests were accepted."""
        self._cut_at = -math.inf
        self._open_at = 0.0
        """Time before which no request may start."""
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self, *, again: bool = False) -> None:
        """Wait until a request may be sent. A request that is sent `again` goes first."""
        loop = asyncio.get_running_loop()
        if not (self._retries or self._others) and self._has_room and loop.time() >= self._open_at:
            self._start(loop.time())
            return
        waiting = loop.create_future()
        (self._retries if again else self._others).append(waiting)
        self._admit()
        try:
            await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():  # admitted in the same moment
                self.running -= 1
                self._admit()
            raise

    def leave(self, seconds: float, *, accepted: bool | None) -> None:
        """Report that a request ended after some seconds.

        `accepted` is False if the server refused it, and None if this is unknown.
        """
        self.running -= 1
        if accepted:
            self._latency += (seconds - self._latency) * (WEIGHT if self._accepted else 1)
            self._refused -= self._refused * WEIGHT
            self._count_accepted()
            if self.limit < self._maximum and (self._retries or self._others):
                self.limit = min(self._maximum, self.limit + GROWTH * self._latency)
        elif accepted is False:
            self._refused += (1 - self._refused) * WEIGHT
            self._cut(seconds)
        self._admit()

    def pause(self, seconds: float) -> None:
        """Let no request start for some seconds, unless the server still accepts most requests."""
        if self._refused > 0.5:
            until = asyncio.get_running_loop().time() + seconds
            self._open_at = max(self._open_at, until)

    def _cut(self, seconds: float) -> None:
        """Lower the limit, unless the refused request started before the limit was last lowered."""
        now = asyncio.get_running_loop().time()
        if now < self._cut_at + max(seconds, CUT_SECONDS * (1 - self._refused)):
            return
        self._cut_at = now
        factor = min(CUT_LEAST, max(CUT_MOST, 1 - self._refused))
        least = min(1.0, self._latency / LONGEST_GAP)
        # Requests per second times seconds per request is the number of concurrent requests.
        used = max(self.running, len(self._accepted) / MEASURED_SECONDS * self._latency)
        self.limit = min(self.limit, max(least, self.limit * factor, used * CUT_LEAST))

    def _count_accepted(self) -> None:
        now = asyncio.get_running_loop().time()
        self._accepted.append(now)
        while self._accepted[0] < now - MEASURED_SECONDS:
            self._accepted.popleft()

    @property
    def _has_room(self) -> bool:
        return self.running < max(1.0, self.limit)

    def _start(self, now: float) -> None:
        self.running += 1
        if self.limit < self._maximum:
            gap = self._latency / self.limit
            self._open_at = max(self._open_at, now - gap) + gap

    def _admit(self) -> None:
        """Let the next requests start, as far as there is room."""
        if self._timer is not None or not (self._retries or self._others):
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._has_room and (queue := self._retries or self._others):
            if now < self._open_at:
                self._timer = loop.call_at(self._open_at, self._wake)
                return
            waiting = queue.popleft()
            if not waiting.done():  # a canceled request
                waiting.set_result(None)
                self._start(now)

    def _wake(self) -> None:
        self._timer = None
        self._admit()


def backoff(n_retries: int) -> float:
    """Return the seconds to wait before a retry. The server did not say how long."""
    seconds = min(BACKOFF * 2.0 ** min(n_retries, 10), LONGEST_BACKOFF)
    return seconds * (1 - random.random() / 4)


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server's headers ask to wait; None if they do not say.

    Retry-After comes first. Otherwise, return the time until the exhausted rate limits reset. If
    the headers do not say which ones are exhausted, return the time until all limits reset.
    """
    names = {name.lower(): value for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if (seconds := _seconds(names.get(name, ""), unit)) is not None:
            return seconds
    resets: dict[bool, list[float]] = {True: [], False: []}
    for name, value in names.items():
        # x-ratelimit-reset-tokens in OpenAI's API, anthropic-ratelimit-tokens-reset in Anthropic's
        if "-ratelimit-" in name and "reset" in name and (seconds := _seconds(value)) is not None:
            is_exhausted = names.get(name.replace("reset", "remaining"), "").strip() == "0"
            resets[is_exhausted].append(seconds)
    return max(resets[True] or resets[False], default=None)


_DURATION = re.compile(
    r"(?:(?P<hours>\d+)h)?(?:(?P<minutes>\d+)m(?!s))?(?:(?P<seconds>\d+(?:\.\d+)?)s)?"
    r"(?:(?P<milliseconds>\d+(?:\.\d+)?)ms)?"
)
"""A duration as Go prints it, such as 6m0s or 120ms."""


def _seconds(value: str, unit: float = 1.0) -> float | None:
    """Return how many seconds from now a header's value refers to; None if it cannot be read.

    The value is a number of units, a duration, an HTTP date, or a time in RFC 3339.
    """
    value = value.strip()
    seconds = None
    with suppress(ValueError, OverflowError):
        if match := _DURATION.fullmatch(value):
            parts = {name: float(part) for name, part in match.groupdict().items() if part}
            seconds = timedelta(**parts).total_seconds() if parts else None
        elif re.fullmatch(r"-?[\d.]+", value):
            seconds = float(value) * unit
        elif value.endswith("GMT"):
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        else:
            moment = datetime.fromisoformat(value)
            seconds = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - time.time()
    return None if seconds is None or not math.isfinite(seconds) else max(0.0, seconds)
