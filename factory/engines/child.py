"""Python child processes that communicate over a socket and write their output to a log file."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from factory.children import ChildProcess, Kind, import_path
from factory.files import open_to_append

PATH = "import sys; sys.path[:] = sys.argv[2:]; "
"""First statement of the child. It sets the child's import path to that of this process, without
the current folder."""


class Child:
    """A Python child process, connected to this process by a socket."""

    def __init__(
        self,
        code: str,
        log: Path,
        environment: Mapping[str, str],
        *,
        kind: Kind,
        path: Sequence[str] = (),
    ) -> None:
        """Start Python with the program `code`, and append its output to the file `log`.

        `sys.argv[1]` of the program is the number of its end of the socket. `environment` is added
        to this process's variables. `path` is added to the child's import path.
        """
        ours, theirs = socket.socketpair()
        number = str(theirs.fileno())
        with ours, theirs, open_to_append(log, "ab") as out:
            self.process = ChildProcess(
                [sys.executable, "-P", "-c", PATH + code, number, *import_path(), *path],
                kind=kind,
                stdout=out,
                stderr=out,
                environment={**os.environ, **environment},
                pass_fds=[theirs.fileno()],
            )
            self.connection = Connection(ours.detach())

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def wait(self, seconds: float) -> None:
        """Wait at most `seconds` seconds for the process to exit."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def kill(self) -> str:
        """Kill the process and all processes that it started, and describe how it ended."""
        code = self.process.kill()
        self.connection.close()
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        return f"the process {how}"
