"""Prompts: lines of JSONL become rows, or problems with a line number and a reason."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.lake import MESSAGE, Row, prompt_id
from factory.recipe import Prompts

PROMPTS_VERSION = 1

ROLES = ("system", "user", "assistant", "tool")

_FIELDS = {
    "prompt": str,
    "messages": list,
    "reference": str,
    "tools": list,
    "template_kwargs": dict,
    "criteria": str,
    "source": str,
    "license": str,
    "meta": dict,
}


@dataclass(frozen=True)
class Problem:
    """A line that cannot be a prompt."""

    place: str
    """file:line"""
    reason: str


@dataclass(frozen=True)
class Limit:
    """How long a prompt may be: count(messages) ≤ most tokens."""

    count: Callable[[Sequence[Mapping[str, Any]]], int]
    most: int
    why: str


def settings(
    prompts: Prompts, files: list[str], tokenizer: str | None, most: int | None
) -> dict[str, Any]:
    """Return what decides the rows: the files' digests, and the longest prompt."""
    return {
        "files": files,
        "on_error": prompts.on_error,
        "source": prompts.source,
        "license": prompts.license,
        "tokenizer": tokenizer,
        "most_tokens": most,
    }


def read_prompts(
    lines: Iterable[tuple[str, bytes]],
    prompts: Prompts,
    limit: Limit | None,
    problems: list[Problem],
) -> Iterator[Row]:
    """Yield the rows of JSON lines, which come with their places. Lines that cannot be used are
    added to `problems`; so is the second of two equal prompts."""
    first: dict[str, str] = {}
    for place, line in lines:
        try:
            row = _row(line, prompts, limit)
        except _Unusable as problem:
            problems.append(Problem(place, str(problem)))
            continue
        if seen := first.get(row["prompt_id"]):
            problems.append(Problem(place, f"the same prompt as {seen}"))
            continue
        first[row["prompt_id"]] = place
        yield row


class _Unusable(Exception): ...


def _row(line: bytes, prompts: Prompts, limit: Limit | None) -> Row:
    fields = _fields(line)
    messages = _messages(fields)
    tools = _json(fields.get("tools"))
    if limit is not None:
        try:
            length = limit.count(messages)
        except Exception as error:  # a template may refuse a conversation with any exception
            raise _Unusable(f"the model's chat template refused it: {error}") from None
        if length > limit.most:
            raise _Unusable(f"too long: {length} tokens, expected at most {limit.most} {limit.why}")
    return {
        "prompt_id": prompt_id(messages, tools),
        "messages": [{name: message.get(name) for name in _MESSAGE_FIELDS} for message in messages],
        "reference": fields.get("reference"),
        "tools": tools,
        "template_kwargs": _json(fields.get("template_kwargs")),
        "criteria": fields.get("criteria"),
        "source": fields.get("source") or prompts.source,
        "license": fields.get("license") or prompts.license,
        "meta": _json(fields.get("meta")),
    }


_MESSAGE_FIELDS = [field.name for field in MESSAGE]


def _fields(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line.decode("utf-8-sig"))
        # Refuses half of a surrogate pair (a UnicodeError), NaN and infinities (a ValueError).
        json.dumps(fields, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeError:
        raise _Unusable("not UTF-8") from None
    except ValueError as error:
        raise _Unusable(f"not JSON: {error}") from None
    except RecursionError:
        raise _Unusable("nested too deeply") from None
    if not isinstance(fields, dict):
        raise _Unusable(f"a {type(fields).__name__}, expected an object")
    fields = {name: value for name, value in fields.items() if value is not None}
    for name, value in fields.items():
        if name not in _FIELDS:
            raise _Unusable(
                f"unknown field {name}: put it into meta, or rename it to one of "
                + ", ".join(_FIELDS)
            )
        if not isinstance(value, _FIELDS[name]):
            expected = _FIELDS[name].__name__
            raise _Unusable(f"{name} is a {type(value).__name__}, expected a {expected}")
    return fields


def _messages(fields: dict[str, Any]) -> list[dict[str, Any]]:
    if ("prompt" in fields) == ("messages" in fields):
        raise _Unusable("expected either prompt or messages")
    if "prompt" in fields:
        messages = [{"role": "user", "content": fields["prompt"]}]
    else:
        messages = [_message(message) for message in fields["messages"]]
    if not messages or not str(messages[-1].get("content") or "").strip():
        raise _Unusable("the prompt is empty")
    if messages[-1]["role"] not in ("user", "tool"):
        raise _Unusable(f"the last message is the {messages[-1]['role']}'s, expected the user's")
    return messages


def _message(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise _Unusable(f"a message is a {type(message).__name__}, expected an object")
    if message.get("role") not in ROLES:
        raise _Unusable(f"role is {message.get('role')!r}, expected one of {', '.join(ROLES)}")
    if unknown := sorted(set(message) - set(_MESSAGE_FIELDS)):
        raise _Unusable(f"unknown field {unknown[0]} in a message")
    plain = dict(message)
    if plain.get("tool_calls") is not None:
        plain["tool_calls"] = _json(plain["tool_calls"])
    for name, value in plain.items():
        if value is not None and not isinstance(value, str):
            raise _Unusable(f"{name} of a message is a {type(value).__name__}, expected a str")
    return {name: value for name, value in plain.items() if value is not None}


def _json(value: Any) -> str | None:
    """A value as it was given (canonical JSON, which keys are made of, leaves out nulls)."""
    if not value:
        return None
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
