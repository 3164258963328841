"""Start trainer processes, report their progress, and stop them when this process ends.

The caller provides a folder with the job and data for TRL, or a user's own command.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from factory.children import ChildProcess
from factory.engines import share_cores
from factory.files import open_to_append
from factory.progress import Progress, Task
from factory.train.trl import EVENT

LOG = "train.log"
"""Name of the trainer's log file in the folder of its job."""


@dataclass
class Pace:
    """Time of a trainer's optimizer steps, from the end of its first step to its last one."""

    trained: int = 0
    """Number of measured steps."""
    of: int = 0
    """Number of steps in the whole training."""
    seconds: float = 0.0
    _first: tuple[int, float] | None = None

    def at(self, step: int, of: int) -> None:
        """Record that the trainer has finished a step."""
        now = time.monotonic()
        if self._first is None:
            self._first = step, now
        self.trained, self.of, self.seconds = step - self._first[0], of, now - self._first[1]

    def event(self) -> dict[str, Any]:
        """Return the measured steps as part of an event for a manifest."""
        measured = round(self.seconds, 3)
        return {"trained": self.trained, "of": self.of, "training_seconds": measured}


def run_trainer(
    folder: Path,
    launcher: list[str],
    title: str,
    progress: Progress,
    *kept_open: int,
    pace: Pace | None = None,
) -> str | None:
    """Run the training job in a folder, and return an error message if it fails.

    Returns None on success. `launcher` has the arguments for `accelerate launch`, which starts the
    trainer if there are any. `kept_open` has file descriptors that the trainer inherits. `pace`
    measures the optimizer steps, even if the trainer fails.
    """
    started_by = ["-m", "accelerate.commands.launch", *launcher] if launcher else []
    command = [sys.executable, *started_by, "-m", "factory.train", str(folder)]
    log = folder / LOG
    share_cores()
    with open_to_append(log, "a") as errors, progress.task(title, 1, "steps") as task:
        process = ChildProcess(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            kind="trainer",
            environment={**os.environ, "PYTHONUNBUFFERED": "1"},
            pass_fds=kept_open,
        )
        try:
            with process.stdout as output:
                for line in output:
                    _read_event(line.decode(errors="replace"), errors, task, pace or Pace())
            code = process.wait()
        finally:
            process.kill()
    return _failure("the trainer", code, log)


def _failure(who: str, code: int, log: Path) -> str | None:
    """Return the cause of a process's failure, with the last line of its log, or None on
    success."""
    if code == 0:
        return None
    lines = log.read_text(errors="replace").splitlines()
    last = [line for line in lines if line.strip()][-1:]
    return f"{who} exited with code {code}: {''.join(last)[:300]}"


def run_command(
    command: list[str], folder: Path, log: Path, environment: dict[str, str], *kept_open: int
) -> str | None:
    """Run the user's training command in a folder, and return an error message if it fails.

    Returns None on success. Appends the command's output to `log`. Kills the background processes
    of the command when it ends, and the command itself if this function raises.
    """
    with open_to_append(log, "a") as output:
        process = ChildProcess(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            kind="command",
            environment=environment,
            cwd=folder,
            pass_fds=kept_open,
        )
        try:
            code = process.wait()
        finally:
            process.kill()
    return _failure("train.command", code, log)


def _read_event(line: str, log: IO[str], task: Task, pace: Pace) -> None:
    if not line.startswith(EVENT):
        log.write(line)
        return
    event = json.loads(line.removeprefix(EVENT))
    if "step" in event:
        task.at(event["step"], event["of"])
        pace.at(event["step"], event["of"])
    else:
        log.write(json.dumps(event["log"]) + "\n")
