"""The trainer's process: starts it, tells how far it is, and ends it with this one.

What ours does is `train`; what it is given, a folder with a job and its data, is the caller's, as
is the command of a user's own.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

from factory.progress import Progress, Task
from factory.train.trl import EVENT

LOG = "train.log"
"""What the trainer says, in the folder of its job."""


def run_trainer(
    folder: Path, launcher: list[str], title: str, progress: Progress, *kept_open: int
) -> str | None:
    """Runs the job of a folder to its end; how it failed, or None where it did not.

    `launcher` are arguments of `accelerate launch`, where it is to start the trainer, and
    `kept_open` file descriptors that the trainer inherits.
    """
    started_by = ["-m", "accelerate.commands.launch", *launcher] if launcher else []
    command = [sys.executable, *started_by, "-m", "factory.train", str(folder)]
    log = folder / LOG
    with log.open("a") as errors, progress.task(title, 1, "steps") as task:
        # It ends when its standard input closes: no trainer is left behind.
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            pass_fds=kept_open,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as process:
            assert process.stdout is not None, "stdout is a pipe"
            try:
                for line in process.stdout:
                    _read_event(line, errors, task)
            except BaseException:
                process.kill()
                raise
        code = process.returncode
    return _failure("the trainer", code, log)


def _failure(who: str, code: int, log: Path) -> str | None:
    """Return how a process failed, with the last line of its log; None if it succeeded."""
    if code == 0:
        return None
    lines = log.read_text(errors="replace").splitlines()
    last = [line for line in lines if line.strip()][-1:]
    return f"{who} ended with code {code}: {''.join(last)[:300]}"


def run_command(
    command: list[str], folder: Path, log: Path, environment: dict[str, str], *kept_open: int
) -> str | None:
    """Runs a trainer of the user's own in a folder; how it failed, or None where it did not. What
    it says goes to `log`. What it started and left behind is killed when it ends, and it with them
    where this is left."""
    with (
        log.open("a") as output,
        subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=kept_open,
            start_new_session=True,
        ) as process,
    ):
        try:
            code = process.wait()
        finally:  # also what it leaves behind, which would hold the lock and the GPU
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return _failure("train.command", code, log)


def _read_event(line: str, log: IO[str], task: Task) -> None:
    if not line.startswith(EVENT):
        log.write(line)
        return
    event = json.loads(line.removeprefix(EVENT))
    if "step" in event:
        task.at(event["step"], event["of"])
    else:
        log.write(json.dumps(event["log"]) + "\n")
