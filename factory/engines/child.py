"""A Python process that is connected with this one by a socket, and writes what it says to a log.

Knows nothing of what is sent. The process is a session of its own: Ctrl-C is the factory's, and a
kill reaches all that the process has started.
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
"""Imports what this process would, and not what happens to lie in the current folder."""


class Child:
    def __init__(
        self, code: str, log: Path, environment: Mapping[str, str], pass_fds: Sequence[int] = ()
    ) -> None:
        """Starts Python on `code`, which finds the number of its end of the socket in
        `sys.argv[1]`; `environment` is beside this process's own."""
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
        """Waits until it has ended by itself, so long at most."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def kill(self) -> str:
        """Ends it and what it has started, at once; how it ended."""
        code = self._process.poll()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if code is None:
            code = self._process.wait()
        self.connection.close()
        return f"it was killed by signal {-code}" if code < 0 else f"it ended with code {code}"
