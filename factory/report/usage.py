"""The tokens, time, and cost of finished steps, and estimates for the remaining steps."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from factory.models import model_manifest
from factory.plan import RecipeState, Step, StepState


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
    if step_state.folder is None:
        return Usage()
    if step_state.step.stage == "train":
        manifest = model_manifest(step_state.folder.path) or {}
        return Usage(seconds=float(manifest.get("seconds", 0)))
    events = step_state.folder.events()
    return _sum(event for event in events if event.get("step") == step_state.step.label)


def usage_by_stage(state: RecipeState) -> dict[str, Usage]:
    """Return the tokens, time, and cost of each stage, summed over its steps."""
    usage: dict[str, Usage] = {}
    for step, step_state in state.steps.items():
        usage[step.stage] = usage.get(step.stage, Usage()) + usage_of_step(step_state)
    return usage


def _sum(events: Iterable[dict[str, Any]]) -> Usage:
    total = Usage()
    for event in events:
        counts = {name: int(event.get(name, 0)) for name in ("answered", *_TOKENS)}
        total += Usage(**counts, seconds=float(event.get("seconds", 0)), cost=event.get("cost"))
    return total


_TOKENS = ("prompt_tokens", "cached_tokens", "tokens")


@dataclass(frozen=True)
class Estimate:
    """An estimate of the tokens, time, and cost of a step.

    Seconds and cost are None if the lake has no finished work of the same kind.
    """

    tokens: int = 0
    at_most: bool = False
    """Whether `tokens` is an upper bound, because the lake has no finished work of the same kind.
    Every answer is then counted with the most tokens that it can have."""
    seconds: float | None = None
    cost: float | None = None


def estimates(state: RecipeState) -> dict[Step, Estimate]:
    """Estimate the tokens, time, and cost of every unfinished step that uses a model.

    Estimates are based on the recipe's finished work in the same stage or, if there is none, on the
    finished work of all recipes in the lake. They exclude the time to load models.
    """
    like = {stage: _like(state, stage) for stage in ("samples", "judgments")}
    training = _mean_training(state)
    return {
        step: Estimate(seconds=training)
        if step.stage == "train"
        else _expected(step_state, like[step.stage], _most_tokens(state, step))
        for step, step_state in state.steps.items()
        if not step_state.done and (step.loads is not None or step.stage == "train")
    }


def _most_tokens(state: RecipeState, step: Step) -> int:
    """Return the largest number of tokens in one answer of a step, which is 0 for a reward model.

    A constrained judge writes a label and the end of the text. A token has at least one byte.
    """
    section = state.opened.section(step) if step.stage == "judgments" else None
    if section and section.reward_model:
        return 0
    most = (section or state.recipe.sampling).max_tokens
    rubric = state.opened.rubrics[step.judge_name] if section else None
    if section and section.constrained and rubric:
        return min(most, 1 + max(len(label.encode()) for label in rubric.labels))
    return most


def _expected(step_state: StepState, done: Usage, max_tokens: int) -> Estimate:
    to_ask = step_state.missing - step_state.reused
    if not done.answered:
        return Estimate(to_ask * max_tokens, at_most=True)
    share = to_ask / done.answered
    return Estimate(
        min(round(done.tokens * share), to_ask * max_tokens),
        seconds=done.seconds * share,
        cost=None if done.cost is None else done.cost * share,
    )


def _like(state: RecipeState, stage: str) -> Usage:
    """Return the usage of a stage's steps that use a model: those of the recipe, or else of all
    recipes in the lake."""
    own = (
        usage_of_step(step_state)
        for step, step_state in state.steps.items()
        if step.stage == stage and step.loads is not None
    )
    total = sum(own, Usage())
    if total.answered:
        return total
    folders = state.lake.folders(stage)
    return sum((_sum(f.events()) for f in folders if "model" in f.settings()), Usage())


def _mean_training(state: RecipeState) -> float | None:
    manifests = (model_manifest(folder.path) for folder in state.lake.folders("models"))
    took = [float(manifest["seconds"]) for manifest in manifests if manifest]
    return sum(took) / len(took) if took else None
