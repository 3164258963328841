"""The interface that every engine implements.

An engine takes requests and yields results in any order. It does not depend on stages, tables, or
the lake.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from factory.models import Checkpoint
from factory.recipe import Generation

ErrorKind = Literal["permanent", "transient"]


@dataclass(frozen=True)
class Request:
    """A request for several answers to one prompt, or for several judgments of one answer."""

    id: str
    """Name of the request. A result is identified by this name and its draw."""
    messages: Sequence[Mapping[str, Any]]
    """The messages of a `Conversation`. The last one is the message to answer. For a judge that is
    a function or a reward model, it is the answer to judge."""
    draws: tuple[int, ...]
    """Numbers of the draws to generate, in increasing order."""
    seed: int
    """Base seed. Draw k uses seed + k, whichever other requests share its batch."""
    generation: Generation
    """Sampling settings."""
    model: Checkpoint | None
    """Model that answers; None for functions and references."""
    tools: list[dict[str, Any]] | None = None
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the prompt. Functions receive its reference, criteria, and meta; the reference
    engine uses its reference only."""
    labels: tuple[str, ...] = ()
    """Labels of the score whose log-probabilities the result should contain; empty for none."""
    score_at: str = ""
    """Regular expression whose only group matches the score in the answer; used with `labels`."""
    choices: tuple[str, ...] = ()
    """Texts to which the answer is restricted; empty for any text."""


@dataclass(frozen=True)
class Result:
    """The result of one draw of a request: either an answer or an error."""

    request_id: str
    draw: int
    text: str | None = None
    value: float | None = None
    """Score from a function or a reward model, which return numbers instead of text."""
    reasoning: str | None = None
    tool_calls: str | None = None
    n_prompt_tokens: int | None = None
    n_cached_tokens: int | None = None
    n_tokens: int | None = None
    finish_reason: str | None = None
    cumulative_logprob: float | None = None
    score_logprobs: list[dict[str, Any]] | None = None
    """Log-probability of each requested label at the position of the score: a list of
    {label, logprob}."""
    error: str | None = None
    error_kind: ErrorKind | None = None
    cost: float | None = None
    """Cost of this draw at the recipe's prices. Errors can have a cost too."""


class Engine(Protocol):
    """An inference backend, which answers requests with a model, a server, or a function."""

    name: str

    @property
    def version(self) -> str: ...

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield one result for every draw of every request, in any order.

        The engine reads requests when it has capacity, and may read all of them before it yields
        the first result. If a request cannot be answered, its results contain the error. Raises
        EngineError if the step cannot continue; the results so far are kept.
        """
        ...


def failures(
    request: Request, error: str, kind: ErrorKind, draws: Sequence[int] | None = None
) -> Iterator[Result]:
    """Yield a failed result for each draw of a request. If `draws` is given, use only these."""
    for draw in request.draws if draws is None else draws:
        yield Result(request.id, draw, error=error, error_kind=kind)


def runs(draws: Sequence[int]) -> Iterator[Sequence[int]]:
    """Split sorted draw numbers into runs of consecutive numbers.

    For example, 0 1 2 5 6 is split into 0 1 2 and 5 6. One call can generate a run of draws, since
    vLLM seeds the k-th answer with the call's seed + k.
    """
    start = 0
    for place in range(1, len(draws) + 1):
        if place == len(draws) or draws[place] != draws[place - 1] + 1:
            yield draws[start:place]
            start = place
