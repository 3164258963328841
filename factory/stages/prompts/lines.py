"""Read prompts from the lines of JSONL files, and report invalid lines."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from factory.errors import FactoryError
from factory.input_files import DuplicateKey, parse_json
from factory.lake import MESSAGE, Row, prompt_id, sorted_json
from factory.models import Conversation
from factory.recipe import Prompts
from factory.texts import has_half_pair, shorten

PROMPTS_VERSION = 1

LONGEST_REASON = 300
"""Maximum length of the reason why a line is invalid, in characters (our choice)."""

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
    """An invalid line in a prompt file."""

    place: str
    """Name of the file and number of the line, as `file:line`."""
    reason: str
    """Reason why the line is invalid."""


@dataclass(frozen=True)
class Limit:
    """Maximum length of a prompt in tokens. `count(conversation)` must not exceed `most`."""

    count: Callable[[Conversation], int]
    """Function that counts the tokens of a conversation."""
    most: int
    """Maximum number of tokens."""
    why: str
    """Explanation of the limit, for the error message about a line."""


def settings(
    prompts: Prompts, files: list[str], tokenizer: str | None, most: int | None, *, ordered: bool
) -> dict[str, Any]:
    """Return the settings whose hash identifies the prompts. They include the digests of the files
    and the length limit.

    `ordered` is whether a file has tools or tool calls. Older versions sorted their keys.
    """
    return {
        **({"tools": "as written"} if ordered else {}),
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
    """Parse JSON lines, and yield one row of the table `prompts` per valid prompt.

    Each line comes with its place (`file:line`). Invalid lines, and repetitions of a prompt, are
    added to `problems`.
    """
    first: dict[str, str] = {}
    for place, line in lines:
        try:
            row = _row(line, prompts, limit)
        except _Unusable as problem:
            problems.append(Problem(place, shorten(str(problem), LONGEST_REASON)))
            continue
        if seen := first.get(row["prompt_id"]):
            problems.append(Problem(place, f"duplicate of the prompt at {seen}"))
            continue
        first[row["prompt_id"]] = place
        yield row


_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}
"""Names of the JSON types."""


def _kind(value: Any) -> str:
    return _KINDS[type(value)]


class _Unusable(Exception):
    """The reason why a line is invalid."""


def _row(line: bytes, prompts: Prompts, limit: Limit | None) -> Row:
    fields = _fields(line)
    messages = _messages(fields)
    tools, settings = _tools(fields), _settings(fields)
    row = {
        "prompt_id": prompt_id(messages, tools),
        "messages": [{name: message.get(name) for name in _MESSAGE_FIELDS} for message in messages],
        "reference": fields.get("reference"),
        "tools": tools,
        "template_kwargs": settings,
        "criteria": fields.get("criteria"),
        "source": fields.get("source") or prompts.source,
        "license": fields.get("license") or prompts.license,
        "meta": sorted_json(fields.get("meta")),
    }
    if limit is not None:
        _check_length(Conversation.of(row), limit)
    return row


def _check_length(conversation: Conversation, limit: Limit) -> None:
    try:
        length = limit.count(conversation)
    except FactoryError:  # for example, the template takes too long
        raise
    except Exception as error:  # a template may raise any exception
        raise _Unusable(f"the model's chat template rejected the messages: {error}") from None
    if length > limit.most:
        raise _Unusable(
            f"the prompt has {length} tokens, but at most {limit.most} are allowed {limit.why}"
        )


_MESSAGE_FIELDS = [field.name for field in MESSAGE]

_OTHER_NAMES = {"reasoning_content": "reasoning"}
"""Other names of message fields, each with the name of its column."""

_RESERVED = (
    *("messages", "conversation", "tools", "chat_template", "strftime_now"),
    *("add_generation_prompt", "continue_final_message", "tokenize", "tokenizer_kwargs"),
    *("padding", "truncation", "max_length", "return_tensors", "return_dict"),
    "return_assistant_tokens_mask",
)
"""Arguments of transformers' apply_chat_template that are not variables of the chat template, or
that the factory sets."""


def _fields(line: bytes) -> dict[str, Any]:
    try:
        fields = parse_json(line.decode("utf-8-sig"))
        # Raises ValueError for NaN and infinity.
        has_half = has_half_pair(json.dumps(fields, ensure_ascii=False, allow_nan=False))
    except DuplicateKey as error:
        raise _Unusable(str(error)) from None
    except UnicodeDecodeError as error:
        byte = f"byte 0x{line[error.start]:02x} at position {error.start + 1}"
        raise _Unusable(f"the line is not valid UTF-8 ({byte})") from None
    except ValueError as error:
        raise _Unusable(f"the line is not valid JSON: {error}") from None
    except RecursionError:
        raise _Unusable("the JSON is nested too deeply") from None
    if has_half:
        raise _Unusable(
            "an escape such as \\ud83d is half of a surrogate pair: write both halves, or remove it"
        )
    if not isinstance(fields, dict):
        raise _Unusable(f"expected an object, but the line is {_kind(fields)}")
    fields = {name: value for name, value in fields.items() if value is not None}
    for name, value in fields.items():
        if name not in _FIELDS:
            raise _Unusable(
                f"the field {name} is unknown: move it into meta, or rename it to one of "
                + ", ".join(_FIELDS)
            )
        if not isinstance(value, _FIELDS[name]):
            expected = _KINDS[_FIELDS[name]]
            raise _Unusable(f"expected {expected} in the field `{name}`, but got {_kind(value)}")
    return fields


def _messages(fields: dict[str, Any]) -> list[dict[str, Any]]:
    if ("prompt" in fields) == ("messages" in fields):
        raise _Unusable("expected either the field `prompt` or the field `messages`")
    if "prompt" in fields:
        messages = [{"role": "user", "content": fields["prompt"]}]
    else:
        messages = [_message(message) for message in fields["messages"]]
    if not messages or not str(messages[-1].get("content") or "").strip():
        raise _Unusable("the prompt is empty")
    if messages[-1]["role"] not in ("user", "tool"):
        raise _Unusable(
            f"the last message must have the role user or tool, but it has {messages[-1]['role']}"
        )
    return messages


def _message(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise _Unusable(f"each message must be an object, but one is {_kind(message)}")
    if message.get("role") not in ROLES:
        raise _Unusable(
            f"expected a role from {', '.join(ROLES)}, but a message has {message.get('role')!r}"
        )
    if unknown := sorted(set(message) - {*_MESSAGE_FIELDS, *_OTHER_NAMES}):
        raise _Unusable(f"a message has the unknown field {unknown[0]}")
    plain = {str(_OTHER_NAMES.get(name, name)): value for name, value in message.items()}
    if len(plain) < len(message):
        raise _Unusable("a message has both fields reasoning and reasoning_content")
    if plain.get("tool_calls") is not None:
        plain["tool_calls"] = _tool_calls(plain["tool_calls"])
    for name, value in plain.items():
        if value is not None and not isinstance(value, str):
            raise _Unusable(
                f"expected a string in the field `{name}` of a message, but got {_kind(value)}"
            )
    if plain.get("content") is None and not plain.get("tool_calls"):
        raise _Unusable(
            f"a message with the role {plain['role']} has no content, but only a message with tool "
            "calls may have none"
        )
    return {name: value for name, value in plain.items() if value is not None}


def _tool_calls(calls: Any) -> str | None:
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise _Unusable("expected a list of objects in the field `tool_calls` of a message")
    for call in calls:
        _check_arguments(call)
    return _ordered_json(calls)


def _check_arguments(call: dict[str, Any]) -> None:
    """Raise _Unusable if the arguments of a tool call are JSON text that gives a key twice."""
    function = call.get("function")
    arguments = (function if isinstance(function, dict) else call).get("arguments")
    if not isinstance(arguments, str):
        return
    with suppress(ValueError, RecursionError):
        try:
            parse_json(arguments)
        except DuplicateKey as error:
            raise _Unusable(f"in the arguments of a tool call, {error}") from None


def _tools(fields: dict[str, Any]) -> str | None:
    tools = fields.get("tools")
    if tools and not all(isinstance(tool, dict) for tool in tools):
        raise _Unusable("expected a list of objects in the field `tools`")
    return _ordered_json(tools)


def _settings(fields: dict[str, Any]) -> str | None:
    settings = fields.get("template_kwargs")
    if reserved := [name for name in settings or () if name in _RESERVED]:
        raise _Unusable(
            f"the field `template_kwargs` sets {reserved[0]}, which is not a setting of a template"
        )
    return sorted_json(settings)


def _ordered_json(value: Any) -> str | None:
    """Return a value as JSON with its keys in the given order, or None if it is empty.

    The text has no spaces if its keys are sorted, and spaces otherwise, so that SQL can tell
    whether the order has to be part of a request's ID (see macros.sql).
    """
    if not value or _compact(value) == sorted_json(value):
        return sorted_json(value)
    return json.dumps(value, ensure_ascii=False)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
