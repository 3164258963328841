"""Write files beside a user's files, without touching any file that the factory did not make.

All files that the factory writes go through this module. Unfinished files have random names that
start with `UNFINISHED` and are created exclusively, so they are never a link or a file of the user.
Only their owner can read them until they are complete.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

from factory.errors import UserError

UNFINISHED = ".factory-unfinished-"
"""Beginning of the names of unfinished files and folders, which a killed process leaves behind."""


def write_whole(path: Path, text: str) -> None:
    """Write a small text file atomically: a crash leaves the old file or the new one."""
    with unfinished_file(path) as file:
        file.write_text(text, encoding="utf-8")
        fsync(file)


def write_new(path: Path, text: str) -> None:
    """Write a text file that does not exist yet. Raises FileExistsError if it does."""
    with path.open("x", encoding="utf-8", newline="\n") as file:
        file.write(text)


@contextmanager
def unfinished_file(path: Path) -> Iterator[Path]:
    """Create an empty file in the folder of `path`, and rename it to `path` at the end of the
    `with` block. If the block fails, or has moved the file elsewhere, `path` stays unchanged."""
    descriptor, name = tempfile.mkstemp(prefix=UNFINISHED, dir=path.parent)
    os.close(descriptor)
    unfinished = Path(name)
    try:
        yield unfinished
        if unfinished.exists():
            finish(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def unfinished_folder(parent: Path) -> Iterator[Path]:
    """Create an empty folder in the folder `parent`, and remove it at the end of the `with` block.
    Call `finish` in the block to keep it."""
    folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=parent))
    try:
        yield folder
    finally:
        remove_folder(folder)


def finish(unfinished: Path, path: Path) -> None:
    """Rename an unfinished file or folder to `path`, with the usual permissions of new files. A
    file replaces an existing file. If `path` is a link, it replaces the link, not its target."""
    unfinished.chmod((0o777 if unfinished.is_dir() else 0o666) & ~_umask())
    unfinished.replace(path)


@cache
def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def remove_unfinished(folder: Path) -> None:
    """Remove the unfinished files that a killed process left in a folder. The caller must hold the
    folder's lock."""
    for path in folder.glob(f"{UNFINISHED}*"):
        if path.is_dir():
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder that the factory made, if it exists. Does not follow links."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def copy_file(source: Path, target: Path) -> None:
    """Copy the content of a file to `target`, and replace an existing file."""
    with unfinished_file(target) as unfinished:
        shutil.copyfile(source, unfinished)


def open_to_append(path: Path, mode: str, permissions: int = 0o666) -> IO[Any]:
    """Open a log or lock file of the factory, and create it if it does not exist.

    `mode` is a mode of `open` that appends. Raises OSError (ELOOP) if the path is a link, which
    could lead to a file of the user.
    """
    assert "a" in mode, "other modes would truncate the file"

    def open_no_link(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW, permissions)

    encoding = None if "b" in mode else "utf-8"
    return open(path, mode, encoding=encoding, opener=open_no_link)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Create a folder in the system's folder for temporary files that only this user can read, and
    remove it at the end of the `with` block."""
    folder = new_temporary_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_temporary_folder() -> Path:
    """Create a folder in the system's folder for temporary files that only this user can read.

    Raises UserError if there is no such folder. The caller removes it.
    """
    try:
        return Path(tempfile.mkdtemp(prefix="factory-"))
    except OSError as error:
        raise UserError(
            "TMPDIR",
            f"there is no folder for temporary files ({error.strerror or error})",
            "set TMPDIR to a folder that you can write to",
        ) from None


def is_regular(path: Path) -> bool:
    """Return whether a path is a regular file, or a link to one. Reading any other file could wait
    forever. Raises OSError if the path cannot be followed."""
    return stat.S_ISREG(path.stat().st_mode)


def fsync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of files, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
