"""The folder of an export: data, the trainer's config, and `export.json`, which says what is ours.

    DIR/data/train.parquet, test.parquet    or .jsonl; test is left out where it has no rows
    DIR/dpo.yaml, …                         what the trainer needs beside them
    DIR/export.json                         the files and their SHA-256, the rows, the source

Nothing of the user's is overwritten: a folder that holds other things is refused, and so is a file
of ours that was changed since. All is written beside the folder first and then moved into it.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from factory.errors import ExportError
from factory.export.columns import SPLITS
from factory.export.source import (
    Source,
    check_pairs,
    longest,
    open_best_answers,
    open_pairs,
    select_splits,
)
from factory.export.templates import render_template
from factory.export.trainers import Trainer, export_query, snippets, trainer_of
from factory.fingerprint import file_digest
from factory.lake import BATCH, Views, write_parquet, write_whole

MARKER = "export.json"

LENGTHS_OF = 64
"""Lengths in configs are multiples of this, with room for what a chat template adds at the end."""

_ROOM = 8

_ESCAPED = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
"""Ends of lines to `str.splitlines`, with which some read JSON lines; JSON escapes the others."""


@dataclass(frozen=True)
class Exported:
    out: Path
    trainer: str
    rows: dict[str, int]
    command: str
    """Starts the training, from the folder."""
    left_out: list[str]


def export_dataset(source: Source, name: str, out: Path) -> Exported:
    """Write a source for a trainer. The same source gives the same bytes.

    Rows go from DuckDB to the file a batch at a time, so that memory does not grow with them, but
    for sft, whose best answers DuckDB gathers first. Raises ExportError where the trainer is not
    known, cannot be given these rows, or `out` is not ours.
    """
    trainer = trainer_of(name)
    existing = _existing_files(out, name)
    views = (
        open_best_answers(source) if trainer.shape == "best" else open_pairs(source, trainer.needs)
    )
    with views, _writing(out):
        if trainer.check:
            check_pairs(source, views, trainer.check, trainer.spoils)
        unfinished = out.parent / f".tmp-{out.name}"
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            rows = _write(source, trainer, name, views, unfinished)
            _move(unfinished, out, existing)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return Exported(
        out, name, rows, trainer.command.replace("MODEL", source.model), source.left_out
    )


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(
            "--out", f"{out} cannot be written ({error.strerror})", "name another folder"
        ) from error


def _existing_files(out: Path, name: str) -> dict[str, str]:
    """Return the files of an earlier export to this folder, with their hashes. Raises ExportError
    if the folder has anything else."""
    if not out.exists():
        return {}
    if not out.is_dir():
        raise ExportError("--out", f"{out} is a file", "expected a folder that is new or empty")
    if not any(out.iterdir()):
        return {}
    try:
        marker = json.loads((out / MARKER).read_text(encoding="utf-8"))
        trainer, files = marker["trainer"], dict(marker["files"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ExportError(
            "--out",
            f"{out} is not empty and was not written by `factory export`",
            "name another folder; nothing was changed",
        ) from None
    if trainer != name:
        raise ExportError(
            "--out",
            f"{out} holds an export for {trainer}",
            "name another folder; nothing was changed",
        )
    return files


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
        write = write_parquet if trainer.data == "parquet" else write_json_lines
        if n_rows := write(file, reader.schema, iter(reader)):
            rows[split] = n_rows
        else:
            file.unlink()  # `datasets` refuses an empty split
    if "train" not in rows:
        raise ExportError(str(source.folder), f"no rows to train on are left of it for {name}")
    for file_name, text in snippets(name).items():
        values = {"test": "test" in rows, "longest": n_longest, "length": _length(n_longest)}
        (folder / file_name).write_text(render_template(text, values), encoding="utf-8")
    _mark(folder, {"trainer": name, "dataset": source.name, "rows": rows})
    return rows


def _length(n_longest: int | None) -> int | None:
    if n_longest is None:
        return None
    return -(-(n_longest + _ROOM) // LENGTHS_OF) * LENGTHS_OF


def _mark(folder: Path, facts: dict[str, Any]) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
    marker = {"written_by": "factory export", **facts, "files": hashes}
    write_whole(folder / MARKER, json.dumps(marker, indent=1) + "\n")


def write_json_lines(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    """Writes rows as JSON, one a line; the number of them."""
    n_rows = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for batch in batches:
            for row in batch.to_pylist():
                line = json.dumps(row, ensure_ascii=False)
                file.write(line.translate(_ESCAPED) + "\n")
            n_rows += batch.num_rows
    return n_rows


def _move(folder: Path, out: Path, existing: dict[str, str]) -> None:
    """Moves what was written into its place, the marker last."""
    marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    new: dict[str, str] = marker["files"]
    there = {name: file_digest(out / name) for name in new if (out / name).exists()}
    ours = {name: {new[name], existing.get(name)} for name in there}
    if changed := [name for name, digest in there.items() if digest not in ours[name]]:
        raise ExportError(
            "--out",
            f"{out}: {', '.join(changed)} was changed since it was written",
            "move it away, or name another folder; nothing was changed",
        )
    (out / "data").mkdir(parents=True, exist_ok=True)
    for name in [name for name in new if there.get(name) != new[name]]:
        (folder / name).replace(out / name)
    for name in existing.keys() - new.keys():
        # Of one trainer's files only the test rows come and go.
        old = out / name
        if name.startswith("data/test.") and old.exists() and file_digest(old) == existing[name]:
            old.unlink()
    (folder / MARKER).replace(out / MARKER)
