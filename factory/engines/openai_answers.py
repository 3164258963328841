"""Convert chat completions from OpenAI-compatible servers to the factory's results."""

import itertools
import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from factory.engines.labels import LabelTree, score_start
from factory.engines.openai_replies import BadChoice, Choice, Completion, Token, Usage
from factory.engines.protocol import ErrorKind, Request, Result, failures
from factory.engines.read_ahead import PromptRefused, check_length
from factory.errors import EngineError


def read_answers(
    request: Request, draws: Sequence[int], completion: Completion, context: int | None
) -> Iterator[Result]:
    """Convert a chat completion to results, and yield one result per draw of the request.

    `context` is the maximum number of tokens of a prompt and its answer; None if unknown.
    """
    usage, most = completion.usage, request.generation.max_tokens
    # A vLLM server accepts a prompt that leaves too little room, and truncates the answer.
    try:
        if usage.n_prompt is not None:
            check_length(usage.n_prompt, most, context, "server")
    except PromptRefused as refused:
        yield from failures(request, str(refused), "permanent", draws)
        return
    n_found = sum(choice is not None for choice in completion.choices)
    for draw, choice in zip(draws, completion.choices, strict=True):
        match choice:
            case None:
                reason = f"expected {len(draws)} answers from the server, got {n_found}"
                if len(draws) > 1:
                    reason += ": set engine.native_n to false"
                yield Result(request.id, draw, error=reason, error_kind="transient")
            case BadChoice(reason, is_permanent):
                kind: ErrorKind = "permanent" if is_permanent else "transient"
                yield Result(request.id, draw, error=reason, error_kind=kind)
            case Choice():
                yield _result(request, draw, choice, usage, alone=len(draws) == 1)


def _result(request: Request, draw: int, choice: Choice, usage: Usage, *, alone: bool) -> Result:
    calls = choice.tool_calls
    return Result(
        request.id,
        draw,
        text=choice.text,
        reasoning=choice.reasoning,
        tool_calls=json.dumps(calls, ensure_ascii=False) if calls else None,
        n_prompt_tokens=usage.n_prompt,
        # The number is a total: it does not show which of several answers had a cached prompt.
        n_cached_tokens=usage.n_cached if alone else None,
        n_tokens=_n_tokens(request, choice)
        if usage.n_generated is None or not alone
        else usage.n_generated,
        finish_reason=choice.finish_reason,
        score_logprobs=_score(request, choice) if request.labels else None,
    )


def _n_tokens(request: Request, choice: Choice) -> int | None:
    """Return the number of tokens of one of several answers; None if it cannot be counted.

    Servers report only the total over all answers. vLLM also returns each answer's tokens. For
    other servers, count the tokens of the text, plus one for the stop token.
    """
    if choice.n_tokens is not None:
        return choice.n_tokens
    assert request.model is not None, "the openai engine got a request for a Python function"
    tokenizer = None if request.model.declared else _tokenizer(request.model.path)
    if tokenizer is None:
        return None
    text = (choice.reasoning or "") + choice.text
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
    text, tokens = choice.text, choice.tokens
    start = score_start(text, request.score_at, request.generation.reasoning)
    place = None if start is None else _token_at(tokens, text, start)
    if start is None or place is None:
        return None
    token = tokens[place].text.strip()
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
    found = tokens[place]
    seen = found.likeliest
    if found.logprob is not None:
        seen = {**seen, found.text: seen.get(found.text, found.logprob)}
    places = {
        label: [(at,) for at, text in enumerate(seen) if text.strip() == label]
        for label in request.labels
    }
    return LabelTree(places).logprobs({(): dict(enumerate(seen.values()))})


def _token_at(tokens: Sequence[Token], text: str, start: int) -> int | None:
    """Return the index of the token that contains character `start` of the text; None if unknown.

    The tokens may include reasoning before the text and a stop token after it. Ignore white space:
    servers decode tokens one by one, which drops the space before a SentencePiece word.
    """
    bare = ["".join(token.text.split()) for token in tokens]
    begin = "".join(bare).rfind("".join(text.split()))
    if begin < 0:
        return None
    begin += len("".join(text[:start].split()))
    ends = itertools.accumulate(map(len, bare))
    return next((place for place, end in enumerate(ends) if end > begin), None)
