"""The worker process that calls a Python function named in the recipe.

The process receives batches of rows and sends back one value per row. `factory.engines.function`
starts it, and restarts it after every hang. It starts fast, because it imports nothing slow except
the imports of the function's own file.
"""

import faulthandler
import fcntl
import numbers
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

from factory.errors import FunctionError
from factory.functions import Function

_MACHINE = (OSError, ImportError, MemoryError)
"""Exceptions caused by the machine, such as a missing file. The next run may succeed."""


@dataclass(frozen=True)
class Opening:
    """The first message that the factory sends to a worker process.

    The process replies None after it has imported the function's file, or a FunctionError if the
    import failed. From then on, it replies to every batch of rows with an Answer.
    """

    function: Function
    lifeline: int
    """File descriptor of a socket whose other end the factory keeps open while it runs."""


@dataclass(frozen=True)
class Fault:
    """The reason why a user's function returned no value for a row."""

    reason: str
    kind: Literal["permanent", "transient"]


Answer = list[float | Fault | None] | Fault
"""One value or fault per row, or a single fault for all rows of the batch."""


def call(function: Callable[[list[dict[str, Any]]], Any], rows: list[dict[str, Any]]) -> Answer:
    """Call the user's function on a batch of rows, and return its values or a `Fault`."""
    try:
        values = list(function(rows))
    except _MACHINE as error:
        return Fault(f"the function raised {type(error).__name__}: {error}", "transient")
    except (Exception, SystemExit) as error:  # a user's function may raise anything
        return Fault(f"the function raised {type(error).__name__}: {error}", "permanent")
    if len(values) != len(rows):
        reason = f"the function returned {len(values)} values for {len(rows)} rows"
        return Fault(reason, "permanent")
    return [_number(value) for value in values]


def _number(value: Any) -> float | Fault | None:
    if value is None:
        return None
    kind = type(value).__name__
    if not isinstance(value, numbers.Real):
        return Fault(
            f"the function must return a number or None, but it returned a {kind}", "permanent"
        )
    try:
        return float(value)
    except OverflowError:
        return Fault(f"the function returned a {kind} that no float can hold", "permanent")


def _end_with(lifeline: int) -> None:
    """Make the kernel end this process group when the factory exits or is killed.

    The kernel sends a signal when the other end of the socket closes. A watching thread would not
    do: it cannot run while a long regular expression holds the interpreter lock.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def main() -> None:
    faulthandler.enable()  # writes a traceback to the log if native code crashes
    connection = Connection(int(sys.argv[1]))
    opening: Opening = connection.recv()
    _end_with(opening.lifeline)
    try:
        function = opening.function.load()
    except FunctionError as error:
        connection.send(error)
        return
    connection.send(None)
    while True:
        try:
            rows = connection.recv()
        except EOFError:
            return
        connection.send(call(function, rows))
