"""A Python function as a judge: rows in, one number per row out.

A row is {messages, answer, reference, criteria, meta}. The function runs in a separate process
(`factory.function_worker`) on batches, which grow while they take little of the timeout. If the
function raises, returns the wrong number of values, takes too long, or ends its process, the batch
is retried row by row, so that only the row at fault fails. The failure is transient if the machine
caused it (a missing file, connection, or package), and permanent if the function did.
"""

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
"""The largest batch."""

SHORT, LONG = 1 / 8, 1 / 2
"""Shares of the timeout: after a batch that took less than the first, the next is twice as large;
after one that took more than the second, half as large."""

IMPORTING = 600.0
"""Timeout of importing the function's file, which may load a model."""

MOST_FRUITLESS = 20
"""Consecutive rows that may take too long or end the process before the run stops. Each costs the
timeout, and the function seems to work for none."""

ENDING = 20.0
"""Seconds for the process to exit by itself."""


class _Gone(Exception):
    """The function's process is gone. The message says what the function did."""


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
                function.name,
                f"{function.file.name} cannot be imported: it {gone}",
                f"see its log, {log}",
            ) from None
        if failed is not None:
            self.kill()
            raise failed

    def call(self, rows: list[dict[str, Any]], seconds: float) -> Answer:
        """Return the function's values of rows. Raises _Gone if it takes longer, or dies."""
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
                # Its child may outlive it and keep the connection open.
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
        """Let it exit by itself, for a while, and kill it then."""
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
        """Rows that ended the process, each alone in its batch, since the last answer."""

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
        """Set the size of the next batch by the time that the last one took."""
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
                        self._function.name,
                        f"no answer for {self._fruitless} rows one after another; for the last, it "
                        f"{gone}",
                        f"fix the function, or raise its timeout (log: {self._log}); finished rows "
                        "are kept",
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
    """Import the function's file in the process that will call it; FunctionError if that fails.

    A call may take `timeout` seconds. The function's output is in a file in `logs`.
    """
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
