"""Read the text, JSON, and YAML that a user names, and refuse what has two meanings or no end.

A file must be a regular file: reading a pipe or a device could block forever. JSON and YAML must
not give a key twice, because their parsers would silently keep one of the two values.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

from factory.errors import one_line
from factory.texts import Undecodable, decode_text, display_line, has_half_pair, join_pairs, shorten

MOST_BYTES = 1_000_000
"""Maximum size of a recipe, rubric, or pair policy. Parsing more YAML would take too long."""

MOST_NODES = 100_000
"""Maximum number of values in a YAML text, where every alias counts as a copy of its anchor."""


class UnsuitableFile(OSError):
    """A file that cannot be read: it is a pipe or a device, too large, or not UTF-8."""


def read_text(path: Path, most: int | None = MOST_BYTES) -> str:
    """Return the text of a UTF-8 file with at most `most` bytes.

    Line ends become line feeds. Raises OSError if the file cannot be read, or is not UTF-8.
    """
    try:
        return decode_text(read_content(path, most))
    except Undecodable as error:
        raise UnsuitableFile(str(error)) from None


def read_content(path: Path, most: int | None = MOST_BYTES) -> bytes:
    """Return the content of a file with at most `most` bytes. Raises OSError if it cannot be
    read."""
    # O_NONBLOCK: opening a pipe would otherwise wait for a process that writes to it.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise UnsuitableFile("it is not a regular file")
        content = file.read() if most is None else file.read(most + 1)
    if most is not None and len(content) > most:
        raise UnsuitableFile(f"it is larger than {most:,} bytes")
    return content


def reason_of(error: OSError) -> str:
    """Return the reason why a file cannot be read."""
    return error.strerror or str(error)


class DuplicateKey(ValueError):
    """A JSON object that gives a key twice."""


def parse_json(text: str) -> Any:
    """Parse JSON. Raises DuplicateKey if an object gives a key twice, and ValueError if the text is
    not valid JSON."""
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DuplicateKey(f"the key {json.dumps(twice, ensure_ascii=False)} is given twice")
    return found


class StrictLoader(yaml.SafeLoader):
    """A YAML loader that refuses duplicate keys, merge keys, aliases that grow without end, and
    halves of characters."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        _count(node, {}, set())
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        if isinstance(value, str) and has_half_pair(value):
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"line {line}: an escape is half of a surrogate pair")
        return join_pairs(value) if isinstance(value, str) else value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith(":merge"):
                raise yaml.YAMLError(f"line {line}: expected a field name before the colon")
            if key_node.value in seen:
                raise yaml.YAMLError(f"line {line}: the field {key_node.value[:60]} is set twice")
            seen.add(key_node.value)
        found = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"line {line}: two fields of the mapping are the same")
        return found


def _count(node: yaml.Node | None, known: dict[int, int], open_nodes: set[int]) -> int:
    """Return the number of values in a part of a YAML text, with copies for aliases."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) in open_nodes:
        line = node.start_mark.line + 1
        raise yaml.YAMLError(f"line {line}: the value contains an alias of itself")
    if id(node) not in known:
        open_nodes.add(id(node))
        pairs = isinstance(node, yaml.MappingNode)
        parts = [part for pair in node.value for part in pair] if pairs else node.value
        known[id(node)] = 1 + sum(_count(part, known, open_nodes) for part in parts)
        open_nodes.discard(id(node))
    if known[id(node)] > MOST_NODES:
        line = node.start_mark.line + 1
        raise yaml.YAMLError(f"line {line}: the text has more than {MOST_NODES:,} values")
    return known[id(node)]


def parse_yaml(text: str, loader: type[StrictLoader] = StrictLoader) -> Any:
    """Parse YAML. Raises YAMLError if the text is not valid YAML, or if the loader refuses it."""
    try:
        return yaml.load(text, Loader=loader)
    except RecursionError:
        raise yaml.YAMLError("the values are nested too deeply") from None
    except ReaderError as error:
        line, char = text.count("\n", 0, error.position) + 1, display_line(chr(error.character))
        raise yaml.YAMLError(f"line {line}: the character {char} is not allowed") from None
    except yaml.MarkedYAMLError as error:
        raise yaml.YAMLError(_describe(error)) from None
    except ValueError as error:  # such as the date 2026-13-01
        raise yaml.YAMLError(f"a value is not valid: {error}") from None
    except (TypeError, LookupError, AttributeError):  # such as `!!bool x`
        raise yaml.YAMLError("a value does not fit its tag") from None


def _describe(error: yaml.MarkedYAMLError) -> str:
    """Describe a YAML error in one line. PyYAML would quote a part of the text."""
    mark = error.problem_mark
    line = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
    context = f" {error.context}" if error.context else ""
    return shorten(one_line(f"{line}{error.problem}{context}"), 200)
