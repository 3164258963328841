"""Child processes that never outlive the factory.

Python children do not import modules from the current folder, which may belong to a downloaded
dataset or model. A child gets only the credentials that it needs:

| kind       | runs                                | credentials that it gets            |
| ---------- | ----------------------------------- | ----------------------------------- |
| `engine`   | vLLM or the scripted engine         | the Hub's token, for models that    |
|            |                                     | `engine.arguments` names            |
| `trainer`  | TRL, also under `accelerate launch` | the Hub's token, and keys of the    |
|            |                                     | trackers in `train.dpo.report_to`   |
| `function` | a function that the recipe names    | all: it may call a service          |
| `command`  | `train.command`                     | all: it may log in anywhere         |

Credentials are the variables that `_CREDENTIAL` matches. Other variables are always passed on.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal

GUARD = Path(__file__).with_name("child_guard.py")

Kind = Literal["engine", "trainer", "function", "command"]
"""What a child process runs. It decides which credentials the process gets."""

_CREDENTIAL = re.compile(
    r".*(_TOKEN|_KEY|_KEY_ID|_SECRET|_PASSWORD|_PASSWD|_CREDENTIALS|_PAT|_DSN|_DATABASE_URL)$"
)
"""Names of the environment variables that contain credentials."""

_HUB = r"HF_TOKEN|HUGGING_FACE_HUB_TOKEN"

_ALLOWED: dict[Kind, str] = {
    "engine": _HUB,
    "trainer": rf"{_HUB}|(WANDB|COMET|MLFLOW|NEPTUNE|CLEARML|SWANLAB|TRACKIO)_.*",
    "function": r".*",
    "command": r".*",
}
"""The credentials that each kind of process gets, as a pattern of names."""

_ENDING = 15.0
"""Number of seconds that the guard has to kill all processes. After that, it is killed too."""


class ChildProcess:
    """A command that runs in its own session, so that Ctrl-C reaches only the factory.

    A second process, the guard, starts the command. When this process ends, even by SIGKILL, the
    guard kills the command and the processes that the command started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdout: IO[Any] | int,
        stderr: IO[Any] | int,
        kind: Kind,
        environment: Mapping[str, str],
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start a command, without standard input.

        `environment` has the environment variables of the command. It does not get the credentials
        that its kind does not need. `pass_fds` has file descriptors that the command inherits.
        """
        reading, self._lifeline = os.pipe()
        try:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD), str(reading), *command],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=_environment(environment, kind),
                cwd=cwd,
                pass_fds=[reading, *pass_fds],
                start_new_session=True,
            )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(reading)
        self._open = True

    @property
    def stdout(self) -> IO[bytes]:
        """The command's output, if `stdout` was subprocess.PIPE."""
        assert self._guard.stdout is not None, "stdout is not a pipe"
        return self._guard.stdout

    @property
    def group(self) -> int:
        """ID of the process group of the command, and of the guard itself."""
        return self._guard.pid

    def poll(self) -> int | None:
        """Return the command's exit code, -N if signal N killed it, or None while it runs."""
        return self._guard.poll()

    def wait(self, seconds: float | None = None) -> int:
        """Wait until the command has exited, and return its exit code, or -N for signal N.

        Raises subprocess.TimeoutExpired after `seconds` seconds.
        """
        return self._guard.wait(seconds)

    def kill(self) -> int:
        """Kill the command, if it still runs, and all processes that it started.

        Returns the command's exit code, or -N if signal N killed it.
        """
        if self._open:
            self._open = False
            os.close(self._lifeline)
        with suppress(ProcessLookupError):
            self._guard.send_signal(signal.SIGCONT)  # a stopped guard could not kill anything
        try:
            return self._guard.wait(_ENDING)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._guard.pid, signal.SIGKILL)
            return self._guard.wait()


def _environment(given: Mapping[str, str], kind: Kind) -> dict[str, str]:
    """Return the environment variables that a process of this kind gets."""
    environment = {
        name: value
        for name, value in given.items()
        if not _CREDENTIAL.fullmatch(name.upper()) or re.fullmatch(_ALLOWED[kind], name.upper())
    }
    if kind != "command":
        # An empty part, as in `:/folder`, stands for the current folder.
        parts = environment.get("PYTHONPATH", "").split(os.pathsep)
        path = os.pathsep.join(part for part in parts if part not in ("", "."))
        environment["PYTHONPATH"] = path
    if kind == "trainer":  # for the processes that it starts, too
        environment["PYTHONSAFEPATH"] = "1"
    return environment


def import_path() -> list[str]:
    """Return this process's import path without the current folder.

    The folder of this package stays, even if it is the current folder.
    """
    here, own = Path.cwd(), Path(__file__).resolve().parent.parent
    return [entry for entry in sys.path if here == own or Path(entry).resolve() != here]
