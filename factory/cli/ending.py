"""Error messages, exit codes, and Ctrl-C handling for all commands.

An unexpected exception is a bug and keeps its traceback.
"""

import json
import signal
import sys
from threading import Event
from typing import Any, NoReturn

from factory.errors import FactoryError

INTERRUPTED = 130
"""The exit code after Ctrl-C or SIGTERM."""

interrupted = Event()
"""Set after Ctrl-C or SIGTERM. A library may replace `Interrupted` with its own exception, so the
type of an exception does not show whether the user interrupted the command."""


class Interrupted(BaseException):
    """An exception raised on Ctrl-C or SIGTERM. Typer would handle KeyboardInterrupt itself."""


def write_rows_before_exit() -> None:
    """Handle Ctrl-C and SIGTERM so that finished rows are written before the process exits."""

    def interrupt(*_: Any) -> NoReturn:
        interrupted.set()
        raise Interrupted

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)


def exit_with(error: FactoryError, *, as_json: bool) -> NoReturn:
    """Print an error, then exit with the error's exit code."""
    error.name_options()
    if as_json:
        parts = {"field": error.field, "fault": error.fault, "remedy": error.remedy}
        print(json.dumps({"error": str(error), "exit_code": error.exit_code, **parts}))
    _fail(error.exit_code, str(error))


def exit_interrupted() -> NoReturn:
    """Print how to continue, then exit with the exit code for an interrupted command."""
    _fail(INTERRUPTED, "interrupted: finished rows are saved, run the same command to continue")


def _fail(code: int, message: str) -> NoReturn:
    print(f"factory: {message}", file=sys.stderr)
    sys.exit(code)
