"""Build requests to judges, and convert the results to rows of the table `judgments`."""

import json
from typing import Any

from factory.engines import Request, Result
from factory.fingerprint import seed_of
from factory.functions import Function
from factory.lake import MESSAGE, Row, answer_id
from factory.models import Checkpoint, Conversation, control_tokens
from factory.recipe import Judge
from factory.stages.judging import render_rubric, shown_second, transcript
from factory.stages.rubric import Rubric
from factory.stages.samples import decoding, generated

VERSION = 2


def settings(
    judge: Checkpoint | Function, rubric: Rubric | None, generation: Judge, seed: int
) -> dict[str, Any]:
    """Return the settings whose hash identifies a judge's judgments.

    For a model they include the rubric's prompt, but not its parser or scale. `rubric` is None for
    functions and reward models.
    """
    if isinstance(judge, Function):
        return {"function": judge.digest}
    if rubric is None:
        return {"reward_model": judge.digest}
    return {
        "model": judge.digest,
        "prompt": rubric.template,
        **generation.identity,
        **decoding(judge, generation),
        **_score_options(rubric, generation),
        "seed": seed,
    }


def _score_options(rubric: Rubric, generation: Judge) -> dict[str, Any]:
    """Return the options of a request that concern the score. They include the parser if it decides
    which token's log-probabilities are stored."""
    options: dict[str, Any] = {}
    if generation.expected_score:
        options.update(labels=rubric.labels, score_at=rubric.parser)
    if generation.constrained:
        options["choices"] = rubric.labels
    return options


def reads(judge: Judge | None, rubric: Rubric | None) -> str:
    """Return which prompt fields the judge reads in addition to the messages.

    The result is `context` (reference and criteria) for a rubric that names one of them, `meta`
    (reference, criteria, and the prompt's `meta`) for a function, and an empty string for other
    rubrics and for reward models. `judge` is None for the probe's function.
    """
    if rubric is None:
        return "" if judge is not None and judge.reward_model else "meta"
    return "context" if {"reference", "criteria"} & rubric.placeholders else ""


def request(
    row: Row,
    request_key: str,
    generation: Judge,
    judge: Checkpoint | Function,
    rubric: Rubric | None,
) -> Request:
    """Build a request that asks a judge to score an answer.

    `row` is a row of `judgment_requests.sql` or, for a comparison, of `comparison_requests.sql`.
    """
    common: dict[str, Any] = {
        "id": row["request_id"],
        "draws": tuple(row["draws"]),
        "seed": seed_of(request_key, row["sample_id"] + row.get("other_id", "")),
        "generation": generation,
    }
    answer = {"role": "assistant", "content": row["text"]}
    conversation = Conversation.of(row)
    if isinstance(judge, Function):
        context = {
            "reference": row["reference"],
            "criteria": row["criteria"],
            "meta": json.loads(row["meta"]) if row["meta"] else {},
        }
        # Functions get every field of a message. Missing fields are None.
        fields = dict.fromkeys(field.name for field in MESSAGE)
        messages = [fields | message for message in conversation.messages]
        return Request(messages=[*messages, answer], model=None, context=context, **common)
    if rubric is None:
        return Request(
            messages=[*conversation.messages, answer],
            model=judge,
            tools=conversation.tools,
            **common,
        )
    shown = {
        "prompt": transcript(row["messages"]),
        "reference": row["reference"],
        "criteria": row["criteria"],
        **(_both(row) if rubric.compares else {"answer": row["text"]}),
    }
    asked = render_rubric(rubric, shown, control_tokens(judge))
    return Request(messages=asked, model=judge, **_score_options(rubric, generation), **common)


def _both(row: Row) -> dict[str, str]:
    """Return the two answers of a comparison, in the order that its draws show them."""
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
    """Convert a judge's result to a row of the table `judgments`.

    The row does not include the columns that describe the engine. If the judge returned a number,
    the row's text is this number. `other_id` is the other sample of a comparison.
    """
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
