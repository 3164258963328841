"""Write Parquet files in the Hugging Face Hub's recommended layout, and say why a disk refuses."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from factory.errors import LakeError
from factory.files import fsync

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


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Raise LakeError if the `with` block fails because the disk is full or not writable."""
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
