"""Read all texts of a published folder: every string in every file, with its place."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

IDS = ("pair_id", "judgment_id", "sample_id", "prompt_id", "digest")
"""Columns with the IDs of rows. A row's ID is in the first one that its table has."""

_BATCH = 1_000
"""Number of rows that are read at once."""

_HASHES = re.compile(r"_(?:id|key)$|^digest$")
"""Names of columns with hashes, which are not scanned."""


@dataclass(frozen=True)
class Text:
    """A text in a published file."""

    config: str
    """Name of the dataset configuration, of the table, or of the file."""
    id: str
    """ID of the row, or the place in the file."""
    column: str
    """Name of the column, with dots for fields within fields. Empty for a text of a file."""
    text: str


def texts_in(folder: Path, configs: Mapping[str, str]) -> Iterator[Text]:
    """Yield all texts in the Parquet and SQL files of a folder.

    `configs` maps the names of folders to the names of dataset configurations.
    """
    for file in sorted(folder.rglob("*.parquet")):
        name = file.parent.name
        config = configs.get(name, file.stem.rpartition("-")[0])
        yield from _of_parquet(file, config)
    for file in sorted(folder.rglob("*.sql")):
        yield from of_document(file.relative_to(folder).as_posix(), file.read_text("utf-8"))


def _of_parquet(file: Path, config: str) -> Iterator[Text]:
    opened = pq.ParquetFile(file)
    names = opened.schema_arrow.names
    key = next((name for name in IDS if name in names), None)
    texts = [each.name for each in opened.schema_arrow if _has_text(each)]
    row = 0
    for batch in opened.iter_batches(_BATCH, columns=sorted({*texts, *([key] if key else [])})):
        ids = batch[key].to_pylist() if key else [f"row {row + n}" for n in range(len(batch))]
        row += len(batch)
        for column in texts:
            for id_, value in zip(ids, batch[column].to_pylist(), strict=True):
                for place, text in _strings(value, column):
                    yield Text(config, str(id_), place, text)


def _has_text(column: pa.Field) -> bool:
    return "string" in str(column.type) and not _HASHES.search(column.name)


def of_document(name: str, content: Any) -> Iterator[Text]:
    """Yield all texts of a file's content: a text, or nested mappings and lists of texts."""
    for place, text in _strings(content, ""):
        yield Text(name, place or "text", "", text)


def _strings(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            inside = f"{place}.{name}" if place else str(name)
            if item is not None:
                yield from _strings(item, inside)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, place)
