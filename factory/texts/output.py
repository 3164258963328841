"""Print texts. No other module of the command writes to standard output or standard error.

Results go to standard output. Progress and errors go to standard error.
"""

import io
import json
import math
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO, TextIO

from factory.texts.display import display_text, escape_hidden
from factory.texts.reading import clean_text
from factory.texts.secrets import mask_secrets


def say(text: str = "", *, error: bool = False, out: TextIO | None = None) -> None:
    """Print a text and a line break. With `error`, print to standard error."""
    _write(display_text(text), out or (sys.stderr if error else sys.stdout))


def say_code(text: str) -> None:
    """Print a text for another program. In a pipe or a file, it is unchanged."""
    _write(display_text(text) if is_terminal() else clean_text(text), sys.stdout, end="")


def say_json(value: Any, *, indent: int | None = 1) -> None:
    """Print a value as JSON."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    ascii_only = not encoding.lower().startswith("utf")
    _write(json_text(value, indent=indent, ascii_only=ascii_only), sys.stdout)


def replace_unencodable() -> None:
    """Let standard output replace the characters that its encoding lacks, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _write(text: str, stream: TextIO, end: str = "\n") -> None:
    stream.write(f"{text}{end}")
    stream.flush()


def binary_output() -> BinaryIO:
    """Return standard output for bytes, such as Parquet files."""
    sys.stdout.flush()
    return sys.stdout.buffer


def is_terminal(*, error: bool = False) -> bool:
    """Return whether standard output, or with `error` standard error, is a terminal."""
    return (sys.stderr if error else sys.stdout).isatty()


def json_text(value: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """Return a value as JSON, whose strings are the original texts.

    Hidden characters and surrogates are written as `\\u` escapes. Infinity and NaN, which JSON
    lacks, become null. The values of environment variables with secrets are masked.
    """
    text = json.dumps(_plain(value), ensure_ascii=ascii_only, indent=indent, default=str)
    return escape_hidden(text, lambda char: json.dumps(char)[1:-1])


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return mask_secrets(value, forms=False)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
