"""Rubric files: the judge prompt with its parser, scale, and labels.

The prompt of a rubric identifies judgments; its parser and scale identify verdicts, so a better
parser re-reads stored judgments without calling a model.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from factory.errors import RubricError
from factory.recipe import Judge

PLACEHOLDERS = ("prompt", "answer", "answer_a", "answer_b", "reference", "criteria")
"""What a rubric may name in braces. `{prompt}` and `{answer}` are required, or `{answer_a}` and
`{answer_b}` if it compares two answers."""


PREFERENCES = {"A": 1.0, "B": 0.0, "tie": 0.5}
"""The outcomes of a comparison, and the score of each for the answer that is shown first."""


HEADER = ("scale", "parser", "labels", "source", "description")
"""The fields of a rubric's header. A recipe may set `scale` and `parser` instead."""


MOST_LABELS = 101
"""The most whole numbers of a scale that become labels: 0 to 100 is the longest scale in use."""


PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


_CLOSING_TAG = re.compile(r"</([A-Za-z][\w-]*)>")


@dataclass(frozen=True)
class Rubric:
    template: str
    """The judge prompt, with placeholders."""
    parser: str
    """A regular expression with one group: the score."""
    scale: tuple[float, float]
    """Lowest and highest score."""
    labels: tuple[str, ...] = ()
    """The scores as they are written, where they can be counted: of a scale between whole numbers,
    these numbers, if the header does not say otherwise."""
    source: str = ""
    """Where the method comes from. Like the description, part of no key."""
    description: str = ""
    """What it grades, in one line."""

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(self.parser)

    @property
    def placeholders(self) -> frozenset[str]:
        return frozenset(PLACEHOLDER.findall(self.template))

    @property
    def compares(self) -> bool:
        """Whether it shows two answers and asks which is better. The score of an answer is then its
        share of won comparisons, a tie being half."""
        return "answer_a" in self.placeholders

    @cached_property
    def tags(self) -> re.Pattern[str] | None:
        """Finds the `<` of a tag that the template itself closes, in any case, spacing and with
        any attributes; None where the template closes none."""
        names = "|".join(sorted(set(_CLOSING_TAG.findall(self.template))))
        if not names:
            return None
        name = rf"\s*(?:{names})(?![\w-])"
        # To write less than a variable of such a name is no opening tag: that must have its end.
        return re.compile(rf"<(?=\s*/{name}|{name}[^<>]*>)", re.IGNORECASE)


def load_rubric(judge: Judge, folder: Path) -> Rubric:
    """Return the rubric that a judge names. The judge's own parser and scale override the file's.

    Raises RubricError if the file, its header, or its placeholders are not as expected.
    """
    name = judge.rubric
    header, template = _split(name, _read(name, folder))
    parser = _parser(name, judge.parser or header.get("parser"))
    scale = _scale(name, judge.scale or header.get("scale"))
    _check_placeholders(name, template)
    labels = _labels(name, header.get("labels"), scale)
    source, description = (_text(name, header, field) for field in ("source", "description"))
    rubric = Rubric(template, parser, scale, labels, source, description)
    if rubric.compares and (scale != (0.0, 1.0) or set(labels) != set(PREFERENCES)):
        raise RubricError(
            f"rubric {name}",
            "it compares two answers",
            f"expected scale [0, 1] and labels [{', '.join(PREFERENCES)}]",
        )
    return rubric


def shipped_rubrics() -> list[str]:
    """Return the names of the rubrics that ship with the factory, sorted."""
    files = (resources.files("factory.stages") / "rubrics").iterdir()
    return sorted(file.name.removesuffix(".md") for file in files if file.name.endswith(".md"))


def _read(name: str, folder: Path) -> str:
    shipped = resources.files("factory.stages") / "rubrics" / f"{name}.md"
    # A bare name is never a file of the user's: a later release may ship a rubric of that name.
    source = shipped if re.fullmatch(r"[a-z0-9_]+", name) else folder / Path(name).expanduser()
    try:
        return source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RubricError(
            f"rubric {name}",
            f"cannot be read ({type(error).__name__})",
            "expected a text file, or the name of a rubric that ships with the factory "
            f"({', '.join(shipped_rubrics())})",
        ) from None


def _split(name: str, text: str) -> tuple[dict[str, Any], str]:
    match = re.match(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL)
    try:
        header = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:
        header = None
    if match is None or not isinstance(header, dict):
        raise RubricError(
            f"rubric {name}",
            "has no header",
            "expected a header in YAML between two lines of ---, with scale and parser, then the "
            "judge prompt",
        )
    if unknown := [field for field in header if field not in HEADER]:
        raise RubricError(
            f"rubric {name}",
            f"unknown field {unknown[0]} in its header",
            f"expected {', '.join(HEADER)}",
        )
    return header, match[2].strip()


def _parser(name: str, parser: Any) -> str:
    try:
        if isinstance(parser, str) and re.compile(parser).groups == 1:
            return parser
    except re.error:
        pass
    raise RubricError(
        "parser",
        f"got {parser!r}",
        "expected a regular expression with one group",
        file=f"rubric {name}",
    )


def _scale(name: str, scale: Any) -> tuple[float, float]:
    match scale:
        case [int() | float() as lowest, int() | float() as highest] if (
            -math.inf < lowest < highest < math.inf
        ):
            return float(lowest), float(highest)
    raise RubricError(
        "scale",
        f"got {scale!r}",
        "expected two numbers, [lowest, highest]",
        file=f"rubric {name}",
    )


def _labels(name: str, labels: Any, scale: tuple[float, float]) -> tuple[str, ...]:
    if labels is None:
        whole = all(end.is_integer() for end in scale) and scale[1] - scale[0] < MOST_LABELS
        return tuple(str(n) for n in range(int(scale[0]), int(scale[1]) + 1)) if whole else ()
    if isinstance(labels, list) and all(isinstance(label, str | int) for label in labels):
        return tuple(str(label) for label in labels)
    raise RubricError(
        "labels", f"got {labels!r}", "expected a list of scores", file=f"rubric {name}"
    )


def _text(name: str, header: Mapping[str, Any], field: str) -> str:
    text = header.get(field)
    if text is None or isinstance(text, str):
        return text or ""
    raise RubricError(field, f"got {text!r}", "expected a text (in quotes)", file=f"rubric {name}")


def _check_placeholders(name: str, template: str) -> None:
    found = set(PLACEHOLDER.findall(template))
    if unknown := sorted(found - set(PLACEHOLDERS)):
        raise RubricError(
            f"rubric {name}",
            f"unknown placeholder {{{unknown[0]}}}",
            "expected " + ", ".join(f"{{{known}}}" for known in PLACEHOLDERS),
        )
    answers = {"answer_a", "answer_b"} if found & {"answer_a", "answer_b"} else {"answer"}
    if missing := sorted(({"prompt"} | answers) - found):
        raise RubricError(
            f"rubric {name}",
            f"the placeholder {{{missing[0]}}} is missing",
            "name it where the judge should read it",
        )
    if len(answers) == 2 and "answer" in found:
        raise RubricError(
            f"rubric {name}",
            "names {answer} next to {answer_a}",
            "expected one answer, or two",
        )
