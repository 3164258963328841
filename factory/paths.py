"""Paths that a user gives: in a recipe, on the command line, or to the Python API."""

import errno
import os
from pathlib import Path

from factory.errors import UserError

_FAULTS = {
    errno.ENAMETOOLONG: "the path is too long",
    errno.ELOOP: "the path leads into a loop of symbolic links",
    errno.ENOTDIR: "a part of the path is a file instead of a folder",
}
"""Reasons why no file can have a path."""


def user_path(given: str | os.PathLike[str], field: str = "", *, base: Path | None = None) -> Path:
    """Return a path that a user gave, with `~` replaced by the home folder.

    A relative path starts at the folder `base` or, without one, at the current folder, and stays
    relative. Raises UserError if no file can have this path. `field` is the recipe field or the
    argument with the path; without one, the error shows the path.
    """
    text = os.fspath(given)
    try:
        path = Path(text).expanduser()
        path = path if base is None else base / path
        str(path.absolute()).encode()
        path.stat()
    except RuntimeError:
        fault = f"the home folder {Path(text).parts[0]} is unknown"
    except UnicodeEncodeError:
        fault = "the path is not valid UTF-8"
    except ValueError:
        fault = "the path contains a null character"
    except OSError as error:
        if error.errno not in _FAULTS:  # it may not exist, or not be readable
            return path
        fault = _FAULTS[error.errno]
    else:
        return path
    shown = ascii(text)[1:-1]
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    raise UserError(field or shown, f"{fault} ({shown})" if field else fault, "give another path")


def folder_path(given: str | os.PathLike[str], field: str) -> Path:
    """Return the path of a folder, which may not exist yet. Raises UserError if it cannot be a
    folder. See `user_path`."""
    path = user_path(given, field)
    if path.exists() and not path.is_dir():
        raise UserError(field, f"{path} is not a folder", "give the path of a folder")
    if path.is_symlink() and not path.exists():
        raise UserError(
            field, f"{path} is a link to a folder that does not exist", "create the folder"
        )
    return path


def home_folder() -> Path | None:
    """Return the user's home folder, or None if the system does not know it."""
    try:
        return Path.home()
    except RuntimeError:
        return None
