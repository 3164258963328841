"""The tokens, time, and cost of finished work."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from factory.models import model_manifest
from factory.plan import RecipeState, StepState


@dataclass(frozen=True)
class Usage:
    """The tokens, time, and cost of running engines and trainers.

    Includes interrupted work, and work whose rows a later run replaced. Excludes rows that were
    reused from another `max_tokens`.
    """

    answered: int = 0
    """Number of answers, one per draw."""
    prompt_tokens: int = 0
    """Number of prompt tokens. A prompt that is read once for several draws counts once per
    draw."""
    cached_tokens: int = 0
    """Number of prompt tokens in the engine's prefix cache, if the engine reports it."""
    tokens: int = 0
    """Number of generated tokens."""
    seconds: float = 0.0
    cost: float | None = None
    """Cost in the currency of the recipe's prices. None if the recipe has no prices."""

    def __add__(self, other: "Usage") -> "Usage":
        costs = [cost for cost in (self.cost, other.cost) if cost is not None]
        return Usage(
            self.answered + other.answered,
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.tokens + other.tokens,
            self.seconds + other.seconds,
            sum(costs) if costs else None,
        )

    def row(self) -> dict[str, Any]:
        """Return the tokens, time, cost, and tokens per second as a table row."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 1),
            "prompt_tokens_per_second": _rate(self.prompt_tokens, self.seconds),
            "tokens_per_second": _rate(self.tokens, self.seconds),
            "cost": self.cost,
        }


def _rate(n: int, seconds: float) -> float | None:
    return round(n / seconds, 1) if n and seconds else None


def usage_of_step(step_state: StepState) -> Usage:
    """Return the tokens, time, and cost of a step, summed over all runs.

    Includes runs of other recipes that share the step's folder.
    """
    if step_state.folder is not None and step_state.step.stage == "train":
        manifest = model_manifest(step_state.folder.path)
        if manifest is not None:
            return Usage(seconds=float(manifest.get("seconds", 0)))
    return sum_events(events_of_step(step_state))


def events_of_step(step_state: StepState) -> list[dict[str, Any]]:
    """Return the events of a step in the manifest of its folder, oldest first."""
    events = step_state.folder.events() if step_state.folder else []
    return [event for event in events if event.get("step") == step_state.step.label]


def usage_by_stage(state: RecipeState) -> dict[str, Usage]:
    """Return the tokens, time, and cost of each stage, summed over its steps."""
    usage: dict[str, Usage] = {}
    for step, step_state in state.steps.items():
        usage[step.stage] = usage.get(step.stage, Usage()) + usage_of_step(step_state)
    return usage


def sum_events(events: Iterable[dict[str, Any]]) -> Usage:
    """Return the sum of the tokens, time, and cost of manifest events."""
    total = Usage()
    for event in events:
        counts = {name: int(event.get(name, 0)) for name in ("answered", *_TOKENS)}
        total += Usage(**counts, seconds=float(event.get("seconds", 0)), cost=event.get("cost"))
    return total


_TOKENS = ("prompt_tokens", "cached_tokens", "tokens")
