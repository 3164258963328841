"""A Python function as a judge: rows in, one number a row out.

A row is {messages, answer, reference, criteria, meta}. A function that raises, or returns the wrong
number of values, is asked again row by row, so that only the row at fault fails, with its reason:
for now where it is the machine's doing (a file, a connection, a package that is not there), for
good where it is the function's own.
"""

import itertools
import numbers
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from factory import __version__
from factory.engines import ErrorKind, Request, Result, failures
from factory.functions import Function

BATCH = 256
"""Rows that the function is given at once."""


_MACHINE = (OSError, ImportError, MemoryError)
"""What a function raises where the machine lacks something, and may have it at the next run."""


@dataclass(frozen=True)
class _Fault:
    reason: str
    kind: ErrorKind


class _Engine:
    name = "function"
    version = __version__

    def __init__(self, function: Callable[[list[dict[str, Any]]], Sequence[Any]]) -> None:
        self._function = function

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        remaining = iter(requests)
        while batch := list(itertools.islice(remaining, BATCH)):
            values = self._values(batch)
            if isinstance(values, _Fault) and len(batch) > 1:
                for request in batch:
                    yield from _results(request, self._values([request]))
            else:
                for place, request in enumerate(batch):
                    yield from _results(
                        request, values if isinstance(values, _Fault) else values[place : place + 1]
                    )

    def _values(self, batch: list[Request]) -> list[Any] | _Fault:
        rows = [_row(request) for request in batch]
        try:
            values = list(self._function(rows))
        except _MACHINE as error:
            return _Fault(f"the function raised {type(error).__name__}: {error}", "transient")
        except Exception as error:  # whatever a user's function raises is that row's reason
            return _Fault(f"the function raised {type(error).__name__}: {error}", "permanent")
        if len(values) != len(batch):
            reason = f"the function returned {len(values)} values for {len(batch)} rows"
            return _Fault(reason, "permanent")
        return values


def _row(request: Request) -> dict[str, Any]:
    return {
        "messages": [dict(message) for message in request.messages[:-1]],
        "answer": request.messages[-1]["content"],
        **request.context,
    }


def _results(request: Request, values: list[Any] | _Fault) -> Iterator[Result]:
    if isinstance(values, _Fault):
        yield from failures(request, values.reason, values.kind)
        return
    (value,) = values
    if value is None:
        yield from (Result(request.id, draw) for draw in request.draws)
    elif isinstance(value, numbers.Real):
        number = float(value)
        yield from (Result(request.id, draw, value=number) for draw in request.draws)
    else:
        reason = f"the function returned a {type(value).__name__}, expected a number or None"
        yield from failures(request, reason, "permanent")


@contextmanager
def open_engine(function: Function) -> Iterator[_Engine]:
    yield _Engine(function.load())
