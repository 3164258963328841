"""Tokenize requests in advance and sort them by length, so that batches need less padding."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from factory.engines.protocol import Request, Result, failures


class PromptRefused(Exception):
    """An error for a prompt that the model cannot process. The message is the reason."""


@dataclass(frozen=True)
class Row:
    """One row of a batch: a single draw for a request, with the tokens of its prompt."""

    request: Request
    draw: int
    tokens: list[int]
    """Tokens of the prompt."""


def read_prompt(
    request: Request,
    tokenizer: Any,
    context: int | None,
    *,
    answered: bool = False,
    extra: int = 0,
) -> list[int]:
    """Render a request's prompt with the tokenizer's chat template, and return the tokens.

    With `answered`, the last message is the answer to judge, so no generation prompt is added.
    `context` is the model's maximum number of tokens; None if unknown. `extra` is the number of
    tokens that the model may read after the answer's last position. Raises PromptRefused if the
    template refuses the messages, or if prompt and answer do not fit into the context.
    """
    try:
        encoded = tokenizer.apply_chat_template(
            list(request.messages),
            tools=request.tools,
            add_generation_prompt=not answered,
            return_dict=True,
            **request.template_kwargs,
        )
    except Exception as error:  # a template can raise any exception to refuse a conversation
        raise PromptRefused(f"the chat template rejected the messages: {error}") from None
    tokens: list[int] = encoded["input_ids"]
    if not tokens:
        raise PromptRefused("the chat template returned an empty prompt")
    most = 0 if answered else request.generation.max_tokens + extra
    check_length(len(tokens), most, context)
    return tokens


def check_length(n_tokens: int, max_tokens: int, context: int | None, owner: str = "model") -> None:
    """Raise PromptRefused if a prompt and an answer of `max_tokens` tokens exceed the context.

    `context` is a number of tokens, or None if unknown. `owner` names the model or server in the
    message.
    """
    if context is not None and n_tokens + max_tokens > context:
        answer = f" plus up to {max_tokens} for the answer" if max_tokens else ""
        raise PromptRefused(
            f"the prompt is too long: got {n_tokens} tokens{answer}, "
            f"but the {owner}'s context length is {context} tokens"
        )


def read_windows(
    requests: Iterable[Request], read: Callable[[Request], list[int]], size: int
) -> Iterator[tuple[list[Row], list[Result]]]:
    """Group rows into windows, and yield each window sorted by the length of its prompts.

    A window has at least `size` rows. Each window comes with the failed results of the requests
    that `read` refused. The last window may be smaller.
    """
    remaining = iter(requests)
    while True:
        rows: list[Row] = []
        refused: list[Result] = []
        while len(rows) < size and (request := next(remaining, None)) is not None:
            try:
                tokens = read(request)
            except PromptRefused as reason:
                refused.extend(failures(request, str(reason), "permanent"))
            else:
                rows.extend(Row(request, draw, tokens) for draw in request.draws)
        if not rows and not refused:
            return
        rows.sort(key=lambda row: (len(row.tokens), row.request.id))
        yield rows, refused
