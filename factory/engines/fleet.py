"""Engines in separate processes: several in parallel, restarted when they die.

Requests are dealt in slices, so that requests with a common prompt share one engine's cache. No
engine has more in flight than it has room for. A process that dies, or that has work and makes no
token, is killed with its children and restarted, and its unfinished requests are retried first. A
request that was in flight at two deaths is retried alone: if the engine dies again, the request has
failed, and the others go on.
"""

import dataclasses
import os
import re
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path

from factory.engines.child import Child
from factory.engines.protocol import Request, Result, failures
from factory.engines.worker import Alive, Ended, Ready, Start
from factory.errors import EngineError, one_line

WORKER = "from factory.engines.worker import main; main()"
"""Not `-m`: its messages must be of the module's classes, not of `__main__`'s."""

SLICE = 32
"""Requests that one engine gets together."""

SUSPECT = 2
"""Deaths with a request in flight before it is retried alone."""

ENDING = 20.0
"""Seconds for an engine to exit by itself."""


class _Worker:
    """One process: its requests in flight, and when it last sent a message."""

    def __init__(self, start: Start, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self.ready: Ready | None = None
        self.error: str | None = None
        """The error that it raised."""
        self.in_flight: dict[tuple[str, int], Request] = {}
        self.alone = False
        """Whether it has a suspect in flight and may get no other request."""
        self.heard = time.monotonic()
        self._child = Child(WORKER, log, environment)
        self.connection = self._child.connection
        self.connection.send(start)

    @property
    def room(self) -> int:
        if self.ready is None or self.alone:
            return 0
        return self.ready.room - len(self.in_flight)

    def give(self, requests: Sequence[Request]) -> None:
        if not self.in_flight:
            self.heard = time.monotonic()
        for request in requests:
            for draw in request.draws:
                self.in_flight[request.id, draw] = request
        with suppress(OSError):  # it has died, which `_hear` finds
            self.connection.send(list(requests))

    def hung(self, seconds: float) -> bool:
        return bool(self.in_flight) and time.monotonic() - self.heard > seconds

    def unfinished(self) -> list[Request]:
        """Return the requests that it has not answered, with the remaining draws."""
        draws: dict[int, list[int]] = {}
        requests = {id(request): request for request in self.in_flight.values()}
        for (_, draw), request in self.in_flight.items():
            draws.setdefault(id(request), []).append(draw)
        return [
            dataclasses.replace(request, draws=tuple(sorted(draws[place])))
            for place, request in requests.items()
        ]

    def ask_to_end(self) -> None:
        with suppress(OSError):
            self.connection.send(None)

    def wait(self) -> None:
        """Wait until it has exited, and kill its children."""
        self._child.wait(ENDING)
        self.kill()

    def kill(self) -> str:
        """Kill it and its children; return how it ended."""
        how = self._child.kill()
        return how if self.error is None else self.error


class Fleet:
    """The engine that the processes form."""

    def __init__(self, start: Start, environments: Sequence[Mapping[str, str]], logs: Path) -> None:
        self.name: str = start.settings.name
        self._start = start
        self._environments = environments
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = [
            logs / f"{self.name}-{os.getpid()}-{place}.log" for place in range(len(environments))
        ]
        self._version: str | None = None
        self._restarts = 0
        self._fruitless = 0
        """Deaths since the last answer."""
        self._deaths: Counter[tuple[str, int]] = Counter()
        self._again: deque[Request] = deque()
        self._suspects: deque[Request] = deque()
        self._workers = [self._launch(place) for place in range(len(environments))]

    def _launch(self, place: int) -> _Worker:
        return _Worker(self._start, self._environments[place], self._logs[place])

    @property
    def version(self) -> str:
        assert self._version is not None, "known once an engine has started"
        return self._version

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        left = iter(requests)
        ended = False
        while True:
            ended = self._deal(left) or ended
            busy = [worker for worker in self._workers if worker.in_flight]
            if ended and not busy and not self._again and not self._suspects:
                return
            hungry = not ended and any(worker.room > 0 for worker in self._workers)
            by_connection = {worker.connection: worker for worker in self._workers}
            for connection in wait(list(by_connection), 0 if hungry else 1.0):
                assert isinstance(connection, Connection), "nothing else is waited for"
                yield from self._hear(by_connection[connection])
            for worker in list(self._workers):
                if worker.hung(self._start.settings.hang_seconds):
                    seconds = self._start.settings.hang_seconds
                    worker.error = f"it made no token for {seconds:g} s and was killed"
                    yield from self._bury(worker)

    def _deal(self, left: Iterator[Request]) -> bool:
        """Give each engine with room a slice; return whether no request is left."""
        ended = False
        for worker in self._workers:
            if worker.room <= 0:
                continue
            if self._suspects and not worker.in_flight:
                worker.give([self._suspects.popleft()])
                worker.alone = True
            elif slice_ := self._slice(left, worker.room):
                most = worker.ready.room if worker.ready else 1
                worker.give([part for request in slice_ for part in _split(request, most)])
            else:
                ended = True
        return ended

    def _slice(self, left: Iterator[Request], room: int) -> list[Request]:
        slice_: list[Request] = []
        while room > 0 and len(slice_) < SLICE:
            request = self._again.popleft() if self._again else next(left, None)
            if request is None:
                break
            slice_.append(request)
            room -= len(request.draws)
        return slice_

    def _hear(self, worker: _Worker) -> Iterator[Result]:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            yield from self._bury(worker)
            return
        worker.heard = time.monotonic()
        match message:
            case Ready():
                worker.ready = message
                self._version = message.version
            case Ended(error=error):
                worker.error = error  # then the connection ends
            case Alive():
                pass
            case results:
                self._fruitless = 0
                for result in results:
                    del worker.in_flight[result.request_id, result.draw]
                    yield result
                worker.alone = worker.alone and bool(worker.in_flight)

    def _bury(self, worker: _Worker) -> Iterator[Result]:
        """Kill a process that is dead or hangs, and start another in its place."""
        place = self._workers.index(worker)
        why, unfinished = worker.kill(), worker.unfinished()
        if self._version is None:
            raise start_failure(self.name, why, self._logs[place])
        self._fruitless += 1
        if worker.alone and unfinished:
            for request in unfinished:
                yield from failures(request, f"it ended the engine each time: {why}", "permanent")
        else:
            self._restarts += 1
            self._ask_again(unfinished)
        most = self._start.settings.max_restarts
        if max(self._restarts, self._fruitless) > most:
            raise EngineError(
                self.name,
                f"the engine died {self._restarts} times (engine.max_restarts is {most}); the last "
                f"time, {why}",
                f"see its log, {self._logs[place]}; finished rows are kept",
            )
        self._workers[place] = self._launch(place)

    def _ask_again(self, requests: Sequence[Request]) -> None:
        for request in requests:
            seen = [(request.id, draw) for draw in request.draws]
            self._deaths.update(seen)
            suspect = max(self._deaths[one] for one in seen) >= SUSPECT
            (self._suspects if suspect else self._again).append(request)

    def close(self, *, at_once: bool) -> None:
        """End the processes; with `at_once`, their unfinished requests are lost."""
        if at_once:
            for worker in self._workers:
                worker.kill()
            return
        for worker in self._workers:
            worker.ask_to_end()
        for worker, log in zip(self._workers, self._logs, strict=True):
            worker.wait()
            log.unlink(missing_ok=True)  # only failures need it


def _split(request: Request, most: int) -> Iterator[Request]:
    """Split a request with more draws than an engine has room for."""
    for start in range(0, len(request.draws), most):
        yield dataclasses.replace(request, draws=request.draws[start : start + most])


_REMEDIES = {
    ("out of memory", "no available memory", "free memory on device", "not enough memory"): (
        "lower engine.gpu_memory_utilization, engine.max_model_len or engine.max_num_seqs, or "
        "raise engine.tensor_parallel_size"
    ),
    ("kv cache is needed", "larger than the available kv cache", "kv cache memory"): (
        "lower engine.max_model_len, or raise engine.gpu_memory_utilization "
        "(on a CPU: VLLM_CPU_KVCACHE_SPACE, in GB)"
    ),
    ("model architectures", "are not supported"): "use a model that this engine supports",
}
"""Remedies for failures to start, by the texts that their messages contain."""


_ERROR = re.compile(r"\b(?:[A-Za-z_.]*(?:Error|Exception)|AssertionError): .+")


def start_failure(name: str, why: str, log: Path) -> EngineError:
    """Return why an engine did not start: the innermost error of its log, and what to do.

    vLLM's own process writes the cause into the log. The error that it raises here only refers to
    the log.
    """
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if _ERROR.search(line) and "Engine core init" not in line]
    logged = _ERROR.search(errors[0]) if errors else None
    raised_here = _ERROR.match(why) and "Engine core init" not in why
    cause = why if raised_here or logged is None else logged[0]
    lower = cause.lower()
    fitting = (
        advice for signs, advice in _REMEDIES.items() if any(sign in lower for sign in signs)
    )
    return EngineError(
        name,
        f"could not start: {one_line(cause, 500)}",
        f"{next(fitting, 'correct the cause')} (log: {log})",
    )


@contextmanager
def open_fleet(
    start: Start, environments: Sequence[Mapping[str, str]], logs: Path
) -> Iterator[Fleet]:
    """Start one engine per environment (variables in addition to this process's)."""
    fleet = Fleet(start, environments, logs)
    try:
        yield fleet
    except BaseException:
        fleet.close(at_once=True)
        raise
    fleet.close(at_once=False)
