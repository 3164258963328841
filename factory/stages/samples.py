"""Build requests for answers, and convert the results to rows of the table `samples`."""

from typing import Any

from factory.engines import Request, Result
from factory.fingerprint import seed_of
from factory.lake import Row, answer_id
from factory.models import Checkpoint, Conversation
from factory.recipe import REFERENCE, Generation

VERSION = 1


def settings(model: Checkpoint, generation: Generation, seed: int) -> dict[str, Any]:
    """Return the settings whose hash identifies a model's answers. They determine the
    distribution of the answers, so `max_tokens` is not among them."""
    return {
        "model": model.digest,
        **generation.identity,
        **decoding(model, generation),
        "seed": seed,
    }


def decoding(model: Checkpoint, generation: Generation) -> dict[str, str]:
    """Return the settings that identify how answers are decoded.

    They are empty for most models. Earlier versions removed reasoning tags that are special tokens,
    so the reasoning became part of the answer. Answers of models with a plain stop token ended
    with the text of this token.
    """
    tags = {*(generation.reasoning or ())}
    has_special_tags = not tags.isdisjoint(model.special_tokens) if tags else False
    return {
        **({"tags": "kept"} if has_special_tags else {}),
        **({"stop_token": "left out"} if model.has_plain_stop else {}),
    }


def reference_settings(tokenizer: str | None) -> dict[str, Any]:
    """Return the settings whose hash identifies the reference answers. The texts are part of each
    request, so only the tokenizer that counts their tokens is left."""
    return {"role": REFERENCE, "tokenizer": tokenizer}


def request(
    row: Row, request_key: str, generation: Generation, model: Checkpoint | None
) -> Request:
    """Build a request that asks an engine for answers to a prompt.

    `row` is a row of `sample_requests.sql`. Without a model, the request asks for the prompt's
    reference answer.
    """
    conversation = Conversation.of(row)
    return Request(
        id=row["request_id"],
        messages=conversation.messages,
        draws=tuple(row["draws"]),
        seed=seed_of(request_key, row["prompt_id"]),
        generation=generation,
        model=model,
        tools=conversation.tools,
        template_kwargs=conversation.settings,
        context={} if model else {"reference": row["reference"]},
    )


def row(result: Result, prompt_id: str, model: str, key: str) -> Row:
    """Convert an engine's result to a row of the table `samples`.

    The row does not include the columns that describe the engine. `model` is the digest of the
    model that wrote the answer, or REFERENCE.
    """
    return {
        "sample_id": answer_id(
            result.request_id, result.draw, result.text, result.reasoning, result.tool_calls
        ),
        "request_id": result.request_id,
        "prompt_id": prompt_id,
        "draw": result.draw,
        "model": model,
        "sampling": key,
        "text": result.text,
        "tool_calls": result.tool_calls,
        **generated(result),
    }


def generated(result: Result) -> Row:
    """Convert an engine's result to the columns that the tables `samples` and `judgments` share."""
    return {
        "reasoning": result.reasoning,
        "n_prompt_tokens": result.n_prompt_tokens,
        "n_cached_tokens": result.n_cached_tokens,
        "n_tokens": result.n_tokens,
        "finish_reason": result.finish_reason,
        "cumulative_logprob": result.cumulative_logprob,
        "error": result.error,
        "error_kind": result.error_kind,
    }
