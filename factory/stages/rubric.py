"""Rubrics: prompts for a judge, each with a parser and a scale for the scores.

The key of judgments hashes the prompt of the rubric, and the key of verdicts hashes its parser and
scale. A better parser can thus parse stored judgments again without calling a model.
"""

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from factory.errors import RubricError, one_line
from factory.input_files import parse_yaml, read_text, reason_of
from factory.paths import user_path
from factory.recipe import Judge, in_scale

PLACEHOLDERS = ("prompt", "answer", "answer_a", "answer_b", "reference", "criteria")
"""Placeholders that a rubric may contain in braces. `{prompt}` and `{answer}` are required. A
rubric that compares two answers has `{answer_a}` and `{answer_b}` instead of `{answer}`."""


PREFERENCES = {"A": 1.0, "B": 0.0, "tie": 0.5}
"""For each outcome of a comparison, the score of the answer that is shown first."""


HEADER = ("scale", "parser", "labels", "source", "description")
"""The fields of a rubric's header. A recipe may set `scale` and `parser` instead."""


MOST_LABELS = 101
"""Maximum number of labels that are derived from a scale, enough for a scale from 0 to 100."""


PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


_CLOSING_TAG = re.compile(r"</([A-Za-z][\w-]*)>")


@dataclass(frozen=True)
class Rubric:
    """A judge prompt, with a parser and a scale for the judge's scores."""

    template: str
    """Judge prompt, with placeholders."""
    parser: str
    """Regular expression whose only group is the score."""
    scale: tuple[float, float]
    """Lowest and highest score."""
    labels: tuple[str, ...] = ()
    """All scores as they are written in a judgment. By default the whole numbers of the scale, if
    its ends are whole numbers."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Scores of labels that are words. Empty if every label is a number."""
    source: str = ""
    """Source of the method. Source and description are not part of any key."""
    description: str = ""
    """One line about the criterion that the rubric grades."""

    @property
    def pattern(self) -> re.Pattern[str]:
        """The parser as a compiled regular expression."""
        return re.compile(self.parser)

    @property
    def placeholders(self) -> frozenset[str]:
        """Names of the placeholders in the judge prompt, such as `answer`."""
        return frozenset(PLACEHOLDER.findall(self.template))

    @property
    def compares(self) -> bool:
        """Whether the rubric asks the judge which of two answers is better. The score of an answer
        is then the share of comparisons that it won, where a tie counts as half."""
        return "answer_a" in self.placeholders

    def is_score(self, text: str) -> bool:
        """Return whether a text from a judgment is a score: a number, or one of the words."""
        try:
            self.score_of(text)
        except ValueError:
            return False
        return True

    def score_of(self, text: str) -> float:
        """Return the score of a label or another number. Raises ValueError for other texts."""
        return self.values[text] if text in self.values else float(text)

    @property
    def endings(self) -> set[str]:
        """The texts that turn one label into another, such as 0 for the labels 1 and 10."""
        pairs = itertools.permutations(self.labels, 2)
        return {long.removeprefix(label) for label, long in pairs if long.startswith(label)}

    @cached_property
    def tags(self) -> re.Pattern[str] | None:
        """Regular expression that finds the judge prompt's own tags in inserted text.

        It matches the `<` of each tag that the judge prompt closes. Case, spacing, and attributes
        do not matter. None if the judge prompt closes no tag.
        """
        names = "|".join(sorted(set(_CLOSING_TAG.findall(self.template))))
        if not names:
            return None
        name = rf"\s*(?:{names})(?![\w-])"
        # An opening tag needs its `>`, so "x <answer" (less than a variable) is not a tag.
        return re.compile(rf"<(?=\s*/{name}|{name}[^<>]*>)", re.IGNORECASE)


def load_rubric(judge: Judge, folder: Path) -> Rubric:
    """Load the rubric that is named in a judge's settings. The judge's parser and scale override
    those of the file.

    If the judge is constrained and the file's parser expects more than a bare label, the rubric
    gets a parser for bare labels. The judge prompt stays the same.

    Raises RubricError if the file, its header, or its placeholders are invalid.
    """
    name = judge.rubric
    header, template = _split(name, _read(name, folder))
    parser = _parser(name, judge.parser or header.get("parser"))
    scale = _scale(name, judge.scale or header.get("scale"))
    _check_placeholders(name, template)
    labels, values = _labels(name, header.get("labels"), scale)
    if judge.constrained and not judge.parser and not _finds_each(parser, labels):
        parser = _bare_label_parser(labels)
    source, description = (_text(name, header, field) for field in ("source", "description"))
    rubric = Rubric(template, parser, scale, labels, values, source, description)
    if rubric.compares and (scale != (0.0, 1.0) or set(labels) != set(PREFERENCES) or values):
        raise RubricError(
            f"rubric {name}",
            f"got the scale [{scale[0]:g}, {scale[1]:g}] and the labels [{', '.join(labels)}]",
            f"a comparison needs the scale [0, 1] and the labels [{', '.join(PREFERENCES)}]",
        )
    return rubric


def shipped_rubrics() -> list[str]:
    """Return the sorted names of the rubrics that ship with the factory."""
    files = (resources.files("factory.stages") / "rubrics").iterdir()
    return sorted(file.name.removesuffix(".md") for file in files if file.name.endswith(".md"))


def _read(name: str, folder: Path) -> str:
    shipped = resources.files("factory.stages") / "rubrics" / f"{name}.md"
    try:
        # A bare name is never a user's file, since a later release may ship such a rubric.
        if re.fullmatch(r"[a-z0-9_]+", name):
            return shipped.read_text(encoding="utf-8")
        return read_text(user_path(name, f"rubric {name[:60]}", base=folder))
    except OSError as error:
        raise RubricError(
            f"rubric {name}",
            f"the rubric cannot be read ({reason_of(error)})",
            "expected the path to a text file, or the name of a shipped rubric "
            f"({', '.join(shipped_rubrics())})",
        ) from None


def _split(name: str, text: str) -> tuple[dict[str, Any], str]:
    match = re.match(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL)
    try:
        header = parse_yaml(f"\n{match[1]}") if match else None
    except yaml.YAMLError as error:
        raise RubricError(
            f"rubric {name}",
            f"the header is not valid YAML: {one_line(error)}",
            "correct this line of the header",
        ) from None
    if match is None or not isinstance(header, dict):
        raise RubricError(
            f"rubric {name}",
            "the file has no valid YAML header",
            "start the file with the fields scale and parser between two --- lines, and put the "
            "judge prompt after the second line",
        )
    if unknown := [field for field in header if field not in HEADER]:
        raise RubricError(
            f"rubric {name}",
            f"the header has the unknown field {unknown[0]}",
            f"use only the fields {', '.join(HEADER)}",
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
        "expected a regular expression with one group, which captures the score",
        file=f"rubric {name}",
    )


def _finds_each(parser: str, labels: tuple[str, ...]) -> bool:
    """Return whether a parser finds a score in each bare label."""
    return all(re.search(parser, label) for label in labels)


def _bare_label_parser(labels: tuple[str, ...]) -> str:
    """Return the parser for a constrained judge, which writes nothing but a label."""
    longest_first = sorted(labels, key=len, reverse=True)
    return rf"\A\s*({'|'.join(map(re.escape, longest_first))})\s*\Z"


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


def _labels(
    name: str, labels: Any, scale: tuple[float, float]
) -> tuple[tuple[str, ...], dict[str, float]]:
    """Return a rubric's labels, and the scores of labels that are words."""
    match labels:
        case None:
            whole = all(end.is_integer() for end in scale) and scale[1] - scale[0] < MOST_LABELS
            numbers = range(int(scale[0]), int(scale[1]) + 1) if whole else ()
            return tuple(map(str, numbers)), {}
        case list() if all(map(_is_label, labels)):
            return tuple(map(str, labels)), {}
        case dict() if all(map(_is_label, labels)) and all(
            _is_number(score) and in_scale(score, scale) for score in labels.values()
        ):
            values = {str(label): float(score) for label, score in labels.items()}
            return tuple(values), values
    raise RubricError(
        "labels",
        f"got {labels!r}",
        "expected a list of labels, such as [1, 2, 3], or a score within the scale for each label, "
        "such as {bad: 0, good: 1}",
        file=f"rubric {name}",
    )


def _is_label(label: Any) -> bool:
    """Return whether YAML read a label as text or a number; it reads `yes` as a Boolean."""
    return (isinstance(label, str) and bool(label.strip())) or _is_number(label)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(name: str, header: Mapping[str, Any], field: str) -> str:
    text = header.get(field)
    if text is None or isinstance(text, str):
        return text or ""
    raise RubricError(
        field,
        f"got {text!r}",
        "put the value in quotes, so that YAML reads it as text",
        file=f"rubric {name}",
    )


def _check_placeholders(name: str, template: str) -> None:
    found = set(PLACEHOLDER.findall(template))
    if unknown := sorted(found - set(PLACEHOLDERS)):
        raise RubricError(
            f"rubric {name}",
            f"the judge prompt has the unknown placeholder {{{unknown[0]}}}",
            "use only " + ", ".join(f"{{{known}}}" for known in PLACEHOLDERS),
        )
    answers = {"answer_a", "answer_b"} if found & {"answer_a", "answer_b"} else {"answer"}
    if missing := sorted(({"prompt"} | answers) - found):
        raise RubricError(
            f"rubric {name}",
            f"the placeholder {{{missing[0]}}} is missing",
            "add the placeholder to the judge prompt",
        )
    if len(answers) == 2 and "answer" in found:
        raise RubricError(
            f"rubric {name}",
            "the judge prompt contains both {answer} and {answer_a}",
            "use {answer} to score one answer, or {answer_a} and {answer_b} to compare two answers",
        )
