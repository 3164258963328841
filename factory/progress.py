"""What a person is told while the work goes on.

One protocol, told by `run` and `work`; `Lines` writes a plain line every few seconds (for files and
pipes), `Bars` draws them on a terminal, `Silent` says nothing.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO


class Task(Protocol):
    def advance(self, n: int = 1, tokens: int = 0) -> None: ...

    def at(self, n: int, of: int) -> None:
        """Sets how far the task is, and how far it goes."""
        ...


class Progress(Protocol):
    def say(self, message: str) -> None:
        """Something that a person should read."""
        ...

    def task(self, title: str, total: int, unit: str) -> AbstractContextManager[Task]:
        """A piece of work, in a `with`."""
        ...


class _LineTask:
    def __init__(self, out: TextIO, title: str, total: int, unit: str, every: float) -> None:
        self._out, self._title, self._total, self._unit = out, title, total, unit
        self._every = every
        self._began = self._told = time.monotonic()
        self._done = self._tokens = 0

    def advance(self, n: int = 1, tokens: int = 0) -> None:
        self._done += n
        self._tokens += tokens
        if time.monotonic() - self._told >= self._every:
            self._tell()

    def at(self, n: int, of: int) -> None:
        self._total = of
        self.advance(n - self._done)

    @property
    def reached(self) -> tuple[int, int]:
        return self._done, self._total

    def _tell(self) -> None:
        self._told = time.monotonic()
        rate = self._done / max(self._told - self._began, 1e-6)
        left = (self._total - self._done) / rate if rate else 0
        print(
            f"  {self._title}: {self._done:,} of {self._total:,} {self._unit}, "
            f"{rate:,.0f}/s, {duration(left)} left",
            file=self._out,
            flush=True,
        )

    def end(self) -> None:
        seconds = time.monotonic() - self._began
        tokens = f", {self._tokens / max(seconds, 1e-6):,.0f} tokens/s" if self._tokens else ""
        print(
            f"  {self._title}: {self._done:,} {self._unit} in {duration(seconds)}{tokens}",
            file=self._out,
            flush=True,
        )


class Lines:
    def __init__(self, out: TextIO | None = None, every: float = 10.0) -> None:
        self._out = out or sys.stderr
        self._every = every

    def say(self, message: str) -> None:
        print(message, file=self._out, flush=True)

    @contextmanager
    def task(self, title: str, total: int, unit: str) -> Iterator[Task]:
        task = _LineTask(self._out, title, total, unit, self._every)
        yield task
        task.end()


class Bars:
    """Bars on a terminal: how much, how fast, how long still."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    def say(self, message: str) -> None:
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, title: str, total: int, unit: str) -> Iterator[Task]:
        from rich import progress

        columns = (
            progress.TextColumn("  {task.description}"),
            progress.BarColumn(bar_width=24),
            progress.MofNCompleteColumn(),
            progress.TextColumn(unit),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeRemainingColumn(),
        )
        lines = _LineTask(sys.stderr, title, total, unit, float("inf"))
        with progress.Progress(*columns, console=self._console, transient=True) as bars:
            yield _BarTask(bars, bars.add_task(title, total=total, rate=""), lines)
        lines.end()


class _BarTask:
    def __init__(self, bars: "object", bar: int, lines: _LineTask) -> None:
        self._bars, self._bar, self._lines = bars, bar, lines
        self._began = time.monotonic()

    def advance(self, n: int = 1, tokens: int = 0) -> None:
        self._lines.advance(n, tokens)
        self._draw()

    def at(self, n: int, of: int) -> None:
        self._lines.at(n, of)
        self._draw()

    def _draw(self) -> None:
        done, total = self._lines.reached
        rate = done / max(time.monotonic() - self._began, 1e-6)
        self._bars.update(  # type: ignore[attr-defined]
            self._bar, completed=done, total=total, rate=f"{rate:,.0f}/s"
        )


class Silent:
    def say(self, message: str) -> None: ...

    @contextmanager
    def task(self, title: str, total: int, unit: str) -> Iterator[Task]:
        yield _Nothing()


class _Nothing:
    def advance(self, n: int = 1, tokens: int = 0) -> None: ...

    def at(self, n: int, of: int) -> None: ...


def duration(seconds: float) -> str:
    """Seconds as a person reads them: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
