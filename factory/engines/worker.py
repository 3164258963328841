"""A process that holds an engine.

Started by `factory.engines.processes`, which it is connected with by a socket whose number is its
argument. It is sent what to open, then requests, and sends results; the end of the connection ends
it and all processes that the engine has started.
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
from factory.models import Checkpoint
from factory.recipe import ScriptedEngine, VllmEngine

GATHER = 0.01
"""Seconds in which finished answers gather to be sent together."""

BEAT = 1.0
"""Seconds between signs of life of an engine that makes tokens and has finished no answer."""


@dataclass(frozen=True)
class Start:
    """What an engine is opened with."""

    settings: VllmEngine | ScriptedEngine
    models: tuple[Checkpoint, ...]
    rank: int
    """The largest of the adapters that will be asked for; 0 where none will."""
    folder: Path
    """The recipe's."""


@dataclass(frozen=True)
class Ready:
    name: str
    version: str
    room: int
    """Draws that the engine wants in flight."""


@dataclass(frozen=True)
class Alive:
    """Tokens were made."""


@dataclass(frozen=True)
class Ended:
    """The engine raised."""

    error: str


SCRIPTED_ROOM = 64


class _Outbox:
    """Sends from a thread of its own, so that the engine waits for nobody who reads."""

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
        """Sends what is left."""
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
    """Ends this process and those of the engine: they are a group of their own."""
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
        outbox.send(Ended(f"{type(error).__name__}: {' '.join(str(error).split())}"))
        raise
