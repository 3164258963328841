"""The worker process that calls a Python function named in the recipe.

The process first receives the function, and replies None after it has imported the function's file,
or a FunctionError if the import failed. Then it replies to every batch of rows with an `Answer`.
Every message has a number, and its reply has the same number, so that a reply never counts for
other rows.
`factory.engines.function` starts it, and restarts it after every hang. It starts fast, because it
imports nothing slow except the imports of the function's own file.
"""

import faulthandler
import itertools
import numbers
import os
import sys
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

from factory.errors import FunctionError
from factory.texts import describe_error

_MACHINE = (OSError, ImportError, MemoryError)
"""Exceptions caused by the machine, such as a missing file. The next run may succeed."""

_NOT_IN_ROW_ORDER = (Mapping, Set, str, bytes, bytearray)
"""Types whose items are not one value per row, such as a dictionary, whose items are its keys."""


@dataclass(frozen=True)
class Fault:
    """The reason why a user's function returned no value for a row."""

    reason: str
    kind: Literal["permanent", "transient"]


Answer = list[float | Fault | None] | Fault
"""One value or fault per row, or a single fault for all rows of the batch."""


def call(function: Callable[[list[dict[str, Any]]], Any], rows: list[dict[str, Any]]) -> Answer:
    """Call the user's function on a batch of rows, and return its values or a `Fault`."""
    n_rows = len(rows)  # the function may change the list
    try:
        returned = function(rows)
        if isinstance(returned, _NOT_IN_ROW_ORDER):
            kind = type(returned).__name__
            reason = f"the function must return a list of numbers, but it returned a {kind}"
            return Fault(reason, "permanent")
        values = list(itertools.islice(returned, n_rows + 1))
        if len(values) == n_rows:
            return [_number(value) for value in values]
    except _MACHINE as error:
        return Fault(f"the function raised {describe_error(error)}", "transient")
    except (Exception, SystemExit, GeneratorExit) as error:  # a user's code may raise anything
        return Fault(f"the function raised {describe_error(error)}", "permanent")
    counted = f"{len(values)}" if len(values) < n_rows else f"more than {n_rows}"
    return Fault(f"the function returned {counted} values for {n_rows} rows", "permanent")


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
    connection, process = Connection(int(sys.argv[1])), os.getpid()
    number, named = connection.recv()
    try:
        function = named.load()
    except FunctionError as error:
        connection.send((number, error))
        return
    reply: Answer | None = None
    while True:
        if os.getpid() != process:  # the user's code forked this process
            os._exit(0)
        connection.send((number, reply))
        try:
            number, rows = connection.recv()
        except EOFError:
            return
        reply = call(function, rows)
