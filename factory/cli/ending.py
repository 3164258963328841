"""Error messages, exit codes, and Ctrl-C handling for all commands.

An unexpected exception is a bug and keeps its traceback.
"""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event
from types import TracebackType
from typing import Any, NoReturn

from factory.errors import FactoryError, WorkError
from factory.texts import say, say_json

_MANY_FILES = 65_536
"""Number of files that is enough for every lake."""

INTERRUPTED = 130
"""The exit code after Ctrl-C or SIGTERM."""

interrupted = Event()
"""Set after Ctrl-C or SIGTERM. A library may replace `Interrupted` with its own exception, so the
type of an exception does not show whether the user interrupted the command."""


class Interrupted(BaseException):
    """An exception raised on Ctrl-C or SIGTERM. Typer would handle KeyboardInterrupt itself."""


def write_rows_before_exit() -> None:
    """Handle Ctrl-C and SIGTERM so that finished rows are written before the process exits.

    After the first signal, further ones are ignored, because they would interrupt this writing.
    """

    def interrupt(*_: Any) -> NoReturn:
        for number in (signal.SIGINT, signal.SIGTERM):  # some launchers send a signal twice
            signal.signal(number, signal.SIG_IGN)
        interrupted.set()
        raise Interrupted

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)


_MACHINE = {
    errno.EMFILE: ("too many files are open", "raise the limit, for example with `ulimit -n 4096`"),
    errno.ENFILE: ("too many files are open on this machine", "end other programs"),
    errno.ENOSPC: ("the disk is full", "free some disk space"),
    errno.EDQUOT: ("the disk quota is used up", "free some disk space"),
    errno.EROFS: ("the file system is read-only", "use another folder"),
    errno.EIO: ("the disk reported an input/output error", "check the disk"),
}
"""Faults of the machine that any access to a file can meet, with their remedies."""


@contextmanager
def machine_errors() -> Iterator[None]:
    """Raise WorkError instead of an exception that reports a fault of the machine.

    DuckDB and Arrow report it only in the text of their own exceptions.
    """
    try:
        yield
    except FactoryError:
        raise
    except Exception as error:
        code = getattr(error, "errno", None)
        for number, (fault, remedy) in _MACHINE.items():
            if code == number or (code is None and os.strerror(number) in str(error)):
                place = str(getattr(error, "filename", None) or "this machine")
                remedy = f"{remedy}, then run the same command again (finished rows are saved)"
                raise WorkError(place, fault, remedy) from error
        raise


def allow_many_files() -> None:
    """Raise the number of files that this process may open, if the system allows it."""
    import resource

    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(now, min(most, _MANY_FILES)), most))


def exit_with(error: FactoryError, *, as_json: bool) -> NoReturn:
    """Print an error, then exit with the error's exit code."""
    error.name_options()
    if as_json:
        parts = {"field": error.field, "fault": error.fault, "remedy": error.remedy}
        say_json({"error": str(error), "exit_code": error.exit_code, **parts}, indent=None)
    _fail(error.exit_code, str(error))


def exit_interrupted() -> NoReturn:
    """Print how to continue, then exit with the exit code for an interrupted command."""
    _fail(INTERRUPTED, "interrupted: finished rows are saved, run the same command to continue")


def say_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print the traceback of an exception that is a bug."""
    say("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"), error=True)


def _fail(code: int, message: str) -> NoReturn:
    say(f"factory: {message}", error=True)
    sys.exit(code)
