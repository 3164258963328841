"""Python functions that a recipe names: `file.py:function` or `module:function`.

A function's identity is its name and its file's bytes. A change of the file repeats what the
function decides; a change of the file's imports does not.
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
    name: str
    """As the recipe writes it."""
    file: Path
    digest: str

    def load(self) -> Callable[..., Any]:
        """Import the file and return the function. Raises FunctionError if it cannot."""
        module = _import(self.name, self.file)
        found = getattr(module, self.name.rpartition(":")[2], None)
        if not callable(found):
            raise FunctionError(
                self.name,
                f"{self.file.name} has no such function",
                "expected file.py:function or module:function",
            )
        loaded: Callable[..., Any] = found
        return loaded


def find_function(name: str, folder: Path) -> Function:
    """Find the file of a function without running it. `folder` is the recipe's."""
    place, colon, attribute = name.rpartition(":")
    if not colon or not place or not attribute.isidentifier():
        raise FunctionError(
            name, "names no function", "expected file.py:function or module:function"
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
                f"no module {place} is installed",
                "install it, or name a file",
            )
        file = Path(spec.origin)
    if not file.is_file():
        raise FunctionError(
            name,
            f"no such file next to the recipe: {place}",
            "expected file.py:function or module:function",
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
            "correct the file, or install what it needs",
        ) from error
