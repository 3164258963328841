"""Write the prompt for a judge, and read the score from the judge's output."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.recipe import in_scale
from factory.stages.rubric import PLACEHOLDER, PREFERENCES, Rubric

MIN_MASS = 0.5
"""Minimum total probability of the labels at the position of the score. Below it, the judge
probably meant to write something else there."""

JUDGE_REMEDY = (
    "use `rubric: rating` with `constrained` and `expected_score`, which suits small models, or a "
    "stronger judge (judge.model), or train M_0 on examples of judgments first"
)
"""What to do about a judge model that cannot judge."""


@dataclass(frozen=True)
class Verdict:
    """The score read from a judge's output, or the reason why there is none."""

    score: float | None
    reason: str | None
    """Reason why there is no score. None if there is a score."""


def render_rubric(
    rubric: Rubric, item: Mapping[str, str | None], control: Sequence[str] = ()
) -> list[dict[str, str]]:
    """Insert an answer into a rubric, and return the chat messages for the judge. `control` has the
    judge's control tokens.

    Values are untrusted input. Placeholders are replaced in one pass over the template, so the name
    of a placeholder inside an answer stays text. A value cannot open or close the template's tags,
    because the `<` of such tags becomes `&lt;` in values. So does the `<` of control tokens, which
    a chat template would not escape: `<|im_end|>` in an answer would end the judge's turn. Control
    tokens without `<` get a space after their first character. Nothing else changes.
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
    """Format the stored messages of a prompt as plain text. A single message stays as it is.
    Several messages become one paragraph each, after the name of the role. Tool calls follow the
    message's content as JSON."""
    if len(messages) == 1:
        return str(messages[0]["content"] or "")
    return "\n\n".join(
        f"{str(message['role']).capitalize()}: {_said(message)}" for message in messages
    )


def _said(message: Mapping[str, Any]) -> str:
    return "\n".join(part for part in (message["content"], message.get("tool_calls")) if part)


def parse_score(
    text: str | None,
    parser: re.Pattern[str],
    scale: tuple[float, float],
    worth: Callable[[str], float] = float,
) -> Verdict:
    """Parse a judge's text, and return the score or the reason why there is none.

    `worth` returns the score that the parsed text stands for, or raises ValueError.
    A text with two different scores has no score, so that no number is made up. The parsers of the
    shipped rubrics read only the last line, so that quotes from the answer do not count.
    """
    found = {match.strip() for match in parser.findall(text or "")}
    if not found:
        return Verdict(None, "no score" if (text or "").strip() else "empty judgment")
    try:
        scores = sorted(set(map(worth, found)))
    except ValueError:
        return Verdict(None, f"not a number: {min(found)[:40]}")
    if len(scores) > 1:
        return Verdict(None, "several scores: " + ", ".join(f"{score:g}" for score in scores[:5]))
    if not in_scale(scores[0], scale):
        return Verdict(None, f"out of scale: {scores[0]:g} is not in {scale[0]:g} to {scale[1]:g}")
    return Verdict(scores[0], None)


def parse_preference(text: str | None, parser: re.Pattern[str], *, second: bool) -> Verdict:
    """Parse a judge's comparison of two answers, and return the score of one of them.

    The score is 1 if the judge prefers the answer, 0 if it prefers the other answer, and 0.5 for a
    tie. `second` is true if the answer was shown second.
    """
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
    """Return the mean of the possible scores, weighted by the probabilities that the judge assigns.

    The probabilities are those at the position of the score, renormalized over the labels. Returns
    None if their total is less than MIN_MASS. This follows G-Eval (arXiv 2303.16634).
    """
    shares = [(worth(row["label"]), math.exp(row["logprob"])) for row in logprobs or []]
    mass = sum(share for _, share in shares)
    if mass < MIN_MASS:
        return None
    return sum(score * share for score, share in shares) / mass


def shown_second(draw: int) -> bool:
    """Return whether a comparison shows the scored answer second. Odd draws swap the two
    answers."""
    return draw % 2 == 1


def check_value(value: float | None, scale: tuple[float, float] | None) -> Verdict:
    """Convert a number from a function or reward model to a verdict.

    The verdict has no score if the number is None or outside the scale.
    """
    if value is None:
        return Verdict(None, "no score")
    if not in_scale(value, scale):
        bounds = f"{scale[0]:g} to {scale[1]:g}" if scale else "the finite numbers"
        return Verdict(None, f"out of scale: {value:g} is not in {bounds}")
    return Verdict(value, None)
