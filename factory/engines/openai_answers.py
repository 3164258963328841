"""Convert chat completions from OpenAI-compatible servers to the factory's results.

Many fields of a completion are optional, and servers differ in which ones they omit.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionTokenLogprob
from openai.types.chat.chat_completion import Choice
from tokenizers import Tokenizer

from factory.engines.labels import LabelTree, score_start
from factory.engines.protocol import ErrorKind, Request, Result, failures
from factory.engines.read_ahead import PromptRefused, check_length
from factory.errors import EngineError

FINISHED = ("stop", "length", "tool_calls")
"""Finish reasons of a complete or truncated answer. Any other finish reason is a failure."""


def read_answers(
    request: Request, draws: Sequence[int], completion: ChatCompletion, context: int | None
) -> Iterator[Result]:
    """Convert a chat completion to results, and yield one result per draw of the request.

    `context` is the maximum number of tokens of a prompt and its answer; None if unknown.
    """
    choices = getattr(completion, "choices", None) or []
    usage = getattr(completion, "usage", None)
    if len(choices) != len(draws):
        reason = f"expected {len(draws)} answers from the server, got {len(choices)}"
        if choices:
            reason += ": set engine.native_n to false"
        yield from failures(request, reason, "transient", draws)
        return
    most = request.generation.max_tokens
    # A vLLM server accepts a prompt that leaves too little room, and truncates the answer.
    try:
        if usage:
            check_length(usage.prompt_tokens, most, context, "server")
    except PromptRefused as refused:
        yield from failures(request, str(refused), "permanent", draws)
        return
    ordered = sorted(choices, key=lambda choice: choice.index)
    for draw, choice in zip(draws, ordered, strict=True):
        yield _result(request, draw, choice, usage, alone=len(draws) == 1)


def _result(request: Request, draw: int, choice: Choice, usage: Any, *, alone: bool) -> Result:
    reason, message = choice.finish_reason, choice.message
    if reason not in FINISHED:
        error = f"the server stopped the answer with finish reason {reason}"
        # A vLLM server returns abort while it shuts down; content_filter concerns the request.
        kind: ErrorKind = "transient" if reason in ("abort", "error") else "permanent"
        return Result(request.id, draw, error=error, error_kind=kind)
    details = usage.prompt_tokens_details if usage else None
    calls = [call.model_dump(exclude_none=True) for call in message.tool_calls or []]
    return Result(
        request.id,
        draw,
        text=message.content or "",
        reasoning=_reasoning(message),
        tool_calls=json.dumps(calls, ensure_ascii=False) if calls else None,
        n_prompt_tokens=usage.prompt_tokens if usage else None,
        # The number is a total: it does not show which of several answers had a cached prompt.
        n_cached_tokens=details.cached_tokens if details and alone else None,
        n_tokens=usage.completion_tokens if usage and alone else _n_tokens(request, choice),
        finish_reason=reason,
        score_logprobs=_score(request, choice) if request.labels else None,
    )


def _reasoning(message: Any) -> str | None:
    """Return a message's reasoning: `reasoning` in vLLM, `reasoning_content` in other servers."""
    return getattr(message, "reasoning", None) or getattr(message, "reasoning_content", None)


def _n_tokens(request: Request, choice: Choice) -> int | None:
    """Return the number of tokens of one of several answers; None if it cannot be counted.

    Servers report only the total over all answers. vLLM also returns each answer's tokens. For
    other servers, count the tokens of the text, plus one for the stop token.
    """
    tokens = getattr(choice, "token_ids", None)
    if tokens is not None:
        return len(tokens)
    assert request.model is not None, "the openai engine got a request for a Python function"
    tokenizer = None if request.model.declared else _tokenizer(request.model.path)
    if tokenizer is None:
        return None
    text = (_reasoning(choice.message) or "") + (choice.message.content or "")
    n_tokens = len(tokenizer.encode(text, add_special_tokens=False).ids)
    return n_tokens if choice.finish_reason == "length" else n_tokens + 1


@cache
def _tokenizer(model: Path) -> Tokenizer | None:
    file = model / "tokenizer.json"
    return Tokenizer.from_file(str(file)) if file.is_file() else None


def _score(request: Request, choice: Choice) -> list[dict[str, Any]] | None:
    """Return the log-probabilities of the labels at the token where the score begins.

    Return None if that token is not a label. Omit labels that are not among the most likely tokens.
    Raises EngineError if the score is a label that the server's tokenizer splits: the server does
    not report the probabilities of such labels.
    """
    text = choice.message.content or ""
    tokens = (choice.logprobs.content if choice.logprobs else None) or []
    start = score_start(text, request.score_at, request.generation.reasoning)
    place = None if start is None else _token_at(tokens, text, start)
    if start is None or place is None:
        return None
    token = tokens[place].token.strip()
    label = max(filter(text[start:].startswith, request.labels), key=len, default=token)
    if token != label and label.startswith(token):
        raise EngineError(
            "judge.expected_score",
            f"the server's tokenizer splits the label {label} into several tokens, but the openai "
            "engine cannot request their probabilities",
            "use labels that are single tokens, such as the digits of a scale from 1 to 5",
        )
    if token not in request.labels:
        return None
    seen = [(top.token, top.logprob) for top in tokens[place].top_logprobs]
    if all(top != tokens[place].token for top, _ in seen):
        seen.append((tokens[place].token, tokens[place].logprob))
    places = {
        label: [(at,) for at, (top, _) in enumerate(seen) if top.strip() == label]
        for label in request.labels
    }
    return LabelTree(places).logprobs({(): {at: logprob for at, (_, logprob) in enumerate(seen)}})


def _token_at(tokens: Sequence[ChatCompletionTokenLogprob], text: str, start: int) -> int | None:
    """Return the index of the token that contains character `start` of the text; None if unknown.

    The tokens may include reasoning before the text and a stop token after it. Ignore white space:
    servers decode tokens one by one, which drops the space before a SentencePiece word.
    """
    bare = ["".join(token.token.split()) for token in tokens]
    begin = "".join(bare).rfind("".join(text.split()))
    if begin < 0:
        return None
    begin += len("".join(text[:start].split()))
    ends = itertools.accumulate(map(len, bare))
    return next((place for place, end in enumerate(ends) if end > begin), None)
