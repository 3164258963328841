"""What an engine is: it takes requests and yields results, in any order.

An engine knows nothing of stages, tables, or the lake.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from factory.models import Checkpoint
from factory.recipe import Generation

ErrorKind = Literal["permanent", "transient"]


@dataclass(frozen=True)
class Request:
    """One thing to ask: the draws of one prompt, or the judgments of one sample."""

    id: str
    """Says what is asked; with a draw, what is answered."""
    messages: Sequence[Mapping[str, Any]]
    """Of which the last is the turn to answer; for a judge that is a function or a reward model,
    the answer."""
    draws: tuple[int, ...]
    """Which draws are wanted."""
    seed: int
    """The base seed: draw k is drawn with seed + k, whatever it is asked together with."""
    generation: Generation
    model: Checkpoint | None
    """Who answers; None for functions and references."""
    tools: list[dict[str, Any]] | None = None
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    """For functions: reference, criteria and meta of the prompt; for references: reference."""
    labels: tuple[str, ...] = ()
    """The score's labels, where their log-probabilities are wanted."""
    score_at: str = ""
    """With labels: a regular expression whose one group is the score in the answer."""
    choices: tuple[str, ...] = ()
    """The only answers that the model is to be held to, where there are any."""


@dataclass(frozen=True)
class Result:
    """One draw of one request: an answer or an error, never both."""

    request_id: str
    draw: int
    text: str | None = None
    value: float | None = None
    """Of engines that give a number."""
    reasoning: str | None = None
    tool_calls: str | None = None
    n_prompt_tokens: int | None = None
    n_cached_tokens: int | None = None
    n_tokens: int | None = None
    finish_reason: str | None = None
    cumulative_logprob: float | None = None
    score_logprobs: list[dict[str, Any]] | None = None
    """{label, logprob} of each of the request's labels where the score stands."""
    error: str | None = None
    error_kind: ErrorKind | None = None
    cost: float | None = None
    """What a server will want for it, by the recipe's prices; an error may cost too."""


class Engine(Protocol):
    name: str

    @property
    def version(self) -> str: ...

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yields one result for every draw of every request, in any order.

        Requests are pulled as there is room for them; all of them may be pulled before the first
        result. A request that cannot be answered is a result with an error; raising EngineError
        ends the step, and what was yielded is kept.
        """
        ...


def prompt_tokens(request: Request, tokenizer: Any, *, answered: bool = False) -> list[int]:
    """What a model reads for a request, by the chat template of a tokenizer of transformers; it may
    refuse a conversation with any exception. With `answered` the last message is the answer, and
    no other is begun."""
    messages = [
        {name: value for name, value in message.items() if value is not None}
        for message in request.messages
    ]
    encoded = tokenizer.apply_chat_template(
        messages,
        tools=request.tools,
        add_generation_prompt=not answered,
        return_dict=True,
        **request.template_kwargs,
    )
    tokens: list[int] = encoded["input_ids"]
    return tokens


def failures(
    request: Request, error: str, kind: ErrorKind, draws: Sequence[int] | None = None
) -> Iterator[Result]:
    """The results of a request that failed, one for each of its draws."""
    for draw in request.draws if draws is None else draws:
        yield Result(request.id, draw, error=error, error_kind=kind)


def runs(draws: Sequence[int]) -> Iterator[Sequence[int]]:
    """Draws that follow one another, together: 0 1 2 5 6 is 0 1 2 and 5 6.

    A run can be one question: vLLM seeds the k-th of several answers with the request's seed + k.
    """
    start = 0
    for place in range(1, len(draws) + 1):
        if place == len(draws) or draws[place] != draws[place - 1] + 1:
            yield draws[start:place]
            start = place
