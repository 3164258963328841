"""Tests of the pace at which requests are sent to a server."""

import asyncio
import itertools
import selectors
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from factory.engines import openai_pace
from factory.engines.openai_pace import Pace, asked_wait, backoff

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = (NOW + timedelta(seconds=90)).isoformat()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"Retry-After": "-3"}, 0),
        ({"Retry-After": format_datetime(NOW + timedelta(seconds=20), usegmt=True)}, 20),
        ({"Retry-After": format_datetime(NOW - timedelta(days=1), usegmt=True)}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "1" * 400}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After-Ms": "250", "Retry-After": "7"}, 0.25),
        ({"Retry-After": "7", "x-ratelimit-reset-requests": "1s"}, 7),
        ({"x-ratelimit-reset-requests": "1s"}, 1),
        ({"x-ratelimit-reset-tokens": "6m0s"}, 360),
        ({"x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-reset-tokens": "2m59.56s"}, 179.56),
        ({"x-ratelimit-reset-tokens": "1h0m5s"}, 3605),
        ({"x-ratelimit-reset-tokens": "5 apples"}, None),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 360),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "149984",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            1,
        ),
        ({"anthropic-ratelimit-requests-reset": LATER}, 90),
        ({"anthropic-ratelimit-tokens-reset": "2026-01-01T00:00:05Z"}, 5),
        (
            {
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2026-01-01T00:00:05Z",
                "anthropic-ratelimit-requests-remaining": "4",
                "anthropic-ratelimit-requests-reset": LATER,
            },
            5,
        ),
        ({"anthropic-ratelimit-tokens-reset": "tomorrow"}, None),
    ],
)
def test_a_server_says_how_long_to_wait(monkeypatch, headers, seconds):
    monkeypatch.setattr(openai_pace.time, "time", NOW.timestamp)
    assert asked_wait(headers) == (None if seconds is None else pytest.approx(seconds))


def test_the_wait_doubles_up_to_a_maximum():
    assert all(0.375 <= backoff(0) <= 0.5 for _ in range(50))
    assert all(6 <= backoff(n) <= 8 for n in (4, 10, 5000))


class _NoWait(selectors.DefaultSelector):
    """A selector that skips the time until the next timer."""

    skipped = 0.0

    def select(self, timeout=None):
        if timeout and timeout > 0:
            self.skipped += timeout
        return super().select(0)


def simulated(coroutine):
    """Run a coroutine on a clock that jumps to the next timer."""
    selector = _NoWait()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.skipped
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


class SlidingWindow:
    """Accepts 50 requests in any second."""

    def __init__(self):
        self.times = []

    def accepts(self, now):
        self.times = [time for time in self.times if time > now - 1]
        if len(self.times) < 50:
            self.times.append(now)
            return True
        return False

    def ended(self):
        pass


class Bucket(SlidingWindow):
    """Accepts a request every 20 ms, and none in advance."""

    def __init__(self):
        self.full_at = 0.0

    def accepts(self, now):
        if now < self.full_at:
            return False
        self.full_at = max(self.full_at, now - 0.02) + 0.02
        return True


class Slots(SlidingWindow):
    """Accepts 25 concurrent requests."""

    def __init__(self):
        self.used = 0

    def accepts(self, now):
        self.used += self.used < 26
        return self.used < 26 or bool(self.ended())

    def ended(self):
        self.used -= 1


async def rate(server, latency, maximum, wait, seconds=80):
    """Return the requests per second after the first 20 s, and the most tries of one request."""
    loop = asyncio.get_running_loop()
    pace = Pace(maximum)
    ends, tries = [], []

    async def ask():
        for n in itertools.count():
            await pace.enter(again=n > 0)
            began = loop.time()
            accepted = server.accepts(began)
            await asyncio.sleep(latency if accepted else 0.005)
            if accepted:
                server.ended()
            pace.leave(loop.time() - began, accepted=accepted)
            if accepted:
                ends.append(loop.time())
                tries.append(n + 1)
                return
            pause = backoff(n) if wait is None else wait
            pace.pause(pause)
            await asyncio.sleep(pause)

    async def work():
        while loop.time() < seconds:
            await ask()

    await asyncio.gather(*(work() for _ in range(2 * maximum)))
    used = [end for end in ends if 20 <= end < seconds]
    return len(used) / (seconds - 20), max(tries)


@pytest.mark.parametrize(
    ("server", "latency", "maximum", "wait"),
    [
        (SlidingWindow, 0.01, 64, 1.0),
        (SlidingWindow, 0.5, 256, 1.0),
        (SlidingWindow, 3.0, 256, None),
        (Bucket, 0.01, 64, None),
        (Bucket, 0.5, 64, 1.0),
        (Bucket, 3.0, 256, 1.0),
        (Slots, 0.5, 256, None),
    ],
)
def test_a_limited_server_is_used_at_nearly_its_limit(server, latency, maximum, wait):
    """The limit is 50 requests per second, or 25 at once."""
    limit = 50
    found, most_tries = simulated(rate(server(), latency, maximum, wait))
    assert 0.75 * limit < found <= limit + 1
    assert most_tries <= 7  # the default of engine.max_retries allows as many


def test_a_server_without_a_limit_gets_the_maximum():
    class Open(SlidingWindow):
        def accepts(self, now):
            return True

    found, most_tries = simulated(rate(Open(), 0.5, 8, None, seconds=40))
    assert (found, most_tries) == (pytest.approx(16, abs=1), 1)


def test_a_canceled_request_leaves_its_place_to_the_next():
    async def run():
        pace = Pace(1)
        await pace.enter()
        waiting = [asyncio.ensure_future(pace.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        pace.leave(1.0, accepted=True)  # admits the second
        waiting[1].cancel()
        await asyncio.wait(waiting, timeout=1)
        return pace.running, [one.cancelled() for one in waiting]

    assert simulated(run()) == (1, [True, True, False])
