"""Tests of functions as judges: scores, errors, and isolation from the run."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from factory import function_worker
from factory.engines import Request, function
from factory.errors import EngineError, FunctionError, StepFailed
from factory.functions import find_function
from factory.recipe import Generation


def row(place):
    return Request(
        f"r{place}",
        [{"role": "user", "content": "Q"}, {"role": "assistant", "content": f"answer {place}"}],
        (0,),
        0,
        Generation(),
        None,
        context={"reference": str(place), "criteria": None, "meta": {}},
    )


def valued(tmp_path, source, n=3, timeout=60.0):
    """Return the results of a function for n answers, in order."""
    (tmp_path / "judge.py").write_text(source)
    found = find_function("judge.py:grade", tmp_path)
    with function.open_engine(found, timeout, tmp_path / "logs") as engine:
        results = list(engine.generate(row(place) for place in range(n)))
    assert [result.request_id for result in results] == [f"r{place}" for place in range(n)]
    return results


def test_a_function_judge_sees_the_answer_and_its_reference(tmp_path):
    source = (
        "def grade(rows):\n    return [row['answer'].endswith(row['reference']) for row in rows]\n"
    )
    assert [result.value for result in valued(tmp_path, source)] == [1.0, 1.0, 1.0]


def test_a_function_that_raises_fails_only_the_row_at_fault(tmp_path):
    source = "def grade(rows):\n    return [1 / int(row['reference']) for row in rows]\n"
    results = valued(tmp_path, source)
    assert [result.value for result in results] == [None, 1.0, 0.5]
    assert results[0].error == "the function raised ZeroDivisionError: division by zero"
    assert results[0].error_kind == "permanent"


def test_what_the_machine_lacks_fails_for_now(tmp_path):
    (result,) = valued(tmp_path, "def grade(rows):\n    open('/no/such/file')\n", n=1)
    assert result.error_kind == "transient"
    assert "FileNotFoundError" in result.error


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ("[]", "returned 0 values for 1 rows"),
        ("[1, 2]", "returned more than 1 values for 1 rows"),
        ("['good']", "must return a number or None, but it returned a str"),
        ("[open]", "but it returned a builtin_function_or_method"),
        ("[10 ** 400]", "returned a int that no float can hold"),
        ("None", "raised TypeError"),
        ("{1.0: 'a'}", "must return a list of numbers, but it returned a dict"),
        ("{1.0}", "must return a list of numbers, but it returned a set"),
        ("b'1'", "must return a list of numbers, but it returned a bytes"),
        ("iter(int, 1)", "returned more than 1 values for 1 rows"),
        ("[type('F', (float,), {'__float__': lambda self: 1 / 0})()]", "raised ZeroDivisionError"),
    ],
)
def test_a_function_that_returns_something_else_is_no_score(tmp_path, returned, reason):
    (result,) = valued(tmp_path, f"def grade(rows):\n    return {returned}\n", n=1)
    assert result.value is None
    assert reason in result.error
    assert result.error_kind == "permanent"


def test_a_function_may_say_that_it_has_no_score(tmp_path):
    (result,) = valued(tmp_path, "def grade(rows):\n    return [None]\n", n=1)
    assert (result.value, result.error) == (None, None)


NUMBERED = "def grade(rows):\n    return [float(row['reference']) for row in rows]\n"
FORKS = {
    "at import": f"import os\nos.fork()\n{NUMBERED}",
    "in a call": NUMBERED.replace("return", "__import__('os').fork()\n    return"),
}


@pytest.mark.parametrize("when", FORKS)
def test_the_replies_of_a_forked_process_never_count_for_other_rows(tmp_path, when):
    assert [result.value for result in valued(tmp_path, FORKS[when], n=9)] == [
        *map(float, range(9))
    ]


WRITES = "import os, sys\ndef grade(rows):\n    os.write(int(sys.argv[1]), {!r})\n    return [1]\n"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"\x7f\xff\xff\xff", "took longer than 0.5 s"),  # announces 2 GiB that never come
        (b"\0\0\0\5hello", "wrote to the file descriptors of its process"),
        (b"\0\0\0\4N\x85\x94.", "wrote to the file descriptors of its process"),
    ],
)
def test_a_function_that_writes_to_its_connection_fails_only_its_row(tmp_path, sent, reason):
    (result,) = valued(tmp_path, WRITES.format(sent), n=1, timeout=0.5)
    assert reason in result.error


# `answer 9` is in the fourth batch; `answer 0` is alone in the first.
AT_FAULT = """
import os, re, sys, time
def fault():
    {fault}
def grade(rows):
    for row in rows:
        if row['answer'] in ('answer 0', 'answer 9'):
            fault()
    return [float(row['reference']) for row in rows]
"""


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param(
            "time.sleep(1000)", "the function took longer than 1 s", marks=pytest.mark.slow
        ),
        # This expression holds the GIL, so that no other thread of the process runs.
        ("re.match('(a+)+$', 'a' * 64 + 'b')", "the function took longer than 1 s"),
        ("os._exit(7)", "the function crashed: the process exited with code 7"),
        ("sys.exit(3)", "the function raised SystemExit: 3"),
        ("os.abort()", f"the function crashed: the process was killed by signal {signal.SIGABRT}"),
    ],
)
def test_a_function_that_hangs_or_dies_fails_only_the_row_at_fault(tmp_path, fault, reason):
    results = valued(tmp_path, AT_FAULT.format(fault=fault), n=20, timeout=1.0)
    failed = {result.request_id: result.error for result in results if result.error is not None}
    assert failed == {"r0": reason, "r9": reason}
    assert {result.error_kind for result in results if result.error} == {"permanent"}
    assert [result.value for result in results if result.error is None] == [
        float(place) for place in range(20) if place not in (0, 9)
    ]


def test_a_process_that_the_function_left_behind_does_not_hide_its_death(tmp_path):
    fault = "os.fork() and os._exit(7); time.sleep(1000)"
    began = time.monotonic()
    results = valued(tmp_path, AT_FAULT.format(fault=fault), n=1)
    assert "exited with code 7" in results[0].error
    assert time.monotonic() - began < 30


def test_a_function_that_is_slow_and_no_more_is_given_smaller_batches(tmp_path):
    source = (
        "import time\nsizes = []\n"
        "def grade(rows):\n    sizes.append(len(rows))\n    time.sleep(0.05 * len(rows))\n"
        "    return [max(sizes)] * len(rows)\n"
    )
    results = valued(tmp_path, source, n=30, timeout=1.0)
    assert all(result.error is None for result in results)
    assert 2 <= max(result.value for result in results) <= 8  # 8 rows are 0.4 s


def test_a_function_that_is_quick_is_given_all_that_a_batch_holds(tmp_path):
    source = "def grade(rows):\n    return [len(rows)] * len(rows)\n"
    sizes = [result.value for result in valued(tmp_path, source, n=1023)]
    assert sizes[:3] == [1, 2, 2]
    assert max(sizes) == function.BATCH


def test_a_function_that_works_for_no_row_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(function, "MOST_FRUITLESS", 2)
    with pytest.raises(EngineError, match=r"failed on 3 consecutive rows .*code 7"):
        valued(tmp_path, "import os\ndef grade(rows):\n    os._exit(7)\n", n=10)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("1 / 0\n", "judge.py cannot be imported: ZeroDivisionError"),
        ("exit(3)\n", "judge.py cannot be imported: SystemExit: 3"),
        ("import os\nos._exit(7)\n", "cannot be imported \\(crashed: .* code 7"),
        ("import time\ntime.sleep(1000)\n", "cannot be imported \\(took longer than 0.5"),
        ("del grade\n", "judge.py has no such function"),
    ],
)
def test_a_file_that_cannot_be_imported_is_a_sentence(tmp_path, monkeypatch, source, reason):
    monkeypatch.setattr(function, "IMPORTING", 0.5 if "sleep" in source else 60.0)
    with pytest.raises(FunctionError, match=reason):
        valued(tmp_path, f"def grade(rows): return rows\n{source}")


def test_what_a_function_prints_is_in_a_log_and_not_in_the_run_s_output(tmp_path, capfd):
    source = (
        "import os, sys\n"
        "def grade(rows):\n"
        "    print('said', file=sys.stderr)\n    os.system('echo shouted')\n"
        "    return [len(sys.stdin.read())] * len(rows)\n"
    )
    assert [result.value for result in valued(tmp_path, source)] == [0.0, 0.0, 0.0]
    assert capfd.readouterr() == ("", "")
    (log,) = (tmp_path / "logs").iterdir()
    assert "said" in log.read_text()
    assert "shouted" in log.read_text()


def test_a_function_that_says_nothing_leaves_nothing_behind(tmp_path):
    source = (
        "import atexit, os, pathlib\n"
        f"atexit.register(pathlib.Path({str(tmp_path / 'ended')!r}).touch)\n"
        "def grade(rows):\n    return [os.getpid()] * len(rows)\n"
    )
    results = valued(tmp_path, source)
    (pid,) = {int(result.value) for result in results}
    assert pid != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert (tmp_path / "ended").exists()  # atexit ran, so the process was not killed
    assert not list((tmp_path / "logs").iterdir())


def gone(pid):
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_killed_run_takes_the_function_s_process_with_it(tmp_path):
    source = AT_FAULT.format(
        fault="open('pid', 'w').write(str(os.getpid())); re.match('(a+)+$', 'a' * 64 + 'b')"
    )
    (tmp_path / "judge.py").write_text(source)
    run = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from pathlib import Path\nfrom test_function import function, find_function, row\n"
        "found = find_function('judge.py:grade', Path.cwd())\n"
        "with function.open_engine(found, 600.0, Path('logs')) as engine:\n"
        "    list(engine.generate([row(0)]))\n"
    )
    here = str(Path(__file__).parent)
    with subprocess.Popen([sys.executable, "-c", run, here], cwd=tmp_path) as parent:
        pid = tmp_path / "pid"
        until = time.monotonic() + 60
        while not (pid.exists() and pid.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        parent.kill()
    while not gone(pid.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    assert gone(pid.read_text())


HANGS = """
import time
def grade(rows):
    if any(row['reference'] in ({names}) for row in rows):
        time.sleep(1000)
    return [float(sum(map(ord, row['answer'])) % 97) for row in rows]
"""


@pytest.mark.slow
def test_a_row_that_hangs_is_a_row_with_a_reason_and_is_not_asked_again(toy):
    (toy.folder / "gold.py").write_text(HANGS.format(names="'3',"))
    toy.write(
        judge={"function": "gold.py:grade", "timeout": 1},
        loop={"policy": "self_rewarding", "iterations": 1},
        max_failed=0.2,
        sampling={"draws": 2},
    )
    toy.run()
    rows = toy.query("select error, value from judgments where error is not null or value is null")
    assert rows == [{"error": "the function took longer than 1 s", "value": None}] * 2
    held = toy.shards("judgments")
    assert toy.to_do("judge.timeout=600") == set()
    began = time.monotonic()
    toy.run("judge.timeout=600")
    assert time.monotonic() - began < 60
    assert toy.shards("judgments") == held


@pytest.mark.slow
def test_rows_that_all_hang_stop_the_run_as_soon_as_too_many_have(toy):
    (toy.folder / "gold.py").write_text("import time\ndef grade(rows):\n    time.sleep(1000)\n")
    toy.write(judge={"function": "gold.py:grade", "timeout": 1}, max_failed=0.1)
    with pytest.raises(
        StepFailed, match=r"2 of \d+ requests failed, but max_failed.*took longer than 1 s"
    ):
        toy.run()
    assert len(toy.shards("judgments")) == 1  # finished rows are kept


@pytest.mark.slow
def test_the_probe_s_function_has_a_limit_of_its_own(toy):
    toy.add_probe()
    toy.write(loop={"policy": "self_rewarding", "iterations": 1}, probe={"timeout": 1})
    toy.run()
    assert toy.to_do("probe.timeout=5") == set()
    (toy.folder / "gold.py").write_text(HANGS.format(names="'x',"))
    with pytest.raises(StepFailed, match=r"probe.*took longer than 1 s"):
        toy.run()


class Odd(Exception):
    def __str__(self):
        raise ValueError


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("\ud800 at http://user:pw@host"), "ValueError: \ufffd at http://user:***@host"),
        (Odd(), "Odd: its message cannot be shown"),
        (OSError("x" * 5_000_000), "OSError: " + "x" * 100),
    ],
    ids=["surrogate", "raises", "long"],
)
def test_an_odd_error_of_a_function_is_a_reason_that_can_be_stored(error, reason):
    def grade(rows):
        raise error

    fault = function_worker.call(grade, [{}])
    assert fault.reason.startswith(f"the function raised {reason}")
    assert len(fault.reason) < 2100
