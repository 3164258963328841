"""`factory sql` with a query: formats, views, and what it refuses."""

import csv
import io
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from factory.cli.tables import print_rows


def test_sql_in_every_format(toy, factory):
    toy.finish()
    query = "select iteration, phase, [1, 2] as list from gaps order by all"
    args = ("sql", toy.path, query, "--lake", toy.lake, "--format")
    assert "iteration" in factory(*args, "table").out
    rows = factory(*args, "json").json()
    assert rows[0] == {"iteration": 0, "phase": "D1", "list": [1, 2]}
    read = list(csv.DictReader(io.StringIO(factory(*args, "csv").out)))
    assert read[1] == {"iteration": "0", "phase": "D2", "list": "[1, 2]"}


def test_sql_as_parquet_goes_to_standard_output(toy):
    toy.finish()
    args = ("sql", str(toy.path), "from roles", "--lake", str(toy.lake), "--format", "parquet")
    command = [sys.executable, "-m", "factory.cli", *args]
    printed = subprocess.run(command, capture_output=True, check=True).stdout
    assert "n_draws" in pq.read_table(io.BytesIO(printed)).schema.names


@pytest.mark.parametrize(
    "view",
    [
        *("prompts", "samples", "judgments", "verdicts", "scores", "pairs", "models", "roles"),
        *("judges", "gaps"),
    ],
)
def test_every_view_is_there_before_and_after_a_run(toy, factory, view):
    query = f"select count(*) as n from {view}"
    args = ("sql", toy.path, query, "--lake", toy.lake, "--format", "json")
    assert factory(*args).code == 0
    toy.finish()
    assert factory(*args).json()[0]["n"] > 0


@pytest.mark.parametrize(
    "query",
    [
        "drop view samples",
        "create table t as select 1",
        "copy (select 1) to 'x.csv'",
        "select 1; select 2",
        "set threads = 1",
        "selct 1",
        "select nothing from samples",
        "from query",
        "",
    ],
)
def test_sql_refuses_what_does_not_read(toy, factory, query, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = factory("sql", toy.path, query, "--lake", toy.lake)
    assert ended.code == 2
    assert ended.err.startswith("factory: ")
    assert "query.py" not in ended.err  # no variable of ours is taken for a view
    assert not (tmp_path / "x.csv").exists()


LONG = [
    {"n": place, "text": f"{place}\n" + "word " * 500, "chosen": "x" * 300, "list": ["y" * 200]}
    for place in range(3)
]


@pytest.mark.parametrize("shorten", [True, False])
def test_long_texts_fit_a_terminal(capsys, monkeypatch, shorten):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_rows(pa.Table.from_pylist(LONG), "table", shorten=shorten)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == [*LONG[0]]
    assert (len(lines) == 2 + len(LONG)) == shorten
    assert any("…" in line for line in lines) == shorten
    assert [line.split()[0] for line in lines[2:] if line[0] != " "] == ["0", "1", "2"]


def test_short_cells_are_not_shortened(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    rows = [{"id": "a" * 21, "long": "word " * 100, "also": "b" * 20, "n": 1_234_567}]
    print_rows(pa.Table.from_pylist(rows), "table")
    *_, line = capsys.readouterr().out.splitlines()
    assert line.split()[0] == "a" * 21
    assert line.split()[-2:] == ["b" * 20, "1,234,567"]
    assert len(line) == 80


@pytest.mark.parametrize("output", ["json", "csv"])
def test_other_formats_have_the_full_texts(toy, factory, output):
    query = "select repeat('word ', 500) || 'end' as text"
    shown = factory("sql", toy.path, query, "--lake", toy.lake, "--format", output).out
    assert "word " * 500 + "end" in shown


def test_an_unknown_format_is_refused(toy, factory):
    ended = factory("sql", toy.path, "select 1", "--format", "xml")
    assert ended.code == 2
    assert "expected one of table, csv, json, parquet" in ended.err
