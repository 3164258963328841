"""Progress messages and progress bars for long-running work.

Code that works for a long time takes a `Progress`. `Lines` writes plain lines, `Bars` draws bars on
a terminal, `NotebookBars` draws them in a Jupyter notebook, and `Silent` shows nothing.
"""

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO

from factory.texts import display_html, display_text, is_terminal, say


class Task(Protocol):
    """A long-running task whose progress is shown to the user."""

    def advance(self, n: int = 1, tokens: int = 0) -> None:
        """Record that `n` more units are finished, and how many tokens they took."""
        ...

    def at(self, n: int, of: int) -> None:
        """Set how many units are finished, and how many there are in total."""
        ...


class Progress(Protocol):
    """Interface for showing messages and task progress to the user."""

    def say(self, message: str) -> None:
        """Show a message to the user."""
        ...

    def task(self, title: str, total: int, unit: str) -> AbstractContextManager[Task]:
        """Show the progress of a task for the duration of a `with` block."""
        ...


class Meter:
    """Counter that measures the rate of a task and estimates the time remaining.

    The rate counts from the first result, because starting an engine takes minutes and says nothing
    about its speed. The time remaining is unknown until 10 more units or 5% of the total are
    finished.
    """

    def __init__(self, total: int) -> None:
        self.done, self.total, self.tokens = 0, total, 0
        self._began = time.monotonic()
        self._first: tuple[float, int] | None = None

    def advance(self, n: int = 1, tokens: int = 0) -> None:
        self.done += n
        self.tokens += tokens
        if self._first is None and self.done > 0:
            self._first = time.monotonic(), self.done

    def at(self, n: int, of: int) -> None:
        self.total = of
        self.advance(n - self.done)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def rate(self) -> float | None:
        """The task's rate in units per second, or None before the second result arrives."""
        if self._first is None or self.done <= self._first[1]:
            return None
        at, done = self._first
        return (self.done - done) / max(time.monotonic() - at, 1e-6)

    @property
    def seconds_left(self) -> float | None:
        """Estimated number of seconds left, or None if it is too early to tell."""
        if self._first is None or (rate := self.rate) is None:
            return None
        if self.done - self._first[1] < min(10, 0.05 * self.total):
            return None
        return (self.total - self.done) / rate

    def describe(self, unit: str) -> str:
        """Describe the task's state in one line, as in `120 of 400 answers, 3.1/s, 1 min 30 s
        left`."""
        parts = [f"{self.done:,} of {self.total:,} {unit}"]
        if (rate := self.rate) is not None:
            parts.append(f"{format_rate(rate)}/s")
        if (left := self.seconds_left) is not None:
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)

    def summarize(self, unit: str) -> str:
        """Describe the finished task in one line, as in `400 answers in 2 min 10 s, 812
        tokens/s`."""
        seconds = self.seconds
        rate = self.tokens / max(seconds, 1e-6)
        tokens = f", {format_rate(rate)} tokens/s" if self.tokens else ""
        unit = unit.removesuffix("s") if self.done == 1 else unit
        return f"{self.done:,} {unit} in {duration(seconds)}{tokens}"


class _MeteredTask:
    """Count the units of a task, and draw its state after each change."""

    def __init__(
        self, title: str, total: int, unit: str, draw: Callable[["_MeteredTask"], None]
    ) -> None:
        self.meter = Meter(total)
        self._title, self._unit, self._draw = display_text(title), unit, draw

    def advance(self, n: int = 1, tokens: int = 0) -> None:
        self.meter.advance(n, tokens)
        self._draw(self)

    def at(self, n: int, of: int) -> None:
        self.meter.at(n, of)
        self._draw(self)

    @property
    def state(self) -> str:
        return f"{self._title}: {self.meter.describe(self._unit)}"

    @property
    def summary(self) -> str:
        return f"{self._title}: {self.meter.summarize(self._unit)}"


class Lines:
    """Progress display that prints plain text instead of drawing bars.

    It prints a line about a running task every few seconds.
    """

    def __init__(self, out: TextIO | None = None, every: float = 10.0) -> None:
        """`every` is the number of seconds between two lines about a task."""
        self._out = out
        self._every = every

    def say(self, message: str) -> None:
        say(message, error=True, out=self._out)

    @contextmanager
    def task(self, title: str, total: int, unit: str) -> Iterator[Task]:
        def write(task: _MeteredTask) -> None:
            self.say(f"  {task.state}")

        task = _MeteredTask(title, total, unit, _at_most_every(self._every, write))
        yield task
        self.say(f"  {task.summary}")


class Bars:
    """Progress display that draws one bar per task on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    def say(self, message: str) -> None:
        shown = display_text(message)
        self._console.print(shown, markup=False, highlight=False, emoji=False, soft_wrap=True)

    @contextmanager
    def task(self, title: str, total: int, unit: str) -> Iterator[Task]:
        from rich import progress

        columns = (
            progress.BarColumn(bar_width=24),
            progress.TextColumn("{task.description}", markup=False),
        )
        with progress.Progress(*columns, console=self._console, transient=True) as bars:
            bar = bars.add_task(display_text(title), total=total)

            def draw(task: _MeteredTask) -> None:
                done, of = task.meter.done, task.meter.total
                bars.update(bar, completed=done, total=of, description=task.state)

            task = _MeteredTask(title, total, unit, draw)
            yield task
        self.say(f"  {task.summary}")


class NotebookBars:
    """Progress display that draws one bar per task in a Jupyter notebook.

    It needs no widgets: the bar is HTML, and the notebook replaces it as the work goes on.
    """

    def __init__(self) -> None:
        # Packages that draw bars with tqdm would ask the user to install widgets.
        warnings.filterwarnings("ignore", "IProgress not found")

    def say(self, message: str) -> None:
        say(message)

    @contextmanager
    def task(self, title: str, total: int, unit: str) -> Iterator[Task]:
        from IPython.display import HTML, Pretty, display

        shown = display(HTML(display_html(title)), display_id=True)

        def draw(task: _MeteredTask) -> None:
            done, of = task.meter.done, max(task.meter.total, 1)
            bar = f'<progress value="{done}" max="{of}"></progress>'
            shown.update(HTML(f"{bar} {display_html(task.state)}"))

        task = _MeteredTask(title, total, unit, _at_most_every(0.2, draw))
        yield task
        shown.update(Pretty(task.summary))


def _at_most_every(
    seconds: float, draw: Callable[["_MeteredTask"], None]
) -> Callable[["_MeteredTask"], None]:
    last = time.monotonic()

    def throttled(task: _MeteredTask) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            draw(task)

    return throttled


class Silent:
    """Progress display that shows nothing."""

    def say(self, message: str) -> None: ...

    @contextmanager
    def task(self, title: str, total: int, unit: str) -> Iterator[Task]:
        yield _SilentTask()


class _SilentTask:
    def advance(self, n: int = 1, tokens: int = 0) -> None: ...

    def at(self, n: int, of: int) -> None: ...


def open_progress(show: bool | None = None) -> Progress:
    """Return the progress display for the current terminal or notebook.

    None draws bars in a notebook or on a terminal, and shows nothing elsewhere. True writes plain
    lines where bars cannot be drawn. False shows nothing.
    """
    if show is False:
        return Silent()
    if _is_notebook():
        return NotebookBars()
    if is_terminal(error=True):
        return Bars()
    return Lines() if show else Silent()


def _is_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")


def format_rate(rate: float) -> str:
    """Format a rate for display, for example as `1,240`, `3.1`, or `0.02`."""
    if rate >= 9.95:
        return f"{rate:,.0f}"
    return f"{rate:.1f}" if rate >= 0.095 else f"{rate:.1g}"


def duration(seconds: float) -> str:
    """Format a number of seconds for display, for example as `12 s` or `3 min 05 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
