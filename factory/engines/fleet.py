"""Run an engine in several parallel processes, and restart a process that crashes.

Each engine gets slices of consecutive requests, so that requests with a common prefix share one
engine's cache. No engine gets more requests than it has capacity for. If a process dies, or is busy
but generates no token, it is killed with its children and restarted, and its unfinished requests
are retried first. A request that was in flight during two crashes is retried alone. If the engine
dies again, this request fails, and the other requests continue.
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
"""Program of an engine's process. With `python -m`, pickled messages would refer to classes in
`__main__`."""

SLICE = 32
"""Maximum number of consecutive requests that one engine gets at once."""

SUSPECT = 2
"""Number of crashes with a request in flight after which the request is retried alone."""

ENDING = 20.0
"""Seconds that an engine has to exit before it is killed."""


class _Worker:
    """An engine's process, with its pending requests and the time of its last message."""

    def __init__(self, start: Start, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self.ready: Ready | None = None
        self.error: str | None = None
        """Error that the engine raised, if any."""
        self.in_flight: dict[tuple[str, int], Request] = {}
        """Pending requests by request id and draw."""
        self.alone = False
        """Whether the engine retries a request alone, and must not get another one."""
        self.heard = time.monotonic()
        self._child = Child(WORKER, log, environment, kind="engine")
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
        with suppress(OSError):  # if the process has died, `_hear` handles it
            self.connection.send(list(requests))

    def hung(self, seconds: float) -> bool:
        return bool(self.in_flight) and time.monotonic() - self.heard > seconds

    def unfinished(self) -> list[Request]:
        """Return the pending requests, without the draws that are already answered."""
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
        """Wait until the process has exited, and kill its children."""
        self._child.wait(ENDING)
        self.kill()

    def kill(self) -> str:
        """Kill the process and its children, and return the reason why it ended."""
        how = self._child.kill()
        return how if self.error is None else self.error


class Fleet:
    """An engine that distributes its requests over several processes."""

    def __init__(self, start: Start, environments: Sequence[Mapping[str, str]], logs: Path) -> None:
        self.name: str = start.settings.name
        self._start = start
        self._environments = environments
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = [
            logs / f"{self.name}-{os.getpid()}-{place}.log" for place in range(len(environments))
        ]
        self._version: str | None = None
        self.started: float | None = None
        """Time at which the first process was ready, on the monotonic clock."""
        self._restarts = 0
        self._fruitless = 0
        """Number of crashes since the last answer."""
        self._deaths: Counter[tuple[str, int]] = Counter()
        self._again: deque[Request] = deque()
        self._suspects: deque[Request] = deque()
        self._workers = [self._launch(place) for place in range(len(environments))]

    def _launch(self, place: int) -> _Worker:
        return _Worker(self._start, self._environments[place], self._logs[place])

    @property
    def version(self) -> str:
        assert self._version is not None, "no engine has started yet"
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
                assert isinstance(connection, Connection), "expected a connection to a worker"
                yield from self._hear(by_connection[connection])
            for worker in list(self._workers):
                if worker.hung(self._start.settings.hang_seconds):
                    seconds = self._start.settings.hang_seconds
                    worker.error = f"the engine generated no token for {seconds:g} s and was killed"
                    yield from self._bury(worker)

    def _deal(self, left: Iterator[Request]) -> bool:
        """Send requests to each engine with free capacity. Return whether no requests are left."""
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
                self.started = self.started or time.monotonic()
            case Ended(error=error):
                worker.error = error  # the connection closes next
            case Alive():
                pass
            case results:
                self._fruitless = 0
                for result in results:
                    del worker.in_flight[result.request_id, result.draw]
                    yield result
                worker.alone = worker.alone and bool(worker.in_flight)

    def _bury(self, worker: _Worker) -> Iterator[Result]:
        """Replace a process that has died or hangs. Raises EngineError after too many crashes."""
        place = self._workers.index(worker)
        why, unfinished = worker.kill(), worker.unfinished()
        if self._version is None:
            raise start_failure(self.name, why, self._logs[place])
        self._fruitless += 1
        if worker.alone and unfinished:
            for request in unfinished:
                error = f"the engine died each time it ran this request: {why}"
                yield from failures(request, error, "permanent")
        else:
            self._restarts += 1
            self._ask_again(unfinished)
        most = self._start.settings.max_restarts
        if max(self._restarts, self._fruitless) > most:
            raise EngineError(
                self.name,
                f"the engine died {self._restarts} times (engine.max_restarts is {most}); last "
                f"failure: {why}",
                f"look for the cause in the log {self._logs[place]} (finished rows are saved)",
            )
        self._workers[place] = self._launch(place)

    def _ask_again(self, requests: Sequence[Request]) -> None:
        for request in requests:
            seen = [(request.id, draw) for draw in request.draws]
            self._deaths.update(seen)
            suspect = max(self._deaths[one] for one in seen) >= SUSPECT
            (self._suspects if suspect else self._again).append(request)

    def close(self, *, at_once: bool) -> None:
        """Stop all engine processes.

        With `at_once`, kill them without waiting for pending requests.
        """
        if at_once:
            for worker in self._workers:
                worker.kill()
            return
        for worker in self._workers:
            worker.ask_to_end()
        for worker, log in zip(self._workers, self._logs, strict=True):
            worker.wait()
            log.unlink(missing_ok=True)  # logs are useful only after a failure


def _split(request: Request, most: int) -> Iterator[Request]:
    """Split a request into requests with at most `most` draws each."""
    for start in range(0, len(request.draws), most):
        yield dataclasses.replace(request, draws=request.draws[start : start + most])


_REMEDIES = {
    ("out of memory", "no available memory", "free memory on device", "not enough memory"): (
        "lower engine.gpu_memory_utilization, engine.max_model_len, or engine.max_num_seqs, or "
        "raise engine.tensor_parallel_size"
    ),
    ("kv cache is needed", "larger than the available kv cache", "kv cache memory"): (
        "lower engine.max_model_len, or raise engine.gpu_memory_utilization "
        "(on a CPU: VLLM_CPU_KVCACHE_SPACE, in GB)"
    ),
    ("model architectures", "are not supported"): "use a model that this engine supports",
}
"""Remedies for an engine that cannot start, by phrases in the lower-case error message."""


_ERROR = re.compile(r"\b(?:[A-Za-z_.]*(?:Error|Exception)|AssertionError): .+")


def start_failure(name: str, why: str, log: Path) -> EngineError:
    """Return an error that says why an engine could not start, according to the engine's log.

    vLLM's own process writes the cause to the log. The exception that reaches the engine's process
    only refers to that log.
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
        f"the engine could not start: {one_line(cause, 500)}",
        f"{next(fitting, 'fix the cause')} (log: {log})",
    )


@contextmanager
def open_fleet(
    start: Start, environments: Sequence[Mapping[str, str]], logs: Path
) -> Iterator[Fleet]:
    """Start one engine process per set of environment variables.

    The processes are stopped when the context ends. Each set is added to the environment variables
    of this process. Logs are written to the folder `logs`, and deleted if the context ends without
    an exception.
    """
    fleet = Fleet(start, environments, logs)
    try:
        yield fleet
    except BaseException:
        fleet.close(at_once=True)
        raise
    fleet.close(at_once=False)
