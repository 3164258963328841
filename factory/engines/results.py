"""Check what an engine returns, so that every result fits into a row of the lake.

Servers and functions can return anything. A bad result must not stop the writer of its shard.
"""

import math
import operator
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, get_args

from factory.engines.protocol import Engine, ErrorKind, Request, Result
from factory.texts import clean_text, error_message

MOST_TOKENS = 2**31 - 1
"""The largest integer in the column of a token count."""


def checked_results(engine: Engine, requests: Iterable[Request]) -> Iterator[Result]:
    """Send requests to an engine, and yield its results in a form that a row can store."""
    return map(check_result, engine.generate(requests))


def check_result(result: Result) -> Result:
    """Return a result that a row can store.

    Surrogates in texts are replaced by U+FFFD, and secrets in errors are masked. A result becomes
    a failure if its text, reasoning, tool calls, or value has an unusable type. The failure is
    permanent, because a retry would probably return the same. Other fields become None.
    """
    extras: dict[str, Any] = {
        "n_prompt_tokens": _count(result.n_prompt_tokens),
        "n_cached_tokens": _count(result.n_cached_tokens),
        "n_tokens": _count(result.n_tokens),
        "cumulative_logprob": _number(result.cumulative_logprob),
        "cost": _cost(result.cost),
    }
    if result.error is not None:
        is_known = result.error_kind in get_args(ErrorKind)
        return Result(
            result.request_id,
            result.draw,
            **extras,
            error=error_message(str(result.error)),
            error_kind=result.error_kind if is_known else "permanent",
        )
    texts = {name: getattr(result, name) for name in ("text", "reasoning", "tool_calls")}
    value = _number(result.value)
    unusable = {
        **{name: text for name, text in texts.items() if not isinstance(text, str | None)},
        **({"value": result.value} if value is None and result.value is not None else {}),
    }
    if unusable:
        named = ", ".join(f"{name} is a {type(bad).__name__}" for name, bad in unusable.items())
        error = f"the engine returned a result with unusable types ({named})"
        return Result(result.request_id, result.draw, **extras, error=error, error_kind="permanent")
    reason = result.finish_reason
    fields: dict[str, Any] = {
        **extras,
        **{name: None if text is None else clean_text(text) for name, text in texts.items()},
        "value": value,
        "finish_reason": clean_text(reason) if isinstance(reason, str) else None,
        "score_logprobs": _logprobs(result.score_logprobs),
        "error_kind": None,
    }
    return replace(result, **fields)


def _count(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        count = operator.index(value)
    except TypeError:
        return None
    return count if 0 <= count <= MOST_TOKENS else None


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, str | bytes | bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _cost(value: Any) -> float | None:
    cost = _number(value)
    return cost if cost is not None and math.isfinite(cost) else None


def _logprobs(values: Any) -> list[dict[str, Any]] | None:
    """Return the log-probabilities of labels, or None if they have another form."""
    try:
        found = [(value["label"], _number(value["logprob"])) for value in values or ()]
    except (TypeError, KeyError):
        return None
    if any(not isinstance(label, str) or logprob is None for label, logprob in found):
        return None
    return values and [{"label": clean_text(label), "logprob": logprob} for label, logprob in found]
