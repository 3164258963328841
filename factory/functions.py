"""Find and import the Python functions that a recipe names.

A name has the form `file.py:function` or `module:function`. A function is identified by its name
and the bytes of its file. Changing the file reruns the stages that call the function. Changing a
module that the file imports does not.
"""

import ast
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from factory.errors import FunctionError
from factory.fingerprint import file_digest, short_hash
from factory.paths import user_path
from factory.texts import describe_error


@dataclass(frozen=True)
class Function:
    """A reference to a Python function that a recipe names."""

    name: str
    """The function as the recipe writes it, such as `file.py:function`."""
    file: Path
    """The Python file that defines the function."""
    digest: str
    """Hash of the function's name and of the file's bytes."""

    @property
    def is_file(self) -> bool:
        """Whether the recipe names a file rather than a module."""
        return self.name.rpartition(":")[0].endswith(".py")

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


def find_function(name: str, folder: Path, n_arguments: int = 1) -> Function:
    """Find a Python function by a name such as `file.py:function`, without importing its file.

    `folder` is the recipe's folder, which file names are relative to. Raises FunctionError if the
    name is invalid, if the file or module is missing, or if the source code shows that there is no
    such function. Also raises it if the function does not take `n_arguments` positional arguments.
    """
    place, colon, attribute = name.rpartition(":")
    if not colon or not place or not attribute.isidentifier():
        raise FunctionError(
            name,
            "the value is not the name of a function",
            "expected file.py:function or module:function",
        )
    if place.endswith(".py"):
        file = user_path(place, name, base=folder).resolve()
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
    if file.suffix == ".py":
        _check_source(name, file, n_arguments)
    return Function(name, file, short_hash(f"{attribute}\n{file_digest(file)}"))


def _check_source(name: str, file: Path, n_arguments: int) -> None:
    """Raise FunctionError if the source code in a file cannot define the function `name`.

    A function that is decorated, imported, or assigned may take any arguments.
    """
    attribute = name.rpartition(":")[2]
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        fault = f"{file.name} cannot be imported: {describe_error(error)}"
        raise FunctionError(name, fault, "correct the file") from None
    found = [node for node in ast.walk(tree) if _may_define(node, attribute)]
    if not found:
        raise FunctionError(
            name,
            f"{file.name} has no such function",
            "choose a function that the file defines",
        )
    if not all(node in tree.body for node in found):
        return  # the name is imported, assigned, or defined under a condition
    match found[-1]:
        case ast.AsyncFunctionDef():
            raise FunctionError(name, "the function is asynchronous", "define it with def")
        case ast.FunctionDef(name=defined, args=takes, decorator_list=[]) if defined == attribute:
            _check_arguments(name, takes, n_arguments)


def _may_define(node: ast.AST, attribute: str) -> bool:
    """Return whether a node of a module's source code may define a name."""
    match node:
        case ast.FunctionDef(name=defined) | ast.AsyncFunctionDef(name=defined):
            return defined in (attribute, "__getattr__")
        case ast.ClassDef(name=defined) | ast.Name(id=defined, ctx=ast.Store()):
            return defined == attribute
        case ast.Name(id=called):
            return called in ("globals", "exec", "setattr")
        case ast.alias(name=imported, asname=defined):
            return (defined or imported) in (attribute, "*")
    return False


def _check_arguments(name: str, takes: ast.arguments, n_arguments: int) -> None:
    """Raise FunctionError if a function cannot be called with `n_arguments` arguments."""
    most = len(takes.posonlyargs) + len(takes.args)
    least = most - len(takes.defaults)
    required = [
        keyword.arg
        for keyword, default in zip(takes.kwonlyargs, takes.kw_defaults, strict=True)
        if default is None
    ]
    if n_arguments < least or (n_arguments > most and takes.vararg is None) or required:
        raise FunctionError(
            name,
            f"the function cannot be called with {n_arguments} positional "
            f"argument{'s' * (n_arguments > 1)}",
            "change its parameters: def "
            f"{name.rpartition(':')[2]}({'rows' if n_arguments == 1 else 'messages, seed'})",
        )


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
            f"{file.name} cannot be imported: {describe_error(error)}",
            "fix the file, or install the packages that it imports",
        ) from error
