"""Child processes that never outlive the factory."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

GUARD = Path(__file__).with_name("child_guard.py")

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
        environment: Mapping[str, str],
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start a command, without standard input.

        `environment` has all environment variables of the command. `pass_fds` has file descriptors
        that the command inherits.
        """
        reading, self._lifeline = os.pipe()
        try:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD), str(reading), *command],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment,
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
