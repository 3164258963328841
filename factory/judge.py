"""The judge: a rubric and an answer make messages, a judgment's text makes a verdict.

Pure: no model, no file but the rubric's own, no table. The prompt of a rubric identifies
judgments; its parser and scale identify verdicts, so that a better parser asks no model.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from factory.errors import RubricError
from factory.recipe import Judge, in_scale

PLACEHOLDERS = ("prompt", "answer", "answer_a", "answer_b", "reference", "criteria")
"""What a rubric may name in braces: `{prompt}` and `{answer}` it must, or `{answer_a}` and
`{answer_b}` if it compares two."""

PREFERENCES = {"A": 1.0, "B": 0.0, "tie": 0.5}
"""What a comparison may come to, and what it counts for the answer that is shown first."""

HEADER = ("scale", "parser", "labels", "source", "description")
"""What a rubric's header may say; a recipe may say `scale` and `parser` instead."""

MOST_LABELS = 101
"""Scores of a scale that are taken for labels; ours: 0 to 100 is the longest scale in use."""

MIN_MASS = 0.5
"""The least probability that the labels hold together where the score stands; ours. With less, the
judge was about to write something else there."""

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
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
        return frozenset(_PLACEHOLDER.findall(self.template))

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


@dataclass(frozen=True)
class Verdict:
    score: float | None
    reason: str | None
    """Why there is no score."""


def load_rubric(judge: Judge, folder: Path) -> Rubric:
    """The rubric that a recipe's judge names, with the recipe's own parser and scale over it.

    Raises RubricError where the file, its header or its placeholders are not as expected.
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
            f"rubric {name}: it compares two answers: expected scale [0, 1] and labels "
            f"[{', '.join(PREFERENCES)}]"
        )
    return rubric


def shipped_rubrics() -> list[str]:
    """The names of the rubrics that ship with the factory, sorted."""
    files = (resources.files("factory") / "rubrics").iterdir()
    return sorted(file.name.removesuffix(".md") for file in files if file.name.endswith(".md"))


def _read(name: str, folder: Path) -> str:
    shipped = resources.files("factory") / "rubrics" / f"{name}.md"
    # A bare name is never a file of the user's: a later release may ship a rubric of that name.
    source = shipped if re.fullmatch(r"[a-z0-9_]+", name) else folder / Path(name).expanduser()
    try:
        return source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RubricError(
            f"rubric {name}: cannot be read ({type(error).__name__}): expected a text file, "
            f"or the name of a rubric that ships with the factory ({', '.join(shipped_rubrics())})"
        ) from None


def _split(name: str, text: str) -> tuple[dict[str, Any], str]:
    match = re.match(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL)
    try:
        header = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:
        header = None
    if match is None or not isinstance(header, dict):
        raise RubricError(
            f"rubric {name}: expected a header in YAML between two lines of ---, "
            "with scale and parser, then the judge prompt"
        )
    if unknown := [field for field in header if field not in HEADER]:
        raise RubricError(
            f"rubric {name}: unknown field {unknown[0]} in its header: expected "
            + ", ".join(HEADER)
        )
    return header, match[2].strip()


def _parser(name: str, parser: Any) -> str:
    try:
        if isinstance(parser, str) and re.compile(parser).groups == 1:
            return parser
    except re.error:
        pass
    raise RubricError(
        f"rubric {name}: parser: got {parser!r}, expected a regular expression with one group"
    )


def _scale(name: str, scale: Any) -> tuple[float, float]:
    match scale:
        case [int() | float() as lowest, int() | float() as highest] if (
            -math.inf < lowest < highest < math.inf
        ):
            return float(lowest), float(highest)
    raise RubricError(
        f"rubric {name}: scale: got {scale!r}, expected two numbers, [lowest, highest]"
    )


def _labels(name: str, labels: Any, scale: tuple[float, float]) -> tuple[str, ...]:
    if labels is None:
        whole = all(end.is_integer() for end in scale) and scale[1] - scale[0] < MOST_LABELS
        return tuple(str(n) for n in range(int(scale[0]), int(scale[1]) + 1)) if whole else ()
    if isinstance(labels, list) and all(isinstance(label, str | int) for label in labels):
        return tuple(str(label) for label in labels)
    raise RubricError(f"rubric {name}: labels: got {labels!r}, expected a list of scores")


def _text(name: str, header: Mapping[str, Any], field: str) -> str:
    text = header.get(field)
    if text is None or isinstance(text, str):
        return text or ""
    raise RubricError(f"rubric {name}: {field}: got {text!r}, expected a text (in quotes)")


def _check_placeholders(name: str, template: str) -> None:
    found = set(_PLACEHOLDER.findall(template))
    if unknown := sorted(found - set(PLACEHOLDERS)):
        raise RubricError(
            f"rubric {name}: unknown placeholder {{{unknown[0]}}}: expected "
            + ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
        )
    answers = {"answer_a", "answer_b"} if found & {"answer_a", "answer_b"} else {"answer"}
    if missing := sorted(({"prompt"} | answers) - found):
        raise RubricError(f"rubric {name}: the placeholder {{{missing[0]}}} is missing")
    if len(answers) == 2 and "answer" in found:
        raise RubricError(
            f"rubric {name}: names {{answer}} beside {{answer_a}}: expected one answer, or two"
        )


def render(
    rubric: Rubric, item: Mapping[str, str | None], control: Sequence[str] = ()
) -> list[dict[str, str]]:
    """The messages that ask for a judgment; `control` are the judge's control tokens.

    What is filled in is untrusted. Placeholders are replaced in one pass over the template, so
    that a placeholder's name inside an answer stays text. Where the template encloses what it is
    given in tags, a value cannot close or open one of them: the `<` of these tags becomes `&lt;`
    in a value. So does that of the control tokens, which a chat template would let through as such
    (`<|im_end|>` in an answer would end the judge's turn); of others a space parts the first
    character from the rest. Nothing else is changed.
    """
    tokens = re.compile("|".join(map(re.escape, sorted(control, key=len, reverse=True))))

    def defused(token: re.Match[str]) -> str:
        first, rest = token[0][0], token[0][1:]
        return f"&lt;{rest}" if first == "<" else f"{first} {rest}"

    def value(match: re.Match[str]) -> str:
        text = item.get(match[1]) or ""
        text = tokens.sub(defused, text) if control else text
        return rubric.tags.sub("&lt;", text) if rubric.tags else text

    return [{"role": "user", "content": _PLACEHOLDER.sub(value, rubric.template)}]


def transcript(messages: Sequence[Mapping[str, Any]]) -> str:
    """A conversation as the judge reads it: a single user turn bare, else a line for each turn."""
    if len(messages) == 1:
        return str(messages[0]["content"] or "")
    return "\n\n".join(
        f"{str(message['role']).capitalize()}: {message['content'] or ''}" for message in messages
    )


def parse(text: str | None, parser: re.Pattern[str], scale: tuple[float, float]) -> Verdict:
    """The score that a judgment's text states, or why it states none.

    Two different scores in one text are no score: a number is never made up. The parsers of the
    rubrics that ship find one in a judgment's last line alone, so that what a judge quotes from
    the answer does not count.
    """
    found = {match.strip() for match in parser.findall(text or "")}
    if not found:
        return Verdict(None, "no score" if (text or "").strip() else "empty judgment")
    try:
        scores = sorted({float(match) for match in found})
    except ValueError:
        return Verdict(None, f"not a number: {min(found)[:40]}")
    if len(scores) > 1:
        return Verdict(None, "several scores: " + ", ".join(f"{score:g}" for score in scores[:5]))
    if not in_scale(scores[0], scale):
        return Verdict(None, f"out of scale: {scores[0]:g} is not in {scale[0]:g} to {scale[1]:g}")
    return Verdict(scores[0], None)


def preference(text: str | None, parser: re.Pattern[str], *, second: bool) -> Verdict:
    """What a comparison says of one of the two answers, `second` if it was shown second: 1 where it
    is preferred, 0 where the other one is, 0.5 for a tie; or why it says nothing."""
    found = sorted({match.strip() for match in parser.findall(text or "")})
    if not found:
        return Verdict(None, "no preference" if (text or "").strip() else "empty judgment")
    if len(found) > 1:
        return Verdict(None, "several preferences: " + ", ".join(found[:5]))
    if found[0] not in PREFERENCES:
        return Verdict(None, f"not one of {', '.join(PREFERENCES)}: {found[0][:40]}")
    first = PREFERENCES[found[0]]
    return Verdict(1 - first if second else first, None)


def expected_score(
    logprobs: Sequence[Mapping[str, Any]] | None, worth: Callable[[str], float] = float
) -> float | None:
    """The mean of what the labels are worth, weighted by their probabilities where the score stands
    and renormalised over the labels; None where they hold less than MIN_MASS together.

    After G-Eval (arXiv 2303.16634), which weights the scores of a form by their probabilities.
    """
    shares = [(worth(row["label"]), math.exp(row["logprob"])) for row in logprobs or []]
    mass = sum(share for _, share in shares)
    if mass < MIN_MASS:
        return None
    return sum(score * share for score, share in shares) / mass


def check_value(value: float | None, scale: tuple[float, float] | None) -> Verdict:
    """The verdict of a judge that gives a number itself."""
    if value is None:
        return Verdict(None, "no score")
    if not in_scale(value, scale):
        bounds = f"{scale[0]:g} to {scale[1]:g}" if scale else "the finite numbers"
        return Verdict(None, f"out of scale: {value:g} is not in {bounds}")
    return Verdict(value, None)
