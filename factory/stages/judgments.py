"""Judgments: what a judge says of samples, as it said it."""

import json
from typing import Any

from factory.engines import Request, Result
from factory.fingerprint import seed_of
from factory.functions import Function
from factory.lake import Row, answer_id
from factory.models import Checkpoint
from factory.recipe import Judge
from factory.stages.judging import render_rubric, transcript
from factory.stages.rubric import Rubric
from factory.stages.samples import generated
from factory.stages.verdicts import shown_second

VERSION = 2


def settings(
    judge: Checkpoint | Function, rubric: Rubric | None, generation: Judge, seed: int
) -> dict[str, Any]:
    """What decides what a judge says: for a model its rubric's prompt, not its parser or scale;
    a reward model has no rubric."""
    if isinstance(judge, Function):
        return {"function": judge.digest}
    if rubric is None:
        return {"reward_model": judge.digest}
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


def reads(judge: Judge | None, rubric: Rubric | None) -> str:
    """What a judge is shown of a prompt beside its messages: a function (that of the probe has no
    section) its `meta` and what `context` is, reference and criteria; a rubric that names one of
    these, `context`; a reward model nothing."""
    if rubric is None:
        return "" if judge is not None and judge.reward_model else "meta"
    return "context" if {"reference", "criteria"} & rubric.placeholders else ""


def request(
    row: Row,
    asked: str,
    generation: Judge,
    judge: Checkpoint | Function,
    rubric: Rubric | None,
) -> Request:
    """A row of `asked_judgments.sql`, or of `asked_comparisons.sql`, as a request."""
    common: dict[str, Any] = {
        "id": row["request_id"],
        "draws": tuple(row["draws"]),
        "seed": seed_of(asked, row["sample_id"] + row.get("other_id", "")),
        "generation": generation,
    }
    answer = {"role": "assistant", "content": row["text"]}
    if isinstance(judge, Function):
        context = {
            "reference": row["reference"],
            "criteria": row["criteria"],
            "meta": json.loads(row["meta"]) if row["meta"] else {},
        }
        return Request(messages=[*row["messages"], answer], model=None, context=context, **common)
    if rubric is None:
        return Request(messages=[*row["messages"], answer], model=judge, **common)
    shown = {
        "prompt": transcript(row["messages"]),
        "reference": row["reference"],
        "criteria": row["criteria"],
        **(_both(row) if rubric.compares else {"answer": row["text"]}),
    }
    messages = render_rubric(rubric, shown, judge.control_tokens)
    return Request(messages=messages, model=judge, **_score_asked(rubric, generation), **common)


def _both(row: Row) -> dict[str, str]:
    """The two answers of a comparison, in the order in which its draws show them."""
    own, other = row["text"], row["other_text"]
    second = shown_second(row["draws"][0])
    return {"answer_a": other, "answer_b": own} if second else {"answer_a": own, "answer_b": other}


def row(
    result: Result,
    sample_id: str,
    other_id: str | None,
    context: str,
    judge: Checkpoint | Function,
    key: str,
) -> Row:
    """A result as a row of `judgments`, but for the columns that name the engine. The text of a
    judge that gives a number is that number. Of a comparison, `other_id` is the sample that the
    judged one was compared with."""
    text = result.text
    if text is None and result.value is not None:
        text = repr(result.value)
    return {
        "judgment_id": answer_id(result.request_id, result.draw, text, result.reasoning),
        "request_id": result.request_id,
        "sample_id": sample_id,
        "other_id": other_id,
        "context": context,
        "draw": result.draw,
        "judge": key,
        "judge_model": judge.digest,
        "text": text,
        "value": result.value,
        "score_logprobs": result.score_logprobs,
        **generated(result),
    }
