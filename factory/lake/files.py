"""Write files whole or not at all, and Parquet the way the Hub likes it."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from factory.errors import LakeError

ROW_GROUP = 20_000
"""Rows of a row group: some 20 MB of answers, well under what the Hub's viewer refuses to scan."""


def write_parquet(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    """Writes a Parquet file as the Hub likes it and fsyncs it; the number of its rows."""
    n_rows = 0
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=3,
        use_content_defined_chunking=True,
        write_page_index=True,
    ) as writer:
        for batch in batches:
            writer.write_batch(batch, row_group_size=ROW_GROUP)
            n_rows += batch.num_rows
    fsync(path)
    return n_rows


def write_whole(path: Path, text: str) -> None:
    """Writes a small text file, whole or not at all."""
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        temporary.write_text(text, encoding="utf-8")
        fsync(temporary)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Removes what was being written to a folder when its writer was killed; to be called by who
    holds the folder's lock."""
    with writing(folder):
        for path in folder.glob(".tmp-*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextmanager
def writing(root: Path, temporary: Path | None = None) -> Iterator[None]:
    """Turn the errors of a full or read-only disk into a LakeError, and remove `temporary`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LakeError(
                f"the disk of the lake {root}",
                "is full",
                "make space and run the same command again; finished rows are kept",
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise LakeError(
                f"the lake {root}",
                f"cannot be written ({error.strerror})",
                "make it writable, or name another with --lake",
            ) from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
