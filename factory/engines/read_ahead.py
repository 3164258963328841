"""Read requests ahead: prompts as tokens, sorted by length, so that a batch has little padding."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from factory.engines.protocol import Request, Result, failures


class PromptRefused(Exception):
    """A prompt that the model cannot read. The message is the reason."""


@dataclass(frozen=True)
class Row:
    """One draw of a request whose prompt was read."""

    request: Request
    draw: int
    tokens: list[int]
    """The prompt's."""


def read_prompt(
    request: Request, tokenizer: Any, context: int | None, *, answered: bool = False
) -> list[int]:
    """Return the tokens of a request's prompt, by the chat template of a transformers tokenizer.

    With `answered`, the last message is the answer, and no other answer is begun. Raises
    PromptRefused if the template refuses the messages, or if they do not fit into the context.
    """
    messages = [
        {name: value for name, value in message.items() if value is not None}
        for message in request.messages
    ]
    try:
        encoded = tokenizer.apply_chat_template(
            messages,
            tools=request.tools,
            add_generation_prompt=not answered,
            return_dict=True,
            **request.template_kwargs,
        )
    except Exception as error:  # a template may raise anything to refuse a conversation
        raise PromptRefused(f"the chat template refused it: {error}") from None
    tokens: list[int] = encoded["input_ids"]
    if not tokens:
        raise PromptRefused("the chat template rendered nothing")
    check_length(len(tokens), 0 if answered else request.generation.max_tokens, context)
    return tokens


def check_length(n_tokens: int, max_tokens: int, context: int | None, owner: str = "model") -> None:
    """Raise PromptRefused if a prompt and its longest answer do not fit into the context of
    `owner`; None is a context of unknown length."""
    if context is not None and n_tokens + max_tokens > context:
        answer = f" and up to {max_tokens} to answer" if max_tokens else ""
        raise PromptRefused(
            f"too long: {n_tokens} tokens{answer}, the {owner}'s context is {context}"
        )


def read_windows(
    requests: Iterable[Request], read: Callable[[Request], list[int]], size: int
) -> Iterator[tuple[list[Row], list[Result]]]:
    """Yield windows of at least `size` rows, shortest prompt first, with the failures of the
    requests that `read` refused meanwhile. The last window may be smaller."""
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
