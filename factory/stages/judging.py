"""Pure functions of judging: rubric and answer to messages, a judgment's text to a verdict."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.recipe import in_scale
from factory.stages.rubric import PLACEHOLDER, PREFERENCES, Rubric

MIN_MASS = 0.5
"""The least total probability of the labels at the score. With less, the judge was likely to write
something else there."""


@dataclass(frozen=True)
class Verdict:
    score: float | None
    reason: str | None
    """Why there is no score."""


def render_rubric(
    rubric: Rubric, item: Mapping[str, str | None], control: Sequence[str] = ()
) -> list[dict[str, str]]:
    """Return the messages that ask for a judgment; `control` has the judge's control tokens.

    Values are untrusted. Placeholders are replaced in one pass over the template, so that a
    placeholder's name inside an answer stays text. A value cannot close or open the template's
    tags: in a value, the `<` of these tags becomes `&lt;`. So does the `<` of control tokens, which
    a chat template would not escape (`<|im_end|>` in an answer would end the judge's turn); control
    tokens without `<` get a space after their first character. Nothing else is changed.
    """
    tokens = re.compile("|".join(map(re.escape, sorted(control, key=len, reverse=True))))

    def escape(token: re.Match[str]) -> str:
        first, rest = token[0][0], token[0][1:]
        return f"&lt;{rest}" if first == "<" else f"{first} {rest}"

    def value(match: re.Match[str]) -> str:
        text = item.get(match[1]) or ""
        text = tokens.sub(escape, text) if control else text
        return rubric.tags.sub("&lt;", text) if rubric.tags else text

    return [{"role": "user", "content": PLACEHOLDER.sub(value, rubric.template)}]


def transcript(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return a conversation as text: one user turn as it is, else one paragraph per turn."""
    if len(messages) == 1:
        return str(messages[0]["content"] or "")
    return "\n\n".join(
        f"{str(message['role']).capitalize()}: {message['content'] or ''}" for message in messages
    )


def parse_score(text: str | None, parser: re.Pattern[str], scale: tuple[float, float]) -> Verdict:
    """Return the score in a judgment's text, or why there is none.

    Two different scores in one text are no score: a number is never made up. The parsers of the
    shipped rubrics read only the last line, so that quotes from the answer do not count.
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


def parse_preference(text: str | None, parser: re.Pattern[str], *, second: bool) -> Verdict:
    """Return a comparison's score of one answer, or why there is none: 1 if it is preferred, 0 if
    the other one is, and 0.5 for a tie. `second` if the answer was shown second."""
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
    """Return the mean of the labels' values, weighted by their probabilities at the score.

    The probabilities are renormalized over the labels. None if their total is less than MIN_MASS.
    After G-Eval (arXiv 2303.16634), which weights the scores of a form by their probabilities.
    """
    shares = [(worth(row["label"]), math.exp(row["logprob"])) for row in logprobs or []]
    mass = sum(share for _, share in shares)
    if mass < MIN_MASS:
        return None
    return sum(score * share for score, share in shares) / mass


def shown_second(draw: int) -> bool:
    """Return whether a comparison shows the judged answer second: odd draws swap the two."""
    return draw % 2 == 1


def check_value(value: float | None, scale: tuple[float, float] | None) -> Verdict:
    """Return the verdict of a judge that returns numbers."""
    if value is None:
        return Verdict(None, "no score")
    if not in_scale(value, scale):
        bounds = f"{scale[0]:g} to {scale[1]:g}" if scale else "the finite numbers"
        return Verdict(None, f"out of scale: {value:g} is not in {bounds}")
    return Verdict(value, None)
