"""Write finished rows as Parquet shards in the background."""

import queue
import threading
import time
from collections.abc import Callable

import pyarrow as pa

from factory.lake.files import writing
from factory.lake.folders import Folder
from factory.lake.journal import Journal
from factory.lake.schema import Row

JOURNAL_SECONDS = 0.5
"""Maximum number of seconds that a finished row waits for the journal (our choice). A killed run
repeats only the requests that finished in this time."""


class ShardWriter:
    """A context manager that collects rows and writes them as shards in a background thread.

    A shard is written after `rows` rows, or when its first row has waited for `seconds` seconds.
    Until then, a journal keeps the rows on disk. The caller of `put` never waits for Parquet or the
    disk, and finished rows are written even while the engine is silent. Leaving the context writes
    the remaining rows, also after an exception.
    """

    def __init__(
        self, folder: Folder, schema: pa.Schema, rows: int, seconds: float, *, journal: bool = False
    ) -> None:
        """With `journal`, rows are on disk within JOURNAL_SECONDS seconds."""
        self._folder = folder
        self._schema = schema
        self._rows = rows
        self._seconds = seconds
        self._journal = Journal(folder.path, schema) if journal else None
        self._queue: queue.Queue[Row | None] = queue.Queue(maxsize=256)
        self._error: BaseException | None = None
        self._new: list[Row] = []
        """Rows that are not in the journal yet."""
        self._batches: list[pa.RecordBatch] = []
        """The rows in the journal."""
        self._thread = threading.Thread(target=self._work, name=f"writer of {folder}", daemon=True)

    def __enter__(self) -> "ShardWriter":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def put(self, row: Row) -> None:
        """Add a row to the next shard. Raises the error of an earlier write, if there was one."""
        if self._error is not None:
            raise self._error
        self._queue.put(row)

    def _work(self) -> None:
        """Write the rows in the queue. After an error, empty the queue, so that nobody waits."""
        try:
            self._write_rows()
        except BaseException as error:
            self._error = self._error or error
            while self._queue.get() is not None:
                pass
        try:
            if self._journal is not None:
                self._journal.close()
        except OSError as error:
            self._error = self._error or error

    def _write_rows(self) -> None:
        """Write the rows in the queue until it contains None."""
        shard_at = journal_at = float("inf")
        n_rows = 0
        row: Row | None = {}
        while row is not None:
            wait = min(shard_at, journal_at, time.monotonic() + threading.TIMEOUT_MAX)
            try:
                row = self._queue.get(timeout=max(0.0, wait - time.monotonic()))
                if row is not None:
                    now = time.monotonic()
                    if not n_rows:
                        shard_at = now + self._seconds
                    if not self._new and self._journal is not None:
                        journal_at = now + JOURNAL_SECONDS
                    self._new.append(row)
                    n_rows += 1
            except queue.Empty:
                pass
            if n_rows >= self._rows or row is None or time.monotonic() >= shard_at:
                self._save(self._write_shard)
                shard_at = journal_at = float("inf")
                n_rows = 0
            elif time.monotonic() >= journal_at:
                self._save(self._write_journal)
                journal_at = float("inf")

    def _save(self, save: Callable[[], None]) -> None:
        """Save rows unless an earlier write failed. The next run generates lost rows again."""
        try:
            if self._error is None:
                save()
        except BaseException as error:  # raised by the next `put` or at the end
            self._error = error
        self._new = []

    def _write_journal(self) -> None:
        assert self._journal is not None, "this writer has no journal"
        batch = pa.RecordBatch.from_pylist(self._new, schema=self._schema)
        with writing(self._folder.lake.root):
            self._journal.add(batch)
        self._batches.append(batch)

    def _write_shard(self) -> None:
        new = pa.RecordBatch.from_pylist(self._new, schema=self._schema)
        rows = pa.Table.from_batches([*self._batches, new])
        if rows.num_rows:
            self._folder.append(rows.combine_chunks())
        self._batches = []
        if self._journal is not None:
            self._journal.discard()
