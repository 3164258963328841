"""Find and import the Python functions that a recipe names.

A name has the form `file.py:function` or `module:function`. A function is identified by its name
and the bytes of its file. Changing the file reruns the stages that call the function. Changing a
module that the file imports does not.
"""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from factory.errors import FunctionError
from factory.fingerprint import file_digest, short_hash


@dataclass(frozen=True)
class Function:
    """A reference to a Python function that a recipe names."""

    name: str
    """The function as the recipe writes it, such as `file.py:function`."""
    file: Path
    """The Python file that defines the function."""
    digest: str
    """Hash of the function's name and of the file's bytes."""

    def load(self) -> Callable[..., Any]:
        """Import the function's file and return the function.

        Raises FunctionError if the import fails or the file has no such function.
        """
        module = _import(self.name, self.file)
        found = getattr(module, self.name.rpartition(":")[2], None)
        if not callable(found):
            raise FunctionError(
                self.name,
                f"{self.file.name} has no such function",
                "choose a function that the file defines",
            )
        loaded: Callable[..., Any] = found
        return loaded


def find_function(name: str, folder: Path) -> Function:
    """Find a Python function by a name such as `file.py:function`, without importing its file.

    `folder` is the recipe's folder, which file names are relative to. Raises FunctionError if the
    name is invalid or the file or module is missing.
    """
    place, colon, attribute = name.rpartition(":")
    if not colon or not place or not attribute.isidentifier():
        raise FunctionError(
            name,
            "the value is not the name of a function",
            "expected file.py:function or module:function",
        )
    if place.endswith(".py"):
        file = (folder / Path(place).expanduser()).resolve()
    else:
        try:
            spec = importlib.util.find_spec(place)
        except ImportError:
            spec = None
        if spec is None or spec.origin is None:
            raise FunctionError(
                name,
                f"the module {place} is not installed",
                f"install {place}, or give a file, such as judge.py:{attribute}",
            )
        file = Path(spec.origin)
    if not file.is_file():
        raise FunctionError(
            name,
            f"the file {place} does not exist",
            "give the path relative to the recipe's folder",
        )
    return Function(name, file, short_hash(f"{attribute}\n{file_digest(file)}"))


def _import(name: str, file: Path) -> ModuleType:
    place = name.rpartition(":")[0]
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        spec = importlib.util.spec_from_file_location(f"factory_recipe_{file.stem}", file)
        if spec is None or spec.loader is None:
            raise ImportError("not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(file.parent))
        try:
            spec.loader.exec_module(module)
        finally:
            sys.path.remove(str(file.parent))
        return module
    except (Exception, SystemExit) as error:
        raise FunctionError(
            name,
            f"{file.name} cannot be imported: {type(error).__name__}: {error}",
            "fix the file, or install the packages that it imports",
        ) from error
