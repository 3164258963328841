"""Samples: a model's answers to prompts, and the prompts' own reference answers, which are rows of
the same table.
"""

import json
from typing import Any

from factory.engines import Request, Result
from factory.fingerprint import seed_of
from factory.lake import Row, answer_id
from factory.models import Checkpoint
from factory.recipe import REFERENCE, Generation

VERSION = 1


def settings(model: Checkpoint, generation: Generation, seed: int) -> dict[str, Any]:
    """Return what decides the distribution of a model's answers, up to their truncation."""
    return {"model": model.digest, **generation.identity, "seed": seed}


def reference_settings(tokenizer: str | None) -> dict[str, Any]:
    """Return what decides the samples of references: the tokenizer that counts their lengths. The
    texts are part of each request."""
    return {"role": REFERENCE, "tokenizer": tokenizer}


def request(
    row: Row, request_key: str, generation: Generation, model: Checkpoint | None
) -> Request:
    """Return a row of `sample_requests.sql` as a request; without a model, for the reference."""
    return Request(
        id=row["request_id"],
        messages=row["messages"],
        draws=tuple(row["draws"]),
        seed=seed_of(request_key, row["prompt_id"]),
        generation=generation,
        model=model,
        tools=json.loads(row["tools"]) if row["tools"] else None,
        template_kwargs=json.loads(row["template_kwargs"]) if row["template_kwargs"] else {},
        context={} if model else {"reference": row["reference"]},
    )


def row(result: Result, prompt_id: str, model: str, key: str) -> Row:
    """Return a result as a row of `samples`, without the columns that name the engine; `model` is
    the digest of the model that wrote it, or REFERENCE."""
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
    """Return the columns that all generated rows have."""
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
