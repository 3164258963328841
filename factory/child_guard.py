"""Run a command, and end it and all processes that it started when the factory ends.

`factory.children` starts this program as `python -I -S child_guard.py DESCRIPTOR COMMAND...`.
DESCRIPTOR is the reading end of a pipe. The factory holds its writing end, so the pipe closes when
the factory exits or is killed, even with SIGKILL. The program then kills the command and the
processes that the command started. When the command exits first, the program kills what the command
left behind, and exits with the command's code or signal.

The program imports little, because it starts with each child process.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from typing import NoReturn

PR_SET_CHILD_SUBREAPER = 36
"""Option of Linux's prctl(2) that makes orphaned descendants children of this process."""


def main() -> NoReturn:
    lifeline, command = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(lifeline, False)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        started = os.posix_spawnp(command[0], command, os.environ)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)

    def reap(*_: object) -> None:
        """Collect the exit codes of processes that have ended, and exit if the command has."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == started:
                _kill_others()
                _exit_like(os.waitstatus_to_exitcode(status))
            if pid == 0:
                return

    def stop(*_: object) -> NoReturn:
        _kill_others()
        _exit_like(-signal.SIGKILL)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGCHLD, reap)
    reap()  # the command may have exited before the handler was set
    while os.read(lifeline, 1):
        pass
    stop()


def _exit_like(code: int) -> NoReturn:
    """Exit with the code of a process, or by its signal if the code is negative."""
    sys.stderr.flush()
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


def _kill_others() -> None:
    """Kill all descendants of this process, and all processes of its group except itself.

    Returns when none of them runs any more, or after 10 seconds.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel collects the exit codes
    until = time.monotonic() + 10
    while (found := _others()) and time.monotonic() < until:
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):  # it has ended, or used sudo
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _others() -> list[int]:
    """Return the running descendants of this process and the members of its process group."""
    processes = _linux_processes() if os.path.isdir("/proc/self") else _posix_processes()
    family, group = {os.getpid()}, os.getpgid(0)
    grown = True
    while grown:
        more = {pid for pid, (parent, of) in processes.items() if parent in family or of == group}
        grown = not more <= family
        family |= more
    return sorted(family - {os.getpid()})


def _linux_processes() -> dict[int, tuple[int, int]]:
    """Read the parent and the process group of each running process from Linux's /proc."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent, group = file.read().rpartition(b")")[2].split()[:3]
            except OSError:  # it has ended
                continue
            if state not in b"ZX":
                found[int(name)] = int(parent), int(group)
    return found


def _posix_processes() -> dict[int, tuple[int, int]]:
    """Get the parent and the process group of each running process from the command ps."""
    reading, writing = os.pipe()
    output = [(os.POSIX_SPAWN_DUP2, writing, 1)]
    ps = os.posix_spawnp("ps", ["ps", "-Ao", "pid=,ppid=,pgid="], os.environ, file_actions=output)
    os.close(writing)
    with open(reading) as listed:
        rows = [[int(number) for number in line.split()] for line in listed]
    return {pid: (parent, group) for pid, parent, group in rows if pid != ps}


if __name__ == "__main__":
    main()
