"""Read what a server returns. Any field of a reply can be absent or of any type.

This module is the only one that looks into the body of a reply. It returns typed values: what is
usable is used, and the rest is either left out or a fault that quotes the server.
"""

import json
import re
from dataclasses import dataclass
from html import unescape
from typing import Any

from pydantic_core import from_json

from factory.errors import one_line
from factory.texts import clean_text, mask_secrets

LONGEST_QUOTE = 300
"""Maximum length of a server's own words in an error, in characters."""

LARGEST_COUNT = 2**31 - 1
"""Largest number of tokens that a row can store."""

FINISHED = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    # The names that other servers use in the same API.
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "end_turn": "stop",
    "max_tokens": "length",
    "model_length": "length",
}
"""Finish reasons of a complete or truncated answer, and their names in the lake. Any other finish
reason is a failure."""


class OddReply(Exception):
    """A reply that contains no answer. The message is the reason, with the server's own words.

    `status` is the HTTP status that the reply means, if it is an error despite its status 200.
    """

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Token:
    """A token of an answer, with its log-probability and those of the likeliest tokens."""

    text: str
    logprob: float | None
    likeliest: dict[str, float]
    """Log-probabilities of the likeliest tokens at this place."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of a completion."""

    finish_reason: str
    """One of the values of FINISHED."""
    text: str
    reasoning: str | None
    tool_calls: list[dict[str, Any]]
    tokens: list[Token]
    """Empty if the reply has no log-probabilities, or unusable ones."""
    n_tokens: int | None
    """Number of tokens of this answer; None if the reply does not contain their ids."""


@dataclass(frozen=True, slots=True)
class BadChoice:
    """An answer of a completion that cannot be used."""

    reason: str
    is_permanent: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """Numbers of tokens of a completion; None if the reply does not contain them."""

    n_prompt: int | None = None
    n_cached: int | None = None
    n_generated: int | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A chat completion."""

    choices: list[Choice | BadChoice | None]
    """One for each requested answer; None if the server did not return it."""
    usage: Usage


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model in a server's list."""

    owner: str | None
    context: int | None
    """Maximum number of tokens of a prompt and its answer."""


def read_completion(body: bytes, n: int) -> Completion:
    """Read a chat completion with n answers. Raises OddReply if it contains none."""
    said = _parse(body)
    choices = said.get("choices") if isinstance(said, dict) else None
    if not isinstance(choices, list) or not choices:
        status = None
        if isinstance(said, dict) and isinstance(error := said.get("error"), dict):
            status = _status(error.get("code")) or _status(error.get("status"))
        raise OddReply(f"the server returned no answer ({quote(body)})", status)
    usage = said.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return Completion(
        [None if choice is None else _choice(choice) for choice in _in_order(choices, n)],
        Usage(
            _count(usage.get("prompt_tokens")),
            _count(cached),
            _count(usage.get("completion_tokens")),
        ),
    )


def read_models(body: bytes) -> dict[str, ServedModel]:
    """Read a server's list of models. Raises OddReply if the reply is no such list."""
    said = _parse(body)
    listed = said.get("data") if isinstance(said, dict) else None
    if not isinstance(listed, list):
        raise OddReply(f"the server returned no list of models ({quote(body)})")
    return {
        model["id"]: ServedModel(_text(model.get("owned_by")), _count(model.get("max_model_len")))
        for model in listed
        if isinstance(model, dict) and isinstance(model.get("id"), str)
    }


def read_version(body: bytes) -> str | None:
    """Read the version of a vLLM server; None if the reply does not contain it."""
    try:
        said = _parse(body)
    except OddReply:
        return None
    version = _text(said.get("version")) if isinstance(said, dict) else None
    return version and one_line(version, 60)


def quote(body: bytes) -> str:
    """Return the message in a server's reply as one short line, without secrets.

    If the reply contains no error message, return its beginning; for an HTML page, its title.
    """
    try:
        words = _message(_parse(body))
    except OddReply:
        words = None
    return _short(_beginning(body) if words is None else words)


def _short(words: str) -> str:
    words = words[: 64 * LONGEST_QUOTE]
    if words.lstrip().startswith("<"):
        words = _without_html(words)
    return one_line(mask_secrets(clean_text(words)), LONGEST_QUOTE) or "an empty reply"


def _beginning(body: bytes) -> str:
    return body[: 64 * LONGEST_QUOTE].decode(errors="replace")


def _message(said: Any) -> str | None:
    """Return the error message in a reply; None if there is none."""
    if isinstance(said, str):
        return said
    if isinstance(said, list):
        return "; ".join(filter(None, map(_message, said))) or None
    if isinstance(said, dict):
        for name in ("error", "message", "detail", "msg", "errors"):
            if (found := _message(said.get(name))) is not None:
                return found
    return None


def _without_html(text: str) -> str:
    title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
    if title and title[1].strip():
        return f"an HTML page: {unescape(title[1])}"
    return "an HTML or XML page: " + unescape(re.sub(r"<[^<>]*>", " ", text))


def _parse(body: bytes) -> Any:
    """Parse JSON. Replaces bytes that are not UTF-8, and lone surrogates. Raises OddReply."""
    try:
        return from_json(body)
    except ValueError:
        pass  # the standard library also reads lone surrogates
    try:
        return _clean_all(json.loads(body.decode(errors="replace")))
    except (ValueError, RecursionError):
        shown = _short(_beginning(body))
        raise OddReply(f"the server's reply is not valid JSON ({shown})") from None


def _clean_all(value: Any) -> Any:
    """Replace the lone surrogates in all texts of a parsed reply."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [_clean_all(item) for item in value]
    if isinstance(value, dict):
        return {clean_text(name): _clean_all(item) for name, item in value.items()}
    return value


def _in_order(choices: list[Any], n: int) -> list[Any]:
    """Return the choices of n answers in the order of their indexes; None for missing ones."""
    indexes = [
        _count(choice.get("index")) if isinstance(choice, dict) else None for choice in choices
    ]
    found = [index for index in indexes if index is not None]
    if len(choices) == 1 or not found:
        ordered = choices[:n]
    elif len(set(found)) == len(choices) == n:  # some servers count from 1
        ordered = [choice for _, choice in sorted(zip(indexes, choices, strict=True), key=_first)]
    else:
        places = {index: choices[at] for at, index in reversed([*enumerate(indexes)])}
        return [places.get(place) for place in range(n)]
    return ordered + [None] * (n - len(ordered))


def _first(pair: tuple[int | None, Any]) -> int:
    return pair[0] or 0


def _choice(choice: Any) -> Choice | BadChoice:
    if not isinstance(choice, dict):
        return _bad("an answer", choice)
    reason = choice.get("finish_reason")
    if not isinstance(reason, str):
        return BadChoice("the server returned an answer without a finish reason", True)
    if reason not in FINISHED:
        # A vLLM server returns abort while it shuts down; content_filter concerns the request.
        fault = f"the server stopped the answer with finish reason {_short(reason)}"
        return BadChoice(fault, reason not in ("abort", "error"))
    message = choice.get("message")
    if not isinstance(message, dict):
        return _bad("a message", message)
    calls = message.get("tool_calls")
    if calls is not None and not (isinstance(calls, list) and all(map(_is_call, calls))):
        return _bad("tool calls", calls)
    if not {"content", "role", "tool_calls"} & {*message}:
        return _bad("a message with content", message)
    text = _content(message.get("content"))
    if text is None:
        return _bad("text", message["content"])
    ids = choice.get("token_ids")
    return Choice(
        FINISHED[reason],
        text,
        # `reasoning` in vLLM, `reasoning_content` in other servers
        _text(message.get("reasoning")) or _text(message.get("reasoning_content")) or None,
        [_without_nulls(call) for call in calls or []],
        _tokens(choice.get("logprobs")),
        len(ids) if isinstance(ids, list) else None,
    )


def _bad(expected: str, got: Any) -> BadChoice:
    shown = _short(json.dumps(got, ensure_ascii=False))
    return BadChoice(f"expected {expected} from the server, got {shown}", False)


def _content(content: Any) -> str | None:
    """Return a message's text, also of a list of parts; None if it contains anything else."""
    if content is None:
        return ""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        return "".join(texts) if len(texts) == len(parts) else None
    return _text(content)


def _is_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return value


def _tokens(logprobs: Any) -> list[Token]:
    """Return the tokens with their log-probabilities, or an empty list if a token has no text."""
    listed = logprobs.get("content") if isinstance(logprobs, dict) else None
    tokens: list[Token] = []
    for token in listed if isinstance(listed, list) else ():
        if not isinstance(token, dict) or not isinstance(token.get("token"), str):
            return []
        tokens.append(
            Token(
                token["token"],
                _logprob(token.get("logprob")),
                _likeliest(token.get("top_logprobs")),
            )
        )
    return tokens


def _likeliest(listed: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for token in listed if isinstance(listed, list) else ():
        if isinstance(token, dict) and isinstance(text := token.get("token"), str):
            logprob = _logprob(token.get("logprob"))
            if logprob is not None:
                found.setdefault(text, logprob)
    return found


def _logprob(value: Any) -> float | None:
    """Return a log-probability; None if it is no number, or above 0 by more than rounding."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -1e9 < value <= 1e-3 else None


def _count(value: Any) -> int | None:
    """Return a count; None if the value is no whole number or cannot be stored."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= LARGEST_COUNT else None


def _status(value: Any) -> int | None:
    code = int(value) if isinstance(value, str) and re.fullmatch(r"[45]\d\d", value) else value
    return code if isinstance(code, int) and 400 <= code < 600 else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
