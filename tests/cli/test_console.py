"""`factory sql` without a query: the prompt on a real pseudo-terminal, and standard input."""

import io
import os
import pty
import select
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from factory.cli.console import history_file, split

# As a shell starts it: with the terminal as its own, so that Ctrl-C is a signal.
ON_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from factory import cli
cli.main()
"""


class Terminal:
    """The command on a pseudo-terminal, typed to and read from."""

    def __init__(self, toy, *args):
        self.state = toy.folder / "state"
        self._master, slave = pty.openpty()
        command = [sys.executable, "-c", ON_TERMINAL, "sql", str(toy.path)]
        self._process = subprocess.Popen(
            [*command, "--lake", str(toy.lake), *args],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=toy.folder,
            env={**os.environ, "XDG_STATE_HOME": str(self.state), "TERM": "dumb", "COLUMNS": "200"},
            start_new_session=True,
        )
        os.close(slave)
        self._is_closed = False

    def read_until(self, end, seconds=60):
        """What is printed until it ends with `end`."""
        shown = ""
        give_up = time.monotonic() + seconds
        while not shown.endswith(end):
            ready, _, _ = select.select([self._master], [], [], 0.1)
            if ready:
                shown += os.read(self._master, 4096).decode()
            assert time.monotonic() < give_up, f"waited for {end!r}, got {shown!r}"
        return shown

    def send(self, text):
        os.write(self._master, text.encode())

    def type(self, text, until="factory> "):
        self.send(text)
        return self.read_until(until)

    def leave(self, keys="\x04"):
        """The code that the command ends with."""
        self.send(keys)
        return self._process.wait(30)

    def close(self):
        """Ends it without a word, as a closed window does."""
        if not self._is_closed:
            self._process.kill()
            self._process.wait()
            os.close(self._master)
            self._is_closed = True


@pytest.fixture
def terminal(toy):
    opened = []

    def start(*args):
        opened.append(Terminal(toy, *args))
        opened[-1].read_until("factory> ")
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def test_a_statement_may_take_several_lines(terminal):
    prompt = terminal()
    prompt.type("select 41 + 1\n", until="    ...> ")
    assert "42" in prompt.type("as answer;\n")
    assert "3" in prompt.type("select 3 as a; select ';' as b;\n")
    assert prompt.leave() == 0


def test_an_error_is_printed_and_the_prompt_goes_on(toy, terminal):
    prompt = terminal()
    assert "factory: the query failed: " in prompt.type("selct 1;\n")
    assert "factory: expected one read-only query" in prompt.type("drop view samples;\n")
    assert "factory: expected one read-only query" in prompt.type("copy (select 1) to 'x.csv';\n")
    assert "factory: score_gaps: no named query has this name" in prompt.type("score_gaps;\n")
    assert "factory: .no: expected .help" in prompt.type(".no\n")
    assert "7" in prompt.type("select 7 as n;\n")
    assert prompt.leave(".exit\n") == 0
    assert not (toy.folder / "x.csv").exists()


def test_named_queries_and_commands(toy, terminal):
    toy.finish()
    prompt = terminal("--format", "json")
    assert '"outcome": "kept"' in prompt.type("outcomes\n")
    assert '"outcome": "kept"' in prompt.type("outcomes;\n")
    assert "How large is the score gap between chosen" in prompt.type(".list\n")
    assert "Ctrl-D" in prompt.type(".help\n")


def test_tab_completes(terminal):
    prompt = terminal()
    assert "candidates" in prompt.type("select max(score) from cand\t", until="dates")
    assert "max" in prompt.type(";\n")
    assert "score_gap" in prompt.type("score_g\t", until="ap")
    assert "collapse_ratio" in prompt.type("\n")
    assert "chosen_tokens" in prompt.type("select pairs.chosen_t\t", until="okens")
    assert "chosen_tokens" in prompt.type(" from pairs;\n")


def test_ctrl_c_drops_what_was_typed_and_stops_a_query(terminal):
    prompt = terminal()
    prompt.type("select 1 +\n", until="    ...> ")
    time.sleep(0.5)  # readline prints before it listens: a person is never so fast
    prompt.type("\x03")
    endless = (
        "select count(*) from range(10000000) a, range(10000000) b where a.range + b.range < 0"
    )
    prompt.type(f"{endless};\n", until="\n")
    time.sleep(1)
    prompt.type("\x03")
    assert "42" in prompt.type("select 41 + 1 as n;\n")
    assert prompt.leave() == 0


def test_history_is_kept_in_the_state_folder(toy, terminal):
    toy.finish()
    before = sorted(toy.lake.rglob("*"))
    first = terminal()
    first.type("select 40 + 2 as n;\n")
    first.close()
    file = toy.folder / "state" / "preference-factory" / "sql_history"
    assert "select 40 + 2 as n;" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    second = terminal()
    assert "select 40 + 2 as n;" in second.type("\x10", until="as n;")  # Ctrl-P, the line before
    assert "42" in second.type("\n")
    assert sorted(toy.lake.rglob("*")) == before


def test_without_a_place_for_the_history_the_prompt_works(toy, terminal):
    (toy.folder / "state").write_text("a file where the folder should be")
    prompt = terminal()
    assert "42" in prompt.type("select 42 as n;\n")


def test_history_is_kept_where_the_system_keeps_state(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    default = tmp_path / ".local" / "state" / "preference-factory" / "sql_history"
    assert history_file() == default
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # to be ignored, says the specification
    assert history_file() == default
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert history_file() == tmp_path / "state" / "preference-factory" / "sql_history"


# standard input


@pytest.fixture
def piped(toy, factory, monkeypatch):
    """The command, with a text on standard input."""

    def ask(text, *args):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        return factory("sql", toy.path, "--lake", toy.lake, *args)

    return ask


def test_queries_are_read_from_standard_input(toy, piped):
    toy.finish()
    ended = piped("outcomes;\n-- the gaps;\nfrom gaps\n")
    assert ended.code == 0
    first, second = ended.out.split("\n\n")
    assert "outcome" in first.splitlines()[0]
    assert "rejected_from_past" in second.splitlines()[0]


def test_a_query_that_fails_ends_the_input(piped):
    ended = piped("select 1 as n; drop view pairs; select 2 as n", "--format", "json")
    assert ended.code == 2
    assert ended.json() == [{"n": 1}]
    assert ended.err.startswith("factory: expected one read-only query")


def test_parquet_is_one_query(toy, piped):
    command = [sys.executable, "-m", "factory.cli", "sql", str(toy.path), "--format", "parquet"]
    ended = subprocess.run(command, input=b"select 1 as n", capture_output=True, check=True)
    assert pq.read_table(io.BytesIO(ended.stdout)).to_pylist() == [{"n": 1}]
    refused = piped("select 1; select 2", "--format", "parquet")
    assert refused.code == 2
    assert refused.err.startswith("factory: --format: got parquet for 2 queries: expected a single")


@pytest.mark.parametrize("text", ["", " \n", ";;", "-- nothing"])
def test_no_query_is_refused(piped, text):
    ended = piped(text)
    assert ended.code == 2
    assert ended.err.startswith("factory: QUERY: got no query: give a query")


# statements


@pytest.mark.parametrize(
    ("text", "statements", "rest"),
    [
        ("select 1; select 2;", ["select 1", "select 2"], ""),
        ("select 1;\nselect", ["select 1"], "select"),
        ("select ';';", ["select ';'"], ""),
        ("select 'it''s;", [], "select 'it''s;"),
        ('select ";" from t;', ['select ";" from t'], ""),
        (r"select e'\';' ;", [r"select e'\';'"], ""),
        ("select $$;$$;", ["select $$;$$"], ""),
        ("select $a$ $$;$a$;", ["select $a$ $$;$a$"], ""),
        ("select 1 -- one;\n;", ["select 1 -- one;"], ""),
        ("select /* ; */ 1;", ["select /* ; */ 1"], ""),
        ("/* begun;", [], "/* begun;"),
        ("-- only this;\n", [], ""),
        ("; ;", [], ""),
    ],
)
def test_what_ends_a_statement(text, statements, rest):
    assert split(text) == (statements, rest)
