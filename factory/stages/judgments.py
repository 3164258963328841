"""Judgments: what a judge says of samples, as it said it."""

import json
from typing import Any

from factory.checkpoint import Checkpoint
from factory.engines import Request, Result
from factory.fingerprint import seed_of
from factory.functions import Function
from factory.judge import Rubric, render, transcript
from factory.recipe import Judge
from factory.schema import Row, answer_id
from factory.stages.samples import generated

VERSION = 2


def settings(
    judge: Checkpoint | Function, rubric: Rubric | None, generation: Judge, seed: int
) -> dict[str, Any]:
    """What decides what a judge says: for a model its rubric's prompt, not its parser or scale."""
    if isinstance(judge, Function):
        return {"function": judge.digest}
    assert rubric is not None, "a model judges with a rubric"
    return {
        "model": judge.digest,
        "prompt": rubric.template,
        **generation.asked,
        **_score_asked(rubric, generation),
        "seed": seed,
    }


def _score_asked(rubric: Rubric, generation: Judge) -> dict[str, Any]:
    """What is asked about the score beside its text. The parser is part of it where it says at
    which place log-probabilities are kept."""
    asked: dict[str, Any] = {}
    if generation.expected_score:
        asked.update(labels=rubric.labels, score_at=rubric.parser)
    if generation.constrained:
        asked["choices"] = rubric.labels
    return asked


def reads(rubric: Rubric | None) -> str:
    """What a judge is shown of a prompt beside its messages: a function (no rubric) its `meta`
    and what `context` is, reference and criteria; a rubric that names one of these, `context`."""
    if rubric is None:
        return "meta"
    return "context" if {"reference", "criteria"} & rubric.placeholders else ""


def request(
    row: Row,
    asked: str,
    generation: Judge,
    judge: Checkpoint | Function,
    rubric: Rubric | None,
) -> Request:
    """A row of `asked_judgments.sql` as a request."""
    common: dict[str, Any] = {
        "id": row["request_id"],
        "draws": tuple(row["draws"]),
        "seed": seed_of(asked, row["sample_id"]),
        "generation": generation,
    }
    if isinstance(judge, Function):
        context = {
            "reference": row["reference"],
            "criteria": row["criteria"],
            "meta": json.loads(row["meta"]) if row["meta"] else {},
        }
        answer = {"role": "assistant", "content": row["text"]}
        return Request(messages=[*row["messages"], answer], model=None, context=context, **common)
    assert rubric is not None, "a model judges with a rubric"
    messages = render(
        rubric,
        {
            "prompt": transcript(row["messages"]),
            "answer": row["text"],
            "reference": row["reference"],
            "criteria": row["criteria"],
        },
        judge.control_tokens,
    )
    return Request(messages=messages, model=judge, **_score_asked(rubric, generation), **common)


def row(
    result: Result, sample_id: str, context: str, judge: Checkpoint | Function, key: str
) -> Row:
    """A result as a row of `judgments`, but for the columns that name the engine. The text of a
    judge that gives a number is that number."""
    text = result.text
    if text is None and result.value is not None:
        text = repr(result.value)
    return {
        "judgment_id": answer_id(result.request_id, result.draw, text, result.reasoning),
        "request_id": result.request_id,
        "sample_id": sample_id,
        "other_id": None,
        "context": context,
        "draw": result.draw,
        "judge": key,
        "judge_model": judge.digest,
        "text": text,
        "value": result.value,
        "score_logprobs": result.score_logprobs,
        **generated(result),
    }
