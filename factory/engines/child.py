"""Python child processes that communicate over a socket and write their output to a log file.

The child runs in its own session, so that Ctrl-C reaches only the factory, and killing the child
also kills all processes that it has started.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

PATH = "import sys; sys.path[:] = sys.argv[2:]; "
"""First statement of the child. It copies this process's import path, so that the child does not
import files from the current folder by accident."""


class Child:
    """A Python child process, connected to this process by a socket."""

    def __init__(
        self, code: str, log: Path, environment: Mapping[str, str], pass_fds: Sequence[int] = ()
    ) -> None:
        """Start Python with the program `code`, and append its output to the file `log`.

        `sys.argv[1]` of the program is the number of its end of the socket. `environment` is added
        to this process's variables.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs, log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PATH + code, str(theirs.fileno()), *sys.path],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=[theirs.fileno(), *pass_fds],
                start_new_session=True,
                env={**os.environ, **environment},
            )
            self.connection = Connection(ours.detach())

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait(self, seconds: float) -> None:
        """Wait at most `seconds` seconds for the process to exit."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def kill(self) -> str:
        """Kill the process and all processes that it started, and describe how it ended."""
        code = self._process.poll()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if code is None:
            code = self._process.wait()
        self.connection.close()
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        return f"the process {how}"
