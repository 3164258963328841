"""Export a dataset to a folder with data files, a trainer's config files, and `export.json`.

    DIR/data/train.parquet, test.parquet    or .jsonl; no test file if there are no test rows
    DIR/dpo.yaml, …                         config files of the trainer
    DIR/export.json                         files with their SHA-256, row counts, dataset

An export never overwrites files of the user. It refuses a folder with other files, and exported
files that the user changed. New files are written to a temporary folder next to DIR and then moved.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from factory.errors import Argument, ExportError
from factory.export.columns import SPLITS
from factory.export.prompt_columns import (
    PLAIN,
    decoded,
    restored,
    shown_rows,
    with_prompt_fields,
)
from factory.export.source import (
    Source,
    check_pairs,
    check_prompt_fields,
    count_contradicting,
    longest,
    open_best_answers,
    open_pairs,
    select_splits,
)
from factory.export.templates import render_template
from factory.export.trainers import TRAINERS, Trainer, export_query, snippets, trainer_of
from factory.files import finish, unfinished_folder, write_new, write_whole
from factory.fingerprint import file_digest
from factory.lake import BATCH, Views, write_parquet
from factory.plan import loop_prompt_fields

MARKER = "export.json"

_WRITTEN_BY = "factory export"
"""The value of `written_by` in every marker."""

LENGTHS_OF = 64
"""Sequence lengths in configs are rounded up to a multiple of this number of tokens."""

_ROOM = 8
"""Tokens reserved for the end of the chat template."""

_ESCAPED = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
"""Line separators that JSON does not escape. Some readers of JSON lines use `str.splitlines`, which
splits at them."""


@dataclass(frozen=True)
class Exported:
    """The result of `factory export`."""

    out: Path
    trainer: str
    rows: dict[str, int]
    command: str
    """Shell command that starts training in the folder `out`."""
    left_out: list[str]
    """Labels of the recipe's steps whose pairs were not in the lake yet."""
    n_contradicting: int
    """Number of pairs that were left out because they contradict another pair."""


def export_dataset(source: Source, name: str, out: Path) -> Exported:
    """Write a dataset to the folder `out` in the format that a trainer expects.

    The same source gives the same bytes. Rows are written in batches, so memory does not grow with
    their number. The exception is sft, for which DuckDB collects the best answers first. Raises
    ExportError if the trainer is unknown or cannot use these rows, or if `out` contains other
    files.
    """
    trainer = trainer_of(name)
    existing = _existing_files(out, name)
    views = (
        open_best_answers(source) if trainer.shape == "best" else open_pairs(source, trainer.needs)
    )
    with views, _writing(out):
        check_prompt_fields(source, name, trainer.reads)
        if trainer.check:
            check_pairs(source, views, trainer.check, trainer.spoils)
        out.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_folder(out.resolve().parent) as unfinished:
            rows = _write(source, trainer, name, views, unfinished)
            n_contradicting = 0 if trainer.shape == "best" else count_contradicting(views)
            _move(unfinished, out, existing)
    command = trainer.command.replace("MODEL", source.model)
    return Exported(out, name, rows, command, source.left_out, n_contradicting)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(
            Argument("out"), f"cannot write to {out} ({error.strerror})", "choose another folder"
        ) from error


def _existing_files(out: Path, name: str) -> dict[str, str]:
    """Return the files of an earlier export in a folder, with their hashes.

    Raises ExportError if the folder contains anything else.
    """
    if not out.exists():
        return {}
    if not out.is_dir():
        raise ExportError(Argument("out"), f"{out} is a file", "choose a new or empty folder")
    if not any(out.iterdir()):
        return {}
    marker = _read_marker(out)
    if marker is None:
        raise ExportError(
            Argument("out"),
            f"{out} is not empty and was not written by `factory export`",
            "choose another folder (nothing was changed)",
        )
    if marker["trainer"] != name:
        raise ExportError(
            Argument("out"),
            f"{out} already contains an export for {marker['trainer']}",
            "choose another folder (nothing was changed)",
        )
    files: dict[str, str] = marker["files"]
    return files


def _read_marker(out: Path) -> dict[str, Any] | None:
    """Return the marker of an earlier export, or None unless `factory export` wrote it.

    A marker that names other files than an export has would allow the export to replace them.
    """
    file = out / MARKER
    try:
        marker: Any = json.loads("null" if file.is_symlink() else file.read_text("utf-8"))
        if marker["written_by"] != _WRITTEN_BY:
            return None
        trainer = TRAINERS[marker["trainer"]]
        names = {f"data/{split}.{trainer.data}" for split in SPLITS}
        names |= {*snippets(marker["trainer"])}
        fits = all(type(digest) is str for digest in marker["files"].values())
        return marker if fits and marker["files"].keys() <= names else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _write(
    source: Source, trainer: Trainer, name: str, views: Views, folder: Path
) -> dict[str, int]:
    (folder / "data").mkdir(parents=True)
    n_longest = longest(source, views, pairs=trainer.shape != "best")
    rows = {}
    for split in SPLITS:
        select_splits(views, split)
        file = folder / "data" / f"{split}.{trainer.data}"
        reader = views.con.sql(export_query(trainer.shape)).to_arrow_reader(BATCH)
        schema, batches = _prepared(source, trainer, reader)
        write = write_parquet if trainer.data == "parquet" else write_json_lines
        if n_rows := write(file, schema, batches):
            rows[split] = n_rows
        else:
            file.unlink()  # `datasets` rejects empty splits
    if "train" not in rows:
        raise ExportError(
            str(source.folder), f"the dataset has no training rows to export for {name}"
        )
    for file_name, text in snippets(name).items():
        values = {"test": "test" in rows, "longest": n_longest, "length": _length(n_longest)}
        write_new(folder / file_name, render_template(text, values))
    _mark(folder, {"trainer": name, "dataset": source.name, "rows": rows})
    return rows


def _prepared(
    source: Source, trainer: Trainer, reader: pa.RecordBatchReader
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Return the schema and the rows of an export, with JSON types where the dataset has them."""
    if trainer.shape == "best":  # rows from the lake instead of the dataset
        assert source.state is not None, "the best answers are in the lake"
        plain = pa.schema([("prompt", PLAIN), ("completion", PLAIN)])
        schema = with_prompt_fields(plain, loop_prompt_fields(source.state))
        return schema, shown_rows(reader, schema)
    schema = restored(reader.schema)
    return schema, (batch.cast(schema) for batch in reader)


def _length(n_longest: int | None) -> int | None:
    if n_longest is None:
        return None
    return -(-(n_longest + _ROOM) // LENGTHS_OF) * LENGTHS_OF


def _mark(folder: Path, facts: dict[str, Any]) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
    marker = {"written_by": _WRITTEN_BY, **facts, "files": hashes}
    write_whole(folder / MARKER, json.dumps(marker, indent=1) + "\n")


def write_json_lines(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    """Write rows to a JSON Lines file, and return the number of rows."""
    n_rows = 0
    with path.open("x", encoding="utf-8", newline="\n") as file:
        for batch in batches:
            for row in batch.to_pylist():
                line = json.dumps(decoded(row), ensure_ascii=False)
                file.write(line.translate(_ESCAPED) + "\n")
            n_rows += batch.num_rows
    return n_rows


def _move(folder: Path, out: Path, existing: dict[str, str]) -> None:
    """Move the files of an export into the user's folder, the marker last.

    Raises ExportError if the user changed an exported file.
    """
    marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    new: dict[str, str] = marker["files"]
    there = {name: _digest(out, name) for name in new if os.path.lexists(out / name)}
    ours = {name: {new[name], existing.get(name)} for name in there}
    if changed := [name for name, digest in there.items() if digest not in ours[name]]:
        raise ExportError(
            Argument("out"),
            f"these files in {out} have changed since the export: {', '.join(changed)}",
            "move the changed files elsewhere, or choose another folder (nothing was overwritten)",
        )
    data = out / "data"
    if data.is_symlink():
        raise ExportError(
            Argument("out"), f"{data} is a link", "choose another folder (nothing was overwritten)"
        )
    data.mkdir(parents=True, exist_ok=True)
    for name in [name for name in new if there.get(name) != new[name]]:
        finish(folder / name, out / name)
    for name in existing.keys() - new.keys():
        # Only the file with test rows can disappear between two exports for the same trainer.
        if name.startswith("data/test.") and _digest(out, name) == existing[name]:
            (out / name).unlink()
    finish(folder / MARKER, out / MARKER)


def _digest(out: Path, name: str) -> str | None:
    """Return the SHA-256 of an exported file, or None if the factory cannot have written it: if it
    is not a regular file, or reached through a link."""
    file = out / name
    linked = file.is_symlink() or (file.parent != out and file.parent.is_symlink())
    return file_digest(file) if not linked and file.is_file() else None
