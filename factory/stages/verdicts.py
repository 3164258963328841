"""Verdicts: what judgments come to. Asks no model."""

from typing import Any

from factory.judge import Rubric, Verdict, check_value, expected_score, parse
from factory.schema import Row

VERSION = 1


def settings(
    judge: str, rubric: Rubric | None, scale: tuple[float, float] | None
) -> dict[str, Any]:
    """What decides a verdict: the judgments' folder, how their text is read, and the scale."""
    if rubric is None:
        return {"judge": judge, "scale": scale}
    return {"judge": judge, "parser": rubric.parser, "scale": rubric.scale}


def row(judgment: Row, rubric: Rubric | None, scale: tuple[float, float] | None, key: str) -> Row:
    """The verdict of a judgment, as a row of `verdicts`."""
    verdict: Verdict
    if rubric is None:
        verdict = check_value(judgment["value"], scale)
    else:
        verdict = parse(judgment["text"], rubric.pattern, rubric.scale)
    return {
        "judgment_id": judgment["judgment_id"],
        "sample_id": judgment["sample_id"],
        "draw": judgment["draw"],
        "judge": judgment["judge"],
        "parser": key,
        "score": verdict.score,
        "expected_score": expected_score(judgment["score_logprobs"]),
        "reason": verdict.reason,
    }
