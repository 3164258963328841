"""The protocol of engines: requests in, results out, in any order.

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
    """One request: the draws of one prompt, or the judgments of one sample."""

    id: str
    """Identifies the request; with a draw, the result."""
    messages: Sequence[Mapping[str, Any]]
    """The last message is the turn to answer; for a judge that is a function or a reward model, it
    is the answer to judge."""
    draws: tuple[int, ...]
    """The requested draws."""
    seed: int
    """The base seed. Draw k uses seed + k, whatever else is in its batch."""
    generation: Generation
    model: Checkpoint | None
    """The model that answers; None for functions and references."""
    tools: list[dict[str, Any]] | None = None
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    """For functions: the prompt's reference, criteria, and meta; for references: the reference."""
    labels: tuple[str, ...] = ()
    """The score's labels, if their log-probabilities are requested."""
    score_at: str = ""
    """With labels: a regular expression whose one group is the score in the answer."""
    choices: tuple[str, ...] = ()
    """The only allowed answers, if the answer is constrained."""


@dataclass(frozen=True)
class Result:
    """One draw of one request: an answer or an error, never both."""

    request_id: str
    draw: int
    text: str | None = None
    value: float | None = None
    """The answer of an engine that returns numbers."""
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
    """The server's charge by the recipe's prices; an error may cost too."""


class Engine(Protocol):
    name: str

    @property
    def version(self) -> str: ...

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield one result for every draw of every request, in any order.

        The engine pulls requests as it has room; it may pull all of them before the first result.
        A request that cannot be answered is a result with an error. EngineError ends the step; the
        results so far are kept.
        """
        ...


def failures(
    request: Request, error: str, kind: ErrorKind, draws: Sequence[int] | None = None
) -> Iterator[Result]:
    """Yield the results of a request that failed, one per draw."""
    for draw in request.draws if draws is None else draws:
        yield Result(request.id, draw, error=error, error_kind=kind)


def runs(draws: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield the runs of consecutive draws: 0 1 2 5 6 is 0 1 2 and 5 6.

    An engine can draw a run at once: vLLM seeds its k-th answer with the request's seed + k.
    """
    start = 0
    for place in range(1, len(draws) + 1):
        if place == len(draws) or draws[place] != draws[place - 1] + 1:
            yield draws[start:place]
            start = place
