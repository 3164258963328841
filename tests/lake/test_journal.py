"""Finished rows are on disk before their shard is written, and the next run finds them."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from factory.errors import LakeError
from factory.lake import Lake, ShardWriter, journal

SCHEMA = pa.schema([("n", pa.int64()), ("text", pa.string())])

WRITER = """
import sys, time
from pathlib import Path
import pyarrow as pa
from factory.lake import Lake, ShardWriter

schema = pa.schema([("n", pa.int64()), ("text", pa.string())])
folder = Lake(Path(sys.argv[1])).folder("samples", "key")
folder.create({})
with ShardWriter(folder, schema, rows=40, seconds=60, journal=True) as writer:
    for n in range(1000):
        writer.put({"n": n, "text": f"row {n} " * 20})
        print(n, time.time(), flush=True)
        time.sleep(0.01)
"""


def rows(n=10):
    return [{"n": number, "text": f"row {number}"} for number in range(n)]


@pytest.fixture
def folder(tmp_path):
    folder = Lake(tmp_path / "lake").folder("samples", "key")
    folder.create({})
    return folder


def stored(folder):
    """Lock the folder as a run does, and return the numbers of all stored rows."""
    with folder.lock("test"):
        pass
    return [n for shard in folder.shards() for n in pq.read_table(shard)["n"].to_pylist()]


def journals(folder):
    return list(folder.path.glob(journal.PATTERN))


def fail_to_write(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("factory.lake.folders.write_parquet", full)
    return rows(600), {}


def fail_to_convert(_):
    return [*rows(300), {"n": "not a number", "text": "x"}, *rows(300)], {}


def fail_to_time(monkeypatch):
    monkeypatch.setattr("factory.lake.shards.time", None)
    return rows(600), {}


def fail_to_close(monkeypatch):
    def close(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(journal.Journal, "close", close)
    return rows(3), {}


def wait_ages(_):
    return rows(600), {"seconds": 1e300}


@pytest.mark.parametrize(
    "fail", [fail_to_write, fail_to_convert, fail_to_time, fail_to_close, wait_ages]
)
def test_a_writer_that_fails_never_blocks(folder, monkeypatch, fail):
    """600 rows are more than the queue between the two threads can hold."""
    given, settings = fail(monkeypatch)
    errors = []

    def write():
        settings.setdefault("seconds", 60)
        try:
            with ShardWriter(folder, SCHEMA, rows=10_000, journal=True, **settings) as writer:
                for row in given:
                    writer.put(row)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert bool(errors) == (fail is not wait_ages)


def wait_for(condition):
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.01)


@pytest.mark.parametrize("seconds", [0.7, 1.3])
def test_a_killed_writer_loses_only_the_rows_of_the_last_second(tmp_path, seconds):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    first = writer.stdout.readline()
    time.sleep(seconds)
    killed = time.time()
    writer.send_signal(signal.SIGKILL)
    put = [first, *writer.communicate()[0].splitlines()]
    written = {int(line.split()[0]): float(line.split()[1]) for line in put if line.count(" ")}
    kept = stored(Lake(tmp_path).folder("samples", "key"))
    assert len(kept) == len(set(kept))
    assert {n for n, at in written.items() if at < killed - 1} <= {*kept}
    assert {*kept} <= {*written, len(written)}  # the last line may not have been printed
    assert not journals(Lake(tmp_path).folder("samples", "key"))


def test_a_journal_ends_with_its_shard(folder):
    with ShardWriter(folder, SCHEMA, rows=4, seconds=60, journal=True) as writer:
        for row in rows(2):
            writer.put(row)
        wait_for(lambda: journals(folder))
        for row in rows(10):
            writer.put(row)
    assert not journals(folder)
    assert [pq.read_table(shard).num_rows for shard in folder.shards()] == [4, 4, 4]


def test_rows_that_are_in_a_shard_and_in_a_journal_are_one_shard(folder):
    """A kill between the two writes leaves both."""
    with ShardWriter(folder, SCHEMA, rows=100, seconds=60, journal=True) as writer:
        for row in rows():
            writer.put(row)
        wait_for(lambda: journals(folder))
        time.sleep(0.1)
        (left,) = journals(folder)
        content = left.read_bytes()
    (shard,) = folder.shards()
    left.write_bytes(content)
    assert stored(folder) == list(range(10))
    assert folder.shards() == [shard]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_of_a_journal_that_is_cut_off_the_whole_batches_are_kept(folder, share):
    kept = journal.Journal(folder.path, SCHEMA)
    for row in rows():
        kept.add(pa.RecordBatch.from_pylist([row], schema=SCHEMA))
    kept.close()
    (left,) = journals(folder)
    content = left.read_bytes()
    left.write_bytes(content[: int(len(content) * share)])
    found = stored(folder)
    assert found == list(range(len(found)))
    assert len(found) >= int(10 * share) - 2
    assert not journals(folder)


def test_after_a_full_disk_the_rows_in_the_journal_are_kept(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def write():
        with ShardWriter(folder, SCHEMA, rows=100, seconds=60, journal=True) as writer:
            for row in rows(5):
                writer.put(row)
            wait_for(lambda: [journal.read_journal(path) for path in journals(folder)])
            monkeypatch.setattr(journal.Journal, "add", full)
            for row in rows(9)[5:]:
                writer.put(row)
                time.sleep(0.2)

    with pytest.raises(LakeError, match="the disk is full"):
        write()
    monkeypatch.undo()
    assert stored(folder)[:5] == list(range(5))


def test_a_writer_without_a_journal_writes_none(folder):
    with ShardWriter(folder, SCHEMA, rows=100, seconds=60) as writer:
        writer.put(rows(1)[0])
        time.sleep(0.7)
        assert not journals(folder)
    assert stored(folder) == [0]
