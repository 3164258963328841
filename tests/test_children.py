"""Child processes end with the factory, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from factory.children import ChildProcess, _environment
from factory.engines.child import Child
from factory.progress import Silent
from factory.train.process import run_trainer

FAMILY = """
import os, subprocess, sys, time
from pathlib import Path

def note(name):
    Path(name).write_text(str(os.getpid()))

note("command")
code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", code, "child"])
if os.fork() == 0:  # a daemon: a process of its own session, whose parent has exited
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", code, "stranger"])
    os._exit(0)
while not all(Path(name).exists() for name in ("child", "stranger")):
    time.sleep(0.01)
Path("all").touch()
{end}
"""
"""A command that starts a child and a daemon. Each process writes its ID into a file."""

FACTORY = """
import os, sys, time
from pathlib import Path
from factory.children import ChildProcess
child = ChildProcess([sys.executable, "-c", Path("family.py").read_text()], stdout=1, stderr=2,
                     kind="command", environment=os.environ)
time.sleep(600)
"""


def running(folder: Path) -> list[str]:
    """Return the names of the processes that still run."""
    found = []
    for name in ("command", "child", "stranger"):
        stat = Path(f"/proc/{(folder / name).read_text()}/stat")
        if stat.exists() and stat.read_bytes().rpartition(b")")[2].split()[0] != b"Z":
            found.append(name)
    return found


def wait_for(condition, seconds=20):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.02)


def start(folder: Path, end: str) -> ChildProcess:
    return ChildProcess(
        [sys.executable, "-c", FAMILY.replace("{end}", end)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        kind="command",
        environment=os.environ,
        cwd=folder,
    )


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_all_end_within_seconds_when_the_factory_is_killed(tmp_path, how):
    (tmp_path / "family.py").write_text(FAMILY.replace("{end}", "time.sleep(600)"))
    root = str(Path(__file__).parents[1])
    factory = subprocess.Popen(
        [sys.executable, "-c", FACTORY],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        stderr=subprocess.DEVNULL,
    )
    wait_for((tmp_path / "all").exists)
    assert running(tmp_path) == ["command", "child", "stranger"]
    factory.send_signal(how)
    factory.wait(10)
    wait_for(lambda: running(tmp_path) == [], seconds=5)


@linux
@pytest.mark.parametrize(
    "end", ["sys.exit(0)", "sys.exit(3)", "os.kill(os.getpid(), 9)", "os.abort()"]
)
def test_what_a_command_leaves_behind_ends_with_it(tmp_path, end):
    process = start(tmp_path, end)
    expected = {"sys.exit(0)": 0, "sys.exit(3)": 3, "os.abort()": -signal.SIGABRT}
    assert process.wait(20) == expected.get(end, -signal.SIGKILL)
    assert running(tmp_path) == []
    assert process.kill() == expected.get(end, -signal.SIGKILL)


@linux
@pytest.mark.parametrize("stopped", [False, True])
def test_kill_ends_all_even_if_they_are_stopped(tmp_path, stopped):
    process = start(tmp_path, "time.sleep(600)")
    wait_for((tmp_path / "all").exists)
    assert process.poll() is None
    if stopped:
        os.killpg(process.group, signal.SIGSTOP)
    began = time.monotonic()
    assert process.kill() == -signal.SIGKILL
    assert time.monotonic() - began < 5
    assert running(tmp_path) == []


def test_a_program_that_does_not_exist_fails_like_in_a_shell(tmp_path):
    log = tmp_path / "log"
    with log.open("w") as output:
        process = ChildProcess(
            ["no-such-program"],
            stdout=output,
            stderr=output,
            kind="command",
            environment=os.environ,
        )
    assert process.wait(20) == 127
    assert log.read_text() == "no-such-program: No such file or directory\n"


def test_the_command_inherits_only_the_descriptors_it_is_given(tmp_path):
    listing = "import os; print(*[fd for fd in range(3, 50) if os.path.exists(f'/dev/fd/{fd}')])"
    given = os.open(tmp_path, os.O_RDONLY)
    other = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(other, True)
    process = ChildProcess(
        [sys.executable, "-c", listing],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        kind="command",
        environment=os.environ,
        pass_fds=[given],
    )
    with process.stdout as output:
        found = {int(number) for number in output.read().split()}
    assert process.wait(20) == 0
    os.close(given)
    os.close(other)
    assert given in found
    assert other not in found


# what a child may import and know

TRAPS = "datasets torch json socket signal multiprocessing sitecustomize usercustomize".split()

LOOK = """
import importlib.util, json, multiprocessing, os, signal, socket, sys
if __name__ == "__main__":
    spawned = multiprocessing.get_context("spawn").Process(target=os.getpid)
    spawned.start()
    spawned.join()
    assert spawned.exitcode == 0
    for name in sys.argv[-1].split():
        spec = importlib.util.find_spec(name)
        assert spec is None or not (spec.origin or "").startswith(os.getcwd()), name
"""


@pytest.fixture
def traps(tmp_path, monkeypatch):
    """Go to a folder of modules that leave a file when they are imported."""
    for name in TRAPS:
        trap = f"from pathlib import Path; (Path(__file__).parent / 'sprung-{name}').touch()"
        (tmp_path / f"{name}.py").write_text(trap)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep + str(Path(__file__).parents[1]))
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    yield tmp_path
    assert not list(tmp_path.glob("sprung-*"))


@pytest.mark.parametrize("kind", ["engine", "function"])
def test_a_worker_imports_nothing_from_the_current_folder(traps, kind):
    # A function's module may be in the current folder, which then comes last.
    path = [str(traps)] if kind == "function" else []
    names = [name for name in TRAPS if not path or not name.endswith("customize")]
    code = f"import sys; sys.argv.append({' '.join(names)!r})\n{LOOK}"
    child = Child(code, traps / "log", {}, kind=kind, path=path)
    child.wait(30)
    assert child.kill() == "the process exited with code 0", (traps / "log").read_text()


def test_the_trainer_imports_nothing_from_the_current_folder(traps):
    (traps / "job").mkdir()
    failure = run_trainer(traps / "job", [], "training", Silent())
    assert failure is not None
    assert "job.json" in failure


@pytest.mark.slow
def test_accelerate_imports_nothing_from_the_current_folder(traps):
    (traps / "job").mkdir()
    run_trainer(traps / "job", ["--cpu", "--num_processes", "1"], "t", Silent())
    assert "job.json" in (traps / "job" / "train.log").read_text()


CREDENTIALS = [
    *("HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY"),
    *("AWS_ACCESS_KEY_ID", "DB_PASSWORD", "SOME_CLIENT_SECRET"),
]


@pytest.mark.parametrize(
    ("kind", "gets"),
    [
        ("engine", ["HF_TOKEN"]),
        ("trainer", ["HF_TOKEN", "WANDB_API_KEY"]),
        ("function", CREDENTIALS),
        ("command", CREDENTIALS),
    ],
)
def test_a_child_gets_only_the_credentials_that_it_needs(kind, gets):
    others = {"PATH": "/bin", "TOKENIZERS_PARALLELISM": "false", "AWS_REGION": "x", "HOME": "/"}
    environment = _environment({**others, **dict.fromkeys(CREDENTIALS, "x")}, kind)
    assert {*environment} - {"PYTHONPATH", "PYTHONSAFEPATH"} == {*others, *gets}
