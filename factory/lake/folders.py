"""The lake's folders, with their Parquet shards, manifests, and locks. Each folder stores rows as
immutable Parquet files (shards).

    <lake>/<table>/<key>/<sha256>.parquet    a shard, named by the SHA-256 of its content
                         settings.json       the settings that the key hashes, for people
                         manifest.jsonl      a log of shards and steps, for people and `verify`
                         .journal-…          finished rows that wait for their shard
    <lake>/aside/…                           broken shards
    <lake>/locks/…                           one lock per folder

A shard is written under a temporary name, hashed, fsynced, and renamed, so a crash never leaves
a partial shard. No correctness depends on a manifest: a row is missing if no shard contains it. The
manifest only makes it possible to name a shard that was deleted.

This module knows neither recipes nor stages.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from factory.errors import LakeError
from factory.files import (
    finish,
    fsync,
    open_to_append,
    remove_unfinished,
    unfinished_file,
    write_whole,
)
from factory.fingerprint import file_digest
from factory.lake.files import write_parquet, writing
from factory.lake.journal import PATTERN, read_journal

Lock = IO[str]
"""The open file of a lock that this process holds."""


@dataclass(frozen=True)
class Broken:
    """A Parquet shard that was deleted or changed after it was written."""

    path: Path
    why: str


class Lake:
    """A lake, which stores all rows and trained models that the factory has produced."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: set[tuple[Path, int, int]] = set()

    def folder(self, table: str, key: str) -> "Folder":
        """Return the table's folder with the given key, whether or not it exists."""
        return Folder(self, table, key)

    def folders(self, table: str) -> list["Folder"]:
        """Return every folder of a table in the lake, sorted by key."""
        root = self.root / table
        keys = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
        return [Folder(self, table, key) for key in keys if (root / key).is_dir()]

    @property
    def has_rows(self) -> bool:
        """Whether the lake's folder exists and stores any rows, so that it really is a lake."""
        return next(self.root.glob("*/*/manifest.jsonl"), None) is not None

    def relative(self, path: Path) -> str:
        """Return a file's path relative to the lake, with forward slashes."""
        return path.relative_to(self.root).as_posix()

    def is_whole(self, path: Path) -> bool:
        """Return whether a file's name matches the SHA-256 of the file's content. Each file is
        hashed once per process."""
        stat = path.stat()
        stamp = (path, stat.st_size, stat.st_mtime_ns)
        if stamp not in self._verified:
            if file_digest(path) != path.stem:
                return False
            self._verified.add(stamp)
        return True

    def load_json(self, name: str) -> dict[str, Any]:
        """Return the content of a JSON file in the lake, or an empty dict if the file cannot be
        read."""
        try:
            content = json.loads((self.root / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def save_json(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file to the lake, unless its content is unchanged. Do nothing if the lake is
        read-only or its files cannot be locked: the file is only a cache."""
        if content == self.load_json(name) or not os.access(self.root, os.W_OK):
            return
        with suppress(LakeError), self.lock("files", f"saving {name}"), writing(self.root):
            remove_unfinished(self.root)
            write_whole(self.root / name, json.dumps(content))

    @contextmanager
    def lock(
        self, name: str, doing: str, say: Callable[[str], None] | None = None
    ) -> Iterator[Lock]:
        """Hold a lock on the lake during a `with` block, and yield the lock file. A
        child process that inherits the file holds the lock too. While another process holds the
        lock, wait, and pass `say` a line that names this process and its command."""
        with self._lock_file(name) as file:
            if not _flock(file, wait=False):
                file.seek(0)
                if say is not None:
                    say(f"  waiting for {file.read().strip() or 'another process'} on {name}")
                _flock(file, wait=True)
            self._sign(file, doing)
            yield file

    @contextmanager
    def try_lock(self, name: str, doing: str) -> Iterator[Lock | None]:
        """Try to lock the lake without waiting, and yield the lock file. Yield None if
        another process holds the lock or the lake is read-only."""
        with ExitStack() as stack:
            try:
                file = stack.enter_context(self._lock_file(name))
                taken = _flock(file, wait=False)
                if taken:
                    self._sign(file, doing)
            except LakeError:
                taken = False
            yield file if taken else None

    @contextmanager
    def _lock_file(self, name: str) -> Iterator[Lock]:
        with writing(self.root):
            locks = self.root / "locks"
            locks.mkdir(parents=True, exist_ok=True)
            file = open_to_append(locks / name, "a+")
        with file:
            yield file

    def _sign(self, file: Lock, doing: str) -> None:
        with writing(self.root):
            file.truncate(0)
            file.write(f"process {os.getpid()} ({doing})")
            file.flush()


def _flock(file: Lock, *, wait: bool) -> bool:
    """Try to acquire a file lock, and return whether that succeeded. Without `wait`, it fails if
    another process holds the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        raise LakeError(
            f"the lake {Path(file.name).parent.parent}",
            f"its file system cannot lock files ({error.strerror}), so two runs could overwrite "
            "each other's rows",
            "put the lake on a local disk, or on a network file system that supports flock",
        ) from error
    return True


class Folder:
    """A folder in the lake that stores one trained model, or all shards with the same key."""

    def __init__(self, lake: Lake, table: str, key: str) -> None:
        self.lake = lake
        self.table = table
        self.key = key
        self.path = lake.root / table / key

    def __repr__(self) -> str:
        return f"{self.table}/{self.key}"

    def settings(self) -> dict[str, Any]:
        """Return the settings that determine the folder's key. The dict is empty if they are
        unknown."""
        return self.lake.load_json(f"{self.table}/{self.key}/settings.json")

    def shards(self) -> list[Path]:
        """Return the intact shards of the folder, sorted by name.

        Names and sizes are compared with the manifest. A shard is hashed only if the manifest does
        not list it, which happens when a process is killed between the two writes.
        """
        return self._listing()[0]

    def broken(self, *, content: bool) -> list[Broken]:
        """Return the shards that were deleted or whose size changed. With `content`, also hash the
        other shards and return those whose content changed."""
        good, broken = self._listing()
        if content:
            broken += [Broken(p, "its content changed") for p in good if not self.lake.is_whole(p)]
        return broken

    def _listing(self) -> tuple[list[Path], list[Broken]]:
        sizes = self._listed()
        found = {path.name: path for path in self.path.glob("*.parquet") if path.name[0] != "."}
        good, broken = [], []
        for name in sorted(found.keys() | sizes.keys()):
            path = self.path / name
            if name not in found:
                broken.append(Broken(path, "it was deleted"))
            elif (size := path.stat().st_size) == sizes.get(name):
                good.append(path)
            elif name in sizes or not self.lake.is_whole(path):
                broken.append(Broken(path, f"it has {size} bytes, expected {sizes.get(name, '?')}"))
            else:
                good.append(path)
        return good, broken

    def _listed(self) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for event in self.events():
            if "shard" in event:
                sizes[event["shard"]] = event["bytes"]
            elif "aside" in event:
                sizes.pop(event["aside"], None)
        return sizes

    def events(self) -> list[dict[str, Any]]:
        """Return the entries of the folder's manifest, oldest first. Skip a line that is incomplete
        because its writer was killed."""
        try:
            lines = (self.path / "manifest.jsonl").read_bytes().splitlines()
        except FileNotFoundError:
            return []
        events = []
        for line in lines:
            try:
                events.append(json.loads(line))
            except ValueError:
                continue
        return [event for event in events if isinstance(event, dict)]

    def record(self, event: dict[str, Any]) -> None:
        """Append an entry to the folder's manifest."""
        with writing(self.lake.root):
            path = self.path / "manifest.jsonl"
            cut_short = path.exists() and path.stat().st_size and path.read_bytes()[-1:] != b"\n"
            with open_to_append(path, "ab") as file:
                file.write(b"\n" * bool(cut_short) + json.dumps(event).encode() + b"\n")

    def set_aside(self, broken: list[Broken]) -> None:
        """Move broken shards to `aside/`, so that their rows count as missing."""
        with writing(self.lake.root):
            for shard in broken:
                if shard.path.exists():
                    aside = self.lake.root / "aside" / self.table / self.key
                    aside.mkdir(parents=True, exist_ok=True)
                    shard.path.replace(aside / shard.path.name)
                self.record({"aside": shard.path.name, "why": shard.why})

    @property
    def lock_name(self) -> str:
        """Name of the folder's lock."""
        return f"{self.table}-{self.key}"

    @contextmanager
    def lock(self, doing: str, say: Callable[[str], None] | None = None) -> Iterator[Lock]:
        """Lock the folder for writing, remove files that a killed process left unfinished, and keep
        its finished rows. See `Lake.lock`."""
        with self.lake.lock(self.lock_name, doing, say) as file:
            self._recover()
            yield file

    @contextmanager
    def try_lock(self, doing: str) -> Iterator[Lock | None]:
        """Try to lock the folder for writing, without waiting. Yield None if another process holds
        the lock. See `Lake.try_lock`."""
        with self.lake.try_lock(self.lock_name, doing) as file:
            if file is not None:
                self._recover()
            yield file

    def _recover(self) -> None:
        """Remove the unfinished files of a killed process, and write its finished rows as shards.
        The caller must hold the folder's lock."""
        with writing(self.lake.root):
            remove_unfinished(self.path)
        for journal in sorted(self.path.glob(PATTERN)):
            if (rows := read_journal(journal)) is not None:
                self.append(rows)  # the same rows would be the same shard
            with writing(self.lake.root):
                journal.unlink()

    def create(self, settings: dict[str, Any]) -> None:
        """Create the folder, and save the settings that determine the folder's key."""
        with writing(self.lake.root):
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / "settings.json").exists():
                text = json.dumps(settings, indent=1, ensure_ascii=False, sort_keys=True)
                write_whole(self.path / "settings.json", text + "\n")

    def append(self, table: pa.Table) -> Path:
        """Write rows to a new shard atomically, and return the shard's path."""
        return self.append_batches(table.schema, iter(table.to_batches()))

    def append_batches(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Path:
        """Write batches of rows to one new shard atomically, and return the shard's path. Only one
        batch is in memory at a time."""
        with writing(self.lake.root), unfinished_file(self.path / "shard") as unfinished:
            n_rows = write_parquet(unfinished, schema, batches)
            shard = self.path / f"{file_digest(unfinished)}.parquet"
            size = unfinished.stat().st_size
            finish(unfinished, shard)
            fsync(self.path)
        self.lake.is_whole(shard)
        self.record({"shard": shard.name, "rows": n_rows, "bytes": size})
        return shard
