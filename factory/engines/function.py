"""A Python function as a judge: rows in, one number a row out.

A row is {messages, answer, reference, criteria, meta}. A function that raises, or returns the wrong
number of values, is asked again row by row, so that only the row at fault fails, with its reason.
"""

import itertools
import numbers
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from factory import __version__
from factory.engines import Request, Result, failures
from factory.functions import Function

BATCH = 256
"""Rows that the function is given at once."""


class _Engine:
    name = "function"
    version = __version__

    def __init__(self, function: Callable[[list[dict[str, Any]]], Sequence[Any]]) -> None:
        self._function = function

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        remaining = iter(requests)
        while batch := list(itertools.islice(remaining, BATCH)):
            values, problem = self._values(batch)
            if problem is None:
                for request, value in zip(batch, values, strict=True):
                    yield from _results(request, value)
            else:
                for request in batch:
                    alone, problem = self._values([request])
                    if problem is None:
                        yield from _results(request, alone[0])
                    else:
                        yield from failures(request, problem, "permanent")

    def _values(self, batch: list[Request]) -> tuple[list[Any], str | None]:
        rows = [_row(request) for request in batch]
        try:
            values = list(self._function(rows))
        except Exception as error:  # whatever a user's function raises is that row's reason
            return [], f"the function raised {type(error).__name__}: {error}"
        if len(values) != len(batch):
            return [], f"the function returned {len(values)} values for {len(batch)} rows"
        return values, None


def _row(request: Request) -> dict[str, Any]:
    return {
        "messages": [dict(message) for message in request.messages[:-1]],
        "answer": request.messages[-1]["content"],
        **request.context,
    }


def _results(request: Request, value: Any) -> Iterator[Result]:
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
