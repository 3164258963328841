"""How a command ends: errors as sentences, exit codes, and Ctrl-C.

Knows no verb. A bug keeps its traceback.
"""

import json
import signal
import sys
from threading import Event
from typing import Any, NoReturn

from factory.errors import FactoryError

INTERRUPTED = 130
"""The exit code after Ctrl-C or a termination."""

interrupted = Event()
"""Set by Ctrl-C or a termination. A library in the middle of its work may turn the exception into
an error of its own, so the exception alone does not tell."""


class Interrupted(BaseException):
    """Ctrl-C or a termination. Typer would turn KeyboardInterrupt into a bare exit."""


def write_rows_before_exit() -> None:
    """On Ctrl-C or a termination, let the run write its finished rows before the process ends."""

    def interrupt(*_: Any) -> NoReturn:
        interrupted.set()
        raise Interrupted

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)


def exit_with(error: FactoryError, *, as_json: bool) -> NoReturn:
    """Print an error and exit with its code."""
    if as_json:
        parts = {"field": error.field, "fault": error.fault, "remedy": error.remedy}
        print(json.dumps({"error": str(error), "exit_code": error.exit_code, **parts}))
    _fail(error.exit_code, str(error))


def exit_interrupted() -> NoReturn:
    """Print how to continue and exit with the code of an interrupted command."""
    _fail(INTERRUPTED, "interrupted: finished rows are saved, run the same command to continue")


def _fail(code: int, message: str) -> NoReturn:
    print(f"factory: {message}", file=sys.stderr)
    sys.exit(code)
