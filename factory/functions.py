"""Python functions that a recipe names: `file.py:function` or `module:function`.

A function's identity is its name and its file's bytes: change the file and what it decided is
decided anew. What the file imports is not looked at.
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
        """Imports the file and returns the function. Raises FunctionError if it cannot."""
        module = _import(self.name, self.file)
        found = getattr(module, self.name.rpartition(":")[2], None)
        if not callable(found):
            raise FunctionError(f"{self.name}: {self.file.name} has no such function")
        loaded: Callable[..., Any] = found
        return loaded


def find_function(name: str, folder: Path) -> Function:
    """Finds the file of a function without running it. `folder` is where the recipe lies."""
    place, colon, attribute = name.rpartition(":")
    if not colon or not place or not attribute.isidentifier():
        raise FunctionError(f"{name}: expected file.py:function or module:function")
    if place.endswith(".py"):
        file = (folder / Path(place).expanduser()).resolve()
    else:
        try:
            spec = importlib.util.find_spec(place)
        except ImportError:
            spec = None
        if spec is None or spec.origin is None:
            raise FunctionError(f"{name}: no module {place} is installed")
        file = Path(spec.origin)
    if not file.is_file():
        raise FunctionError(f"{name}: no such file beside the recipe: {place}")
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
            f"{name}: {file.name} cannot be imported: {type(error).__name__}: {error}"
        ) from error
