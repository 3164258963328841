"""The program that runs an engine in a separate process.

`factory.engines.fleet` starts the process and passes the number of a connected socket. The process
receives the engine's settings, then requests, and sends results. When the connection closes, the
process kills itself and all processes that the engine has started.
"""

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from factory.engines.protocol import Engine, Request, Result
from factory.errors import one_line
from factory.models import Checkpoint
from factory.recipe import ScriptedEngine, VllmEngine

GATHER = 0.01
"""Seconds for which the process collects finished answers before it sends them together."""

BEAT = 1.0
"""Minimum number of seconds between two heartbeats of an engine that is generating tokens."""


@dataclass(frozen=True)
class Start:
    """The first message to an engine's process, which carries the engine's settings and models."""

    settings: VllmEngine | ScriptedEngine
    models: tuple[Checkpoint, ...]
    rank: int
    """Largest rank of the adapters; 0 without adapters."""
    folder: Path
    """Folder of the recipe."""


@dataclass(frozen=True)
class Ready:
    """The message that an engine sends when it has started."""

    name: str
    version: str
    room: int
    """Number of draws in flight that keep the engine busy."""


@dataclass(frozen=True)
class Alive:
    """The heartbeat that an engine sends while it is generating tokens."""


@dataclass(frozen=True)
class Ended:
    """The message that an engine sends if it raises an exception."""

    error: str


SCRIPTED_ROOM = 64


class _Outbox:
    """A queue that sends results from a separate thread, so that the engine never waits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._results: queue.SimpleQueue[Result | None] = queue.SimpleQueue()
        self._beaten = 0.0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def put(self, result: Result) -> None:
        self._results.put(result)

    def beat(self) -> None:
        now = time.monotonic()
        if now - self._beaten >= BEAT:
            self._beaten = now
            self.send(Alive())

    def send(self, message: Any) -> None:
        with self._lock:
            try:
                self._connection.send(message)
            except OSError:
                _die()

    def finish(self) -> None:
        """Send the remaining results, and wait until they are sent."""
        self._results.put(None)
        self._thread.join()

    def _work(self) -> None:
        ended = False
        while not ended:
            batch = [self._results.get()]
            time.sleep(GATHER)
            while not self._results.empty():
                batch.append(self._results.get())
            ended = batch[-1] is None
            if results := [result for result in batch if result is not None]:
                self.send(results)


def _die() -> None:
    """Kill this process and the engine's processes, which form one process group."""
    os.killpg(0, signal.SIGKILL)


def _requests(connection: Connection) -> Iterator[Request]:
    while True:
        try:
            batch: list[Request] | None = connection.recv()
        except (EOFError, OSError):
            _die()
            return
        if batch is None:
            return
        yield from batch


def _open(start: Start, outbox: _Outbox) -> AbstractContextManager[Engine]:
    match start.settings:
        case VllmEngine() as settings:
            from factory.engines import vllm

            return vllm.open_engine(settings, start.models, start.rank, outbox.beat)
        case ScriptedEngine() as settings:
            from factory.engines import scripted

            return scripted.open_engine(settings, start.folder)


def main() -> None:
    connection = Connection(int(sys.argv[1]))
    outbox = _Outbox(connection)
    try:
        with _open(connection.recv(), outbox) as engine:
            room = getattr(engine, "room", SCRIPTED_ROOM)
            outbox.send(Ready(engine.name, engine.version, room))
            for result in engine.generate(_requests(connection)):
                outbox.put(result)
            outbox.finish()
    except Exception as error:
        outbox.send(Ended(f"{type(error).__name__}: {one_line(error)}"))
        raise
