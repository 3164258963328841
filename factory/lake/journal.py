"""Keep finished rows on disk until their shard is written, so that a killed run loses none of them.

A journal is a hidden file in the folder of its rows, in Arrow's streaming format. The next process
that locks the folder writes the rows of a journal that a killed run left behind as a shard.
"""

import os
from pathlib import Path
from typing import IO
from uuid import uuid4

import pyarrow as pa

from factory.files import fsync

PATTERN = ".journal-*"
"""Pattern of the names of journals."""


class Journal:
    """The rows that wait for the next shard of one writer."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._path = folder / f".journal-{os.getpid()}-{uuid4().hex[:8]}"
        self._schema = schema
        self._file: IO[bytes] | None = None
        self._writer: pa.RecordBatchStreamWriter | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        """Write rows to disk. Returns when a power failure could no longer lose them."""
        if self._file is None or self._writer is None:
            self._file = self._path.open("xb")
            self._writer = pa.ipc.new_stream(self._file, self._schema)
            fsync(self._path.parent)
        self._writer.write_batch(batch)
        self._file.flush()
        os.fsync(self._file.fileno())

    def discard(self) -> None:
        """Delete the rows, because a shard now contains them."""
        if self._file is not None:
            self.close()
            self._path.unlink()

    def close(self) -> None:
        """Leave the rows on disk for the next process."""
        if self._file is not None:
            self._file.close()
            self._file = self._writer = None


def read_journal(path: Path) -> pa.Table | None:
    """Return the rows of a journal as a table with one chunk, or None if there are no rows.

    Leaves out rows at the end that were not completely written.
    """
    batches: list[pa.RecordBatch] = []
    try:
        with pa.ipc.open_stream(pa.memory_map(str(path))) as reader:
            while True:
                batches.append(reader.read_next_batch())
    except (StopIteration, pa.ArrowInvalid, OSError):  # the end, or a part of a batch
        pass
    return pa.Table.from_batches(batches).combine_chunks() if batches else None
