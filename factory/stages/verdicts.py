"""Read the scores from stored judgments, without calling a model."""

from collections.abc import Callable
from functools import partial
from string import digits
from typing import Any

from factory.lake import Row
from factory.stages.judging import (
    Verdict,
    check_value,
    expected_score,
    parse_preference,
    parse_score,
    shown_second,
)
from factory.stages.rubric import PREFERENCES, Rubric

VERSION = 2


def settings(
    judge: str, rubric: Rubric | None, scale: tuple[float, float] | None
) -> dict[str, Any]:
    """Return the settings whose hash identifies the scores parsed from judgments. They are the
    judgments' key, the parser, the scale, and the scores of labels that are words."""
    if rubric is None:
        return {"judge": judge, "scale": scale}
    values = {"values": dict(rubric.values)} if rubric.values else {}
    return {"judge": judge, "parser": rubric.parser, "scale": rubric.scale, **values}


def _parse(text: str, rubric: Rubric) -> Verdict:
    return parse_score(text, rubric.pattern, rubric.scale, rubric.score_of)


def _open_ended(text: str, rubric: Rubric) -> bool:
    """Return whether more text could change the score of a truncated judgment.

    For example, "Score: 1" may be the start of "Score: 10". A bare label, as a constrained judge
    writes it, has no fraction unless another label has one.
    """
    now = _parse(text, rubric).score
    rest = [*digits, *rubric.endings, *([] if text.strip() in rubric.labels else [".5"])]
    later = (_parse(text + more, rubric) for more in rest)
    return now is not None and any(verdict.score not in (None, now) for verdict in later)


def row(judgment: Row, rubric: Rubric | None, scale: tuple[float, float] | None, key: str) -> Row:
    """Parse the score in a judgment, and return it as a row of the table `verdicts`."""
    verdict: Verdict
    worth: Callable[[str], float] = float
    if rubric is None:
        verdict = check_value(judgment["value"], scale)
    elif rubric.compares:
        second = shown_second(judgment["draw"])
        verdict = parse_preference(judgment["text"], rubric.pattern, second=second)
        worth = partial(_worth, second)
    else:
        worth = rubric.score_of
        verdict = _parse(judgment["text"], rubric)
        if judgment["finish_reason"] == "length" and _open_ended(judgment["text"], rubric):
            verdict = Verdict(None, "cut off by max_tokens")
    return {
        "judgment_id": judgment["judgment_id"],
        "sample_id": judgment["sample_id"],
        "draw": judgment["draw"],
        "judge": judgment["judge"],
        "parser": key,
        "score": verdict.score,
        "expected_score": expected_score(judgment["score_logprobs"], worth),
        "reason": verdict.reason,
    }


def _worth(second: bool, label: str) -> float:
    return 1 - PREFERENCES[label] if second else PREFERENCES[label]
