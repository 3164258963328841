"""The `function` engine, which judges answers with a Python function named in the recipe.

The function receives a list of rows {messages, answer, reference, criteria, meta} and returns one
number per row. It runs in a separate process (`factory.function_worker`) on batches, which grow
while they need only a small share of the timeout. If the function raises, returns the wrong number
of values, takes too long, or crashes, the batch is retried row by row, so that only the faulty row
fails. The failure is transient if the machine caused it (a missing file, connection, or package),
and permanent otherwise.
"""

import itertools
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from factory import __version__
from factory.engines.child import Child
from factory.engines.protocol import Request, Result, failures
from factory.errors import EngineError, FunctionError
from factory.function_worker import Answer, Fault
from factory.functions import Function

WORKER = "from factory.function_worker import main; main()"

BATCH = 256
"""Maximum number of rows in a batch."""

SHORT, LONG = 1 / 8, 1 / 2
"""Shares of the timeout that adapt the batch size. If a batch takes less than the first share, the
next batch is twice as large. If it takes more than the second, the next is half as large."""

IMPORTING = 600.0
"""Timeout in seconds for importing the function's file, which may load a model."""

MOST_FRUITLESS = 20
"""Number of consecutive rows that may time out or crash before the run stops. A function that fails
so often probably fails for every row, and each row can take as long as the timeout."""

ENDING = 20.0
"""Seconds that the process has to exit before it is killed."""


class _Gone(Exception):
    """An error for a function whose process crashed or timed out.

    The message is a predicate, such as "took longer than 1 s".
    """


class _Process:
    """A child process that imports and calls the function."""

    def __init__(self, function: Function, log: Path) -> None:
        # A module in the current folder can be named, but does not hide an installed module.
        path = [] if function.is_file else [str(Path.cwd())]
        self._child = Child(WORKER, log, {}, kind="function", path=path)
        self._number = 0
        try:
            failed = self._ask(function, IMPORTING)
        except _Gone as gone:
            raise FunctionError(
                function.name,
                f"{function.file.name} cannot be imported ({gone})",
                f"look for the cause in the log {log}",
            ) from None
        if failed is not None:
            self.kill()
            raise failed

    def call(self, rows: list[dict[str, Any]], seconds: float) -> Answer:
        """Send a batch of rows to the process, and return the judge function's values.

        Raises _Gone after a timeout or a crash.
        """
        answer: Answer = self._ask(rows, seconds)
        return answer

    def _ask(self, message: Any, seconds: float) -> Any:
        """Send a message to the process, and return the reply.

        Raises _Gone after a timeout, a crash, or if the user's code writes to the connection.
        """
        self._number += 1
        too_late = threading.Event()

        def stop() -> None:
            too_late.set()
            self._child.process.kill()

        # A broken reply may announce more bytes than follow. Reading it ends when the process ends.
        timer = threading.Timer(seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            number, reply = self._exchange((self._number, message))
        except (EOFError, OSError):
            fate = self.kill()
            raise _Gone(
                f"took longer than {seconds:g} s" if too_late.is_set() else f"crashed: {fate}"
            ) from None
        except Exception:  # unpickling may raise any exception
            number, reply = None, None
        except BaseException:
            self.kill()
            raise
        finally:
            timer.cancel()
        if number != self._number:
            self.kill()
            raise _Gone("wrote to the file descriptors of its process, which broke its reply")
        return reply

    def _exchange(self, message: tuple[int, Any]) -> Any:
        connection = self._child.connection
        connection.send(message)
        while not connection.poll(1.0):
            # A child of the process may outlive it and keep the connection open.
            if not self._child.alive and not connection.poll():
                raise EOFError
        return connection.recv()

    def end(self) -> None:
        """Ask the process to exit, and kill it if it does not exit in time."""
        self._child.connection.close()
        self._child.wait(ENDING)
        self.kill()

    def kill(self) -> str:
        return self._child.kill()


class _Engine:
    name = "function"
    version = __version__

    def __init__(self, function: Function, timeout: float, log: Path) -> None:
        self._function, self._timeout, self._log = function, timeout, log
        self._process: _Process | None = _Process(function, log)
        self._batch = 1
        self._fruitless = 0
        """Number of rows that timed out or crashed, each alone in its batch, since the last
        answer."""

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
        """Set the size of the next batch from the duration of the last batch in seconds."""
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
                        f"the function failed on {self._fruitless} consecutive rows (last "
                        f"failure: {gone})",
                        "fix the function, or raise the timeout (finished rows are saved; log: "
                        f"{self._log})",
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
    """Start a process that imports the judge function's file, and stop it when the context ends.

    The function may take `timeout` seconds per batch. Its output goes to a file in the folder
    `logs`. Raises FunctionError if the file cannot be imported.
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
