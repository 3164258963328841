"""Write finished rows as Parquet shards in the background."""

import queue
import threading
import time

import pyarrow as pa

from factory.lake.folders import Folder
from factory.lake.schema import Row


class ShardWriter:
    """A context manager that collects rows and writes them as shards in a background thread.

    A shard is written after `rows` rows, or when its first row has waited for `seconds` seconds.
    The caller of `put` never waits for Parquet or the disk, and finished rows are written even
    while the engine is silent. Leaving the context writes the remaining rows, also after an
    exception.
    """

    def __init__(self, folder: Folder, schema: pa.Schema, rows: int, seconds: float) -> None:
        self._folder = folder
        self._schema = schema
        self._rows = rows
        self._seconds = seconds
        self._queue: queue.Queue[Row | None] = queue.Queue(maxsize=256)
        self._error: BaseException | None = None
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
        buffer: list[Row] = []
        deadline = 0.0
        row: Row | None = {}
        while row is not None:
            try:
                wait = max(0.0, deadline - time.monotonic()) if buffer else None
                row = self._queue.get(timeout=wait)
                if row is not None:
                    if not buffer:
                        deadline = time.monotonic() + self._seconds
                    buffer.append(row)
                full = len(buffer) >= self._rows or row is None
            except queue.Empty:
                full = True
            if full and buffer:
                self._write(buffer)
                buffer = []

    def _write(self, buffer: list[Row]) -> None:
        if self._error is not None:
            return  # these rows are lost; the next run generates them again
        try:
            self._folder.append(pa.Table.from_pylist(buffer, schema=self._schema))
        except BaseException as error:  # raised by the next `put` or at the end
            self._error = error
