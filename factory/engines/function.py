"""A Python function as a judge: rows in, one number a row out.

A row is {messages, answer, reference, criteria, meta}. The function runs in a process of its own
(`factory.function_worker`) and is given batches, which grow while they take little of the time that
a call may take. A batch in which the function raises, returns the wrong number of values, takes too
long or ends its process is asked again row by row, so that only the row at fault fails, with its
reason: for now where it is the machine's doing (a file, a connection, a package that is not there),
for good where it is the function's own."""

import itertools
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from factory import __version__
from factory.engines.child import Child
from factory.engines.protocol import Request, Result, failures
from factory.errors import EngineError, FunctionError
from factory.function_worker import Answer, Fault, Opening
from factory.functions import Function

WORKER = "from factory.function_worker import main; main()"

BATCH = 256
"""The most rows that the function is given at once."""

SHORT, LONG = 1 / 8, 1 / 2
"""Shares of the limit: a batch that took less than the first is followed by one twice as large, one
that took more than the second by one half as large."""

IMPORTING = 600.0
"""Seconds that the import of the function's file may take: it may load a model."""

MOST_FRUITLESS = 20
"""Rows one after another that took too long or ended the process, before the run stops: each costs
the limit, and the function seems to work for none."""

ENDING = 20.0
"""Seconds that the process is given to end by itself."""


class _Gone(Exception):
    """The function's process is gone; the message says what the function did."""


class _Process:
    """A process that holds the function."""

    def __init__(self, function: Function, log: Path) -> None:
        self._lifeline, theirs = socket.socketpair()
        with theirs:
            opening = Opening(function, theirs.fileno())
            self._child = Child(WORKER, log, {}, [opening.lifeline])
        try:
            failed = self._ask(opening, IMPORTING)
        except _Gone as gone:
            raise FunctionError(
                f"{function.name}: {function.file.name} cannot be imported: it {gone} (log: {log})"
            ) from None
        if failed is not None:
            self.kill()
            raise failed

    def call(self, rows: list[dict[str, Any]], seconds: float) -> Answer:
        """What the function makes of rows. Raises _Gone where it takes longer, or dies."""
        answer: Answer = self._ask(rows, seconds)
        return answer

    def _ask(self, message: Any, seconds: float) -> Any:
        until = time.monotonic() + seconds
        connection = self._child.connection
        try:
            connection.send(message)
            while (left := until - time.monotonic()) > 0:
                if connection.poll(min(left, 1.0)):
                    return connection.recv()
                # A process that it started may outlive it and hold the connection.
                if not self._child.alive and not connection.poll():
                    raise EOFError
        except (EOFError, OSError):
            raise _Gone(f"ended its process: {self.kill()}") from None
        except BaseException:
            self.kill()
            raise
        self.kill()
        raise _Gone(f"took longer than {seconds:g} s")

    def end(self) -> None:
        """Lets it end by itself, for a while."""
        self._child.connection.close()
        self._child.wait(ENDING)
        self.kill()

    def kill(self) -> str:
        how = self._child.kill()
        self._lifeline.close()
        return how


class _Engine:
    name = "function"
    version = __version__

    def __init__(self, function: Function, timeout: float, log: Path) -> None:
        self._function, self._timeout, self._log = function, timeout, log
        self._process: _Process | None = _Process(function, log)
        self._batch = 1
        self._fruitless = 0
        """Rows that ended the process, each asked alone, since the last answer."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        remaining = iter(requests)
        while batch := list(itertools.islice(remaining, self._batch)):
            began = time.monotonic()
            answer = self._ask(batch)
            self._size(time.monotonic() - began)
            if isinstance(answer, Fault) and len(batch) > 1:
                for request in batch:
                    yield from _results([request], self._ask([request]))
            else:
                yield from _results(batch, answer)

    def _size(self, seconds: float) -> None:
        """Fits the next batch to how long the last one took."""
        if seconds < SHORT * self._timeout:
            self._batch = min(self._batch * 2, BATCH)
        elif seconds > LONG * self._timeout:
            self._batch = max(self._batch // 2, 1)

    def _ask(self, requests: list[Request]) -> Answer:
        if self._process is None:
            self._process = _Process(self._function, self._log)
        try:
            answer = self._process.call([_row(request) for request in requests], self._timeout)
        except _Gone as gone:
            self._process = None
            if len(requests) == 1:
                self._fruitless += 1
                if self._fruitless > MOST_FRUITLESS:
                    raise EngineError(
                        f"{self._function.name} had no answer for {self._fruitless} rows one after "
                        f"another; for the last it {gone}. What was finished is kept. Mend the "
                        f"function, or raise its timeout (log: {self._log})"
                    ) from None
            return Fault(f"the function {gone}", "permanent")
        self._fruitless = 0
        return answer

    def close(self) -> None:
        if self._process is not None:
            self._process.end()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()


def _row(request: Request) -> dict[str, Any]:
    return {
        "messages": [dict(message) for message in request.messages[:-1]],
        "answer": request.messages[-1]["content"],
        **request.context,
    }


def _results(requests: Sequence[Request], answer: Answer) -> Iterator[Result]:
    values = [answer] * len(requests) if isinstance(answer, Fault) else answer
    for request, value in zip(requests, values, strict=True):
        if isinstance(value, Fault):
            yield from failures(request, value.reason, value.kind)
        else:
            yield from (Result(request.id, draw, value=value) for draw in request.draws)


@contextmanager
def open_engine(function: Function, timeout: float, logs: Path) -> Iterator[_Engine]:
    """Imports the function's file, in the process that will call it; FunctionError where that
    fails. A call may take `timeout` seconds. What the function prints is in a file in `logs`."""
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"function-{os.getpid()}.log"
    try:
        engine = _Engine(function, timeout, log)
        try:
            yield engine
        except BaseException:
            engine.kill()
            raise
        engine.close()
    finally:
        if log.exists() and log.stat().st_size == 0:
            log.unlink()
