"""Limit the time of code that a user wrote and that may never end, such as a regular expression."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SECONDS = 10.0
"""Number of seconds for one text. Ordinary parsers and chat templates need milliseconds."""


class TooSlow(BaseException):
    """The code took longer than its limit. Not an Exception, which the code itself might catch."""


@contextmanager
def time_limit(seconds: float = SECONDS) -> Iterator[None]:
    """Raise TooSlow if the block takes longer than `seconds` seconds.

    Works in the main thread only, because a signal interrupts the block. Python's regular
    expressions can be interrupted by nothing else. Other threads have no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
