"""One input of the campaign: a working toy with a small mutation, and what may come out of it."""

import datetime
import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from toys import Toy


def small_toy(folder: Path) -> Toy:
    """Create a recipe with four prompts, two answers each, and no training."""
    toy = Toy(folder, n_prompts=4)
    toy.write(
        loop={"iterations": 0},
        sampling={"draws": 2},
        judge={"draws": 1},
        prompts={"source": "toy", "license": "MIT"},
        # Eight random scores may all be equal or all be missing.
        stop_if={"equal_scores": False, "unparsed": 1.0},
    )
    return toy


@dataclass
class Case:
    """An input of the campaign."""

    kind: str
    number: int
    rng: random.Random
    base: Path
    """Folder of everything that belongs to the input. Nothing else may be written in it than the
    lake and the folders in `outs`."""
    toy: Toy
    finished: Path
    """Folder with the recipe of a toy and its finished lake."""
    runs: float = 0.2
    """Share of the inputs of which the recipe is run, if its plan is accepted."""
    notes: list[str] = field(default_factory=list)
    """What was mutated."""
    commands: list[list[str]] = field(default_factory=list)
    """Commands to run. By default, `factory plan` and, for some inputs, `factory run`."""
    environment: dict[str, str] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    is_fresh: bool = False
    preload: Sequence[str] = ()
    around: str = ""
    cwd: Path | None = None
    lake: Path | None = None
    outs: list[Path] = field(default_factory=list)
    must_fail: bool = False
    """Whether the input is certainly invalid, so that a success is a fault."""
    may_stop: bool = False
    """Whether work with valid input may end with exit code 1 or 3 and a sentence."""
    answers_are_words: bool = True
    """Whether the default script of the scripted engine answers in this process."""

    def __post_init__(self) -> None:
        self.lake = self.toy.lake
        self.cwd = self.toy.folder

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.number}"

    def note(self, *words: object) -> None:
        text = " ".join(str(word) for word in words)
        self.notes.append(text if len(text) < 400 else f"{text[:400]}…")

    def pick(self, values: Sequence[Any]) -> Any:
        return self.rng.choice(values)

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file into the recipe's folder, and return its path."""
        path = self.toy.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogatepass")
        path.write_bytes(content)
        return path

    def set(self, path: Sequence[str], value: Any) -> None:
        """Set a field of the recipe, and create its section if necessary."""
        section = self.toy.fields
        for name in path[:-1]:
            inner = section.get(name)
            if name == "model" and isinstance(inner, str):
                inner = {"path": inner}
            section[name] = inner if isinstance(inner, dict) else {}
            section = section[name]
        section[path[-1]] = value

    def write_recipe(self) -> None:
        self.toy.path.write_bytes(dump(self.toy.fields).encode("utf-8", "surrogatepass"))


def copy_finished(case: Case) -> None:
    """Give the case the recipe and the lake of a finished run."""
    shutil.rmtree(case.toy.folder)
    shutil.copytree(case.finished, case.toy.folder)


Generator = Callable[[Case], None]


@dataclass(frozen=True)
class Kind:
    """A class of inputs."""

    generate: Generator
    inputs: int
    """Number of its inputs among the 300 of CI."""
    runs: float = 0.2


def dump(value: Any) -> str:
    """Return a value as YAML, with every object written where it stands."""

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=False)


def nested(depth: int, kind: type = list) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


TEXTS = (
    "",
    " ",
    "\n",
    "~",
    "null",
    "yes",
    "0",
    "1e3",
    "x",
    "é",
    "ﬁ\u200b\u202eb",
    "日本語",
    "\ud800",
    "a\x00b",
    "\x1b[31mred\x1b[0m",
    "\x85",
    "\ufeff",
    "a" * 300,
    "a" * 100_000,
    "../../../etc/passwd",
    "/dev/null",
    "/dev/zero",
    "~nobody/x",
    "~",
    ".",
    "..",
    "/",
    "a/b/c",
    "it's",
    'say "hi"',
    "a; drop table pairs",
    "{answer}",
    "{{ x }}",
    "%s%n",
    "$HOME",
    "*",
    "[0-9]",
    "a=b/c=d",
    "-1",
    "--help",
    "(",
    "(a+)+$",
    "\\",
    "http://localhost:1/v1",
    "file.py:function",
    "os:getcwd",
    "m0",
    "recipe.yaml",
    "prompts.jsonl",
    "gold.py:grade",
    "nan",
    "inf",
    "1/0",
    "<script>alert(1)</script>",
    "[link](http://example.com)",
)

NUMBERS = (
    0,
    -0.0,
    1,
    -1,
    2,
    3,
    7,
    1023,
    1024,
    1025,
    2**31 - 1,
    2**31,
    2**32,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64,
    -(2**63) - 1,
    10**30,
    10**400,
    0.1,
    0.5,
    0.999999999999,
    1.0,
    1.0000001,
    1e-9,
    1e-320,
    1e10,
    1e16,
    1e308,
    -1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
)

OTHERS = (
    None,
    True,
    False,
    [],
    {},
    [None],
    [[]],
    [{}],
    ["a", 1],
    [1, 2, 3],
    [0, 5],
    ["a", "a"],
    [5, 0],
    {"a": 1},
    {"": ""},
    {1: 2},
    {None: None},
    {"name": "scripted"},
    {"path": "m0"},
    b"bytes",
    b"\xff\xfe",
    datetime.date(2025, 1, 1),
    datetime.datetime(2025, 1, 1, 12),
    {"a", "b"},
    nested(40),
    nested(40, dict),
    nested(150),
    list(range(1000)),
    {f"k{number}": number for number in range(300)},
)


def hostile(rng: random.Random) -> Any:
    """Return a value that hardly any field expects."""
    return rng.choice(rng.choice((TEXTS, NUMBERS, OTHERS)))


def show(value: Any) -> str:
    text = ascii(value)
    return text if len(text) < 80 else f"{text[:80]}… ({len(text)} characters)"


# bytes


def _truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _flip(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data or b"x")
    for _ in range(rng.choice((1, 1, 3, 20))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _insert(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    piece = rng.choice(
        (
            b"\x00",
            b"\xff",
            b"\xc3",
            b"\xed\xa0\x80",
            b"\r",
            b"\t",
            b"\x0b",
            b"\x1b[2J",
            b"\xef\xbb\xbf",
            "\u2028".encode(),
            "\u202e".encode(),
            b"'",
            b'"',
            b"{",
            b"}",
            b"\\",
            b"\\ud800",
            b"\n\n",
            b"---\n",
            b"\xf0\x9f\x98\x80",
            b"9" * 5000,
        )
    )
    return data[:at] + piece + data[at:]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.randrange(1, 60))
    return data[:end] + data[start:end] * rng.choice((1, 2, 50)) + data[end:]


def _recode(rng: random.Random, data: bytes) -> bytes:
    text = data.decode("utf-8", "replace") + rng.choice(("", "é", "日本"))
    encoding = rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp1252"))
    return text.encode(encoding, "replace")


def _lines(rng: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    match rng.randrange(4):
        case 0:
            rng.shuffle(lines)
        case 1:
            return data.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\x85", b"")))
        case 2 if lines:
            lines.pop(rng.randrange(len(lines)))
        case _ if lines:
            lines.append(rng.choice(lines))
    return b"".join(lines)


def _other(rng: random.Random, _: bytes) -> bytes:
    return rng.choice(
        (
            b"",
            b" ",
            b"\n",
            b"\x00" * 100,
            b"null",
            b"[]",
            b"{}",
            b"3",
            b'"text"',
            b"[" * 50_000,
            b"PAR1",
            b"\x1f\x8b\x08\x00",
            b"PK\x03\x04",
            b"<html><body>404</body></html>",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n",
            random.Random(rng.random()).randbytes(500),
        )
    )


def mangle(rng: random.Random, data: bytes) -> tuple[str, bytes]:
    """Damage bytes in one way, and return its name and the result."""
    way = rng.choice((_truncate, _flip, _insert, _insert, _repeat, _recode, _lines, _other))
    return way.__name__.strip("_"), way(rng, data)


# JSON


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values inside a JSON value."""
    found = [at] if at else []
    if isinstance(value, dict):
        for name, inner in value.items():
            found += places(inner, (*at, name))
    elif isinstance(value, list):
        for place, inner in enumerate(value[:50]):
            found += places(inner, (*at, place))
    return found


def change_json(case: Case, value: Any) -> Any:
    """Change one value inside a JSON value, remove it, or add another."""
    value = json.loads(json.dumps(value))
    path = case.pick(places(value))
    holder = value
    for part in path[:-1]:
        holder = holder[part]
    action = case.pick(("set", "set", "set", "remove", "add"))
    where = "/".join(map(str, path))
    if action == "remove":
        del holder[path[-1]]
    elif action == "add" and isinstance(holder, dict):
        where = case.pick(("unknown", "", "a b", "é", f"{path[-1]} "))
        holder[where] = json_hostile(case.rng)
    else:
        holder[path[-1]] = json_hostile(case.rng)
        where += f" = {show(holder[path[-1]])}"
    case.note("JSON:", action, where)
    return value


def json_hostile(rng: random.Random) -> Any:
    """Return a hostile value that JSON can represent."""
    while True:
        value = hostile(rng)
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            continue
        return value


def write_json(case: Case, name: str, value: Any) -> None:
    case.write(name, json.dumps(value).encode())
