"""The worker process that calls a Python function named in the recipe.

The process first receives the function, and replies None after it has imported the function's file,
or a FunctionError if the import failed. Then it replies to every batch of rows with an `Answer`.
`factory.engines.function` starts it, and restarts it after every hang. It starts fast, because it
imports nothing slow except the imports of the function's own file.
"""

import faulthandler
import numbers
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


def main() -> None:
    faulthandler.enable()  # writes a traceback to the log if native code crashes
    connection = Connection(int(sys.argv[1]))
    named: Function = connection.recv()
    try:
        function = named.load()
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
