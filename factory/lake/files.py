"""Write text files atomically, and Parquet files in the Hugging Face Hub's recommended layout."""

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
"""Number of rows in a Parquet row group. This many answers take about 20 MB, well below the size
that the Hub's dataset viewer refuses to scan."""


def write_parquet(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    """Write a Parquet file to disk, and return the number of rows. The file has the layout that the
    Hugging Face Hub recommends."""
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
    """Write a small text file atomically: a crash leaves the old file or the new one."""
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        temporary.write_text(text, encoding="utf-8")
        fsync(temporary)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove the unfinished files that a killed process left in a folder. The caller must hold the
    folder's lock."""
    with writing(folder):
        for path in folder.glob(".tmp-*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextmanager
def writing(root: Path, temporary: Path | None = None) -> Iterator[None]:
    """Raise LakeError if the `with` block fails because the disk is full or not writable. Remove
    `temporary` at the end."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LakeError(
                f"the lake {root}",
                "the disk is full",
                "free some disk space, then run the same command again (finished rows are saved)",
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise LakeError(
                f"the lake {root}",
                f"cannot write to the folder ({error.strerror})",
                "make the folder writable, or choose another lake",
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
