"""The process that calls a recipe's function: rows come, values go.

Started by `factory.engines.function`, and again after every hang: it imports nothing that takes
long but what the function's own file does.
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
"""What a function raises where the machine lacks something, and may have it at the next run."""


@dataclass(frozen=True)
class Opening:
    """What the process is sent first; it answers None once the file is imported, or the
    FunctionError that says why it could not be. After that it answers rows with an Answer."""

    function: Function
    lifeline: int
    """The number of a socket of which the other end is the factory's."""


@dataclass(frozen=True)
class Fault:
    """Why there is no value."""

    reason: str
    kind: Literal["permanent", "transient"]


Answer = list[float | Fault | None] | Fault
"""A value for each row, or why none of them has one."""


def call(function: Callable[[list[dict[str, Any]]], Any], rows: list[dict[str, Any]]) -> Answer:
    """What a function makes of rows."""
    try:
        values = list(function(rows))
    except _MACHINE as error:
        return Fault(f"the function raised {type(error).__name__}: {error}", "transient")
    except (
        Exception,
        SystemExit,
    ) as error:  # whatever a user's function raises is that row's reason
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
        return Fault(f"the function returned a {kind}, expected a number or None", "permanent")
    try:
        return float(value)
    except OverflowError:
        return Fault(f"the function returned a {kind} that no float can hold", "permanent")


def _end_with(lifeline: int) -> None:
    """Ends this process and what it has started once the factory has ended, even by a kill.

    The kernel's signal does it: no thread would run while, say, a regular expression keeps the
    interpreter to itself.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def main() -> None:
    faulthandler.enable()  # a crash outside Python says in the log where it was
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
