"""A process that imports everything once, and runs each command of the campaign in a fork.

A fork starts in milliseconds, and a command can break, block, or kill nothing but its own fork.
"""

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

BUG = 70
"""Exit code of a command that ended with an exception other than SystemExit."""

MEMORY = 16 << 30
"""Number of bytes of address space that a command may use."""


@dataclass
class Order:
    """A command to run, or a function of this package to call."""

    arguments: Sequence[str]
    """Arguments of the `factory` command."""
    cwd: str
    output: str
    """Prefix of the two files for the command's output, `.out` and `.err`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    call: str = ""
    """Function to call instead of the command, as `module:function`. It gets the arguments."""
    around: str = ""
    """Context manager in which the command runs, as `module:function`. It gets no arguments."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Resource limits, such as `RLIMIT_NOFILE`."""
    is_fresh: bool = False
    """Whether the command runs in a new Python process instead of a fork, because Python or a
    library reads the environment when it starts."""
    preload: Sequence[str] = ()
    """Modules that the process imports before it forks, because many commands need them."""
    seconds: float = 30
    """Number of seconds after which the command counts as hanging."""


@dataclass
class Ended:
    """How a command ended."""

    code: int | None
    """Exit code, -N if signal N killed the command, or None if it was still running after its time
    limit."""
    out: str
    err: str
    cpu: float = 0.0
    """CPU time in seconds."""


class Forks:
    """A process that runs commands in forks of itself."""

    def __init__(self, folder: Path) -> None:
        """Start the process, which runs a toy recipe in the empty folder `folder`."""
        tests = Path(__file__).parents[1]
        paths = [str(tests), str(tests.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(folder),
            "OMP_NUM_THREADS": "1",
            "POLARS_MAX_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        self.finished = folder / "finished"
        """A folder with the recipe of a toy and its finished lake, to copy."""
        self._environment = environment
        self._process = subprocess.Popen(
            [sys.executable, "-m", "campaign.forks", str(self.finished)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        assert self._process.stdout.readline() == "ready\n"

    def run(self, order: Order) -> Ended:
        """Run a command, and return how it ended."""
        if order.is_fresh:
            return self._run_fresh(order)
        print(json.dumps(asdict(order)), file=self._process.stdin, flush=True)
        code, cpu = json.loads(self._process.stdout.readline())
        return Ended(code, *_output(order), cpu)

    def close(self) -> None:
        self._process.communicate()

    def _run_fresh(self, order: Order) -> Ended:
        with _files(order) as (out, err):
            process = subprocess.Popen(
                [sys.executable, "-m", "factory", *order.arguments],
                cwd=order.cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={
                    name: value
                    for name, value in {**self._environment, **order.environment}.items()
                    if value != UNSET
                },
                preexec_fn=lambda: _limit(order.limits),
                start_new_session=True,
            )
        code, cpu = _wait(process.pid, order.seconds)
        process.returncode = code  # `_wait` has reaped it
        return Ended(code, *_output(order), cpu)


UNSET = "\x00"
"""Value of an environment variable that is removed."""


def _output(order: Order) -> list[str]:
    return [
        Path(f"{order.output}.{end}").read_bytes().decode("utf-8", "backslashreplace")
        for end in ("out", "err")
    ]


@contextlib.contextmanager
def _files(order: Order):
    with (
        Path(f"{order.output}.out").open("wb") as out,
        Path(f"{order.output}.err").open("wb") as err,
    ):
        yield out, err


def _limit(limits: Mapping[str, int]) -> None:
    for name, most in {"RLIMIT_AS": MEMORY, "RLIMIT_CORE": 0, **limits}.items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (most if hard == -1 else min(most, hard), hard))


def _wait(pid: int, seconds: float) -> tuple[int | None, float]:
    """Wait for a process, kill its group, and return its exit code and CPU time."""
    end = time.monotonic() + seconds
    pause, found, is_late = 0.001, 0, False
    while not found:
        found, status, used = os.wait4(pid, os.WNOHANG)
        if not found and time.monotonic() > end:
            is_late = True
            os.killpg(pid, signal.SIGKILL)
            found, status, used = os.wait4(pid, 0)
        elif not found:
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    code = None if is_late else os.waitstatus_to_exitcode(status)
    return code, round(used.ru_utime + used.ru_stime, 3)


def _named(name: str):
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def _work(order: Order) -> None:
    """Run a command in this process, and end the process."""
    code = 0
    try:
        os.setpgid(0, 0)
        with _files(order) as (out, err):
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8")
        sys.stderr = io.TextIOWrapper(
            io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", line_buffering=True
        )
        os.chdir(order.cwd)
        for name, value in order.environment.items():
            os.environ.pop(name, None) if value == UNSET else os.environ.update({name: value})
        tempfile.tempdir = None
        _limit(order.limits)
        sys.argv = ["factory", *order.arguments]
        with _named(order.around)() if order.around else contextlib.nullcontext():
            if order.call:
                _named(order.call)(*order.arguments)
            else:
                _named("factory.cli:main")()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = BUG
    with contextlib.suppress(BaseException):
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _one_thread() -> None:
    """Give each database one thread, as tests/conftest.py does."""
    import duckdb

    from factory.lake import database

    database.connect = lambda **options: duckdb.connect(config={"threads": 1}, **options)


def _warm_up(folder: Path) -> None:
    """Run a toy recipe, so that everything is imported, and keep its lake."""
    from campaign.case import small_toy

    from factory.cli import main

    toy = small_toy(folder)
    lake = ["--lake", str(toy.lake)]
    for command in (
        ["plan", str(toy.path), *lake],
        ["run", str(toy.path), *lake],
        ["status", str(toy.path), *lake],
        ["sql", str(toy.path), "from pairs", *lake],
        ["verify", *lake],
    ):
        sys.argv = ["factory", *command]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            main()


def _serve() -> None:
    """Read orders from standard input, and write how they ended to standard output."""
    _one_thread()
    handlers = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}
    _warm_up(Path(sys.argv[1]))
    for kind, handler in handlers.items():
        signal.signal(kind, handler)
    print("ready", flush=True)
    for line in sys.stdin:
        order = Order(**json.loads(line))
        for name in order.preload:
            importlib.import_module(name)
        gc.freeze()
        pid = os.fork()
        if pid == 0:
            _work(order)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        print(json.dumps(_wait(pid, order.seconds)), flush=True)


if __name__ == "__main__":
    _serve()
