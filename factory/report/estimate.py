"""Estimates of the tokens, time, and cost of a recipe's unfinished steps, from measured work."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from factory.fingerprint import canonical
from factory.lake import load_query
from factory.plan import RecipeState, Step, StepState
from factory.recipe import PROBE
from factory.report.usage import Usage, events_of_step, sum_events, usage_of_step

ENOUGH = 0.05
"""Share of a step's rows that is enough to measure its speed (our choice). Only the latest rows
count, because the load of a machine changes."""


@dataclass(frozen=True)
class Estimate:
    """An estimate of the tokens, time, and cost of a step.

    Seconds and cost are None if nothing similar was measured yet.
    """

    tokens: int = 0
    at_most: bool = False
    """Whether `tokens` is an upper bound, because nothing similar was measured yet. Every answer
    then counts with its maximum number of tokens."""
    seconds: float | None = None
    cost: float | None = None
    measured: str | None = None
    """Label of the step whose work was measured."""


def estimates(state: RecipeState) -> dict[Step, Estimate]:
    """Estimate the tokens, time, and cost of every unfinished step that uses a model.

    An estimate is based on the step's own finished rows. If there are none, it is based on the rows
    of a similar step: first, the same prompts, role, and judge in another iteration, and then
    another role. The rows of a preview are rows of iteration 0. Rows of another judge never count.
    Estimates exclude the time to load models.
    """
    found: dict[Step, Estimate] = {}
    for step, step_state in state.steps.items():
        if step_state.done:
            continue
        if step.stage == "train":
            if state.recipe.train.with_ != "manual":
                found[step] = _estimate_training(state, step_state)
        elif step.loads is not None:
            found[step] = _estimate_answers(state, step_state)
    return found


# answers and judgments


def _estimate_answers(state: RecipeState, step_state: StepState) -> Estimate:
    to_ask = step_state.missing - step_state.reused
    most = to_ask * _most_tokens(state, step_state.step)
    label, work = _measured(state, step_state)
    if not work.answered:
        return Estimate(most, at_most=True)
    share = to_ask / work.answered
    return Estimate(
        min(round(work.tokens * share), most),
        seconds=work.seconds * share if work.seconds else None,
        cost=None if work.cost is None else work.cost * share,
        measured=label,
    )


def _most_tokens(state: RecipeState, step: Step) -> int:
    """Return the largest number of tokens in one answer of a step, which is 0 for a reward model.

    A constrained judge writes a label and a stop token. A token has at least one byte.
    """
    section = state.opened.section(step) if step.stage == "judgments" else None
    if section and section.reward_model:
        return 0
    most = (section or state.recipe.sampling).max_tokens
    rubric = state.opened.rubrics[step.judge_name] if section else None
    if section and section.constrained and rubric:
        return min(most, 1 + max((len(label.encode()) for label in rubric.labels), default=0))
    return most


def _measured(state: RecipeState, step_state: StepState) -> tuple[str, Usage]:
    """Return the label and the measured work of the step that is most similar to a given step.

    The step itself comes first. The work of another recipe counts if only the seed differs. If
    nothing was measured, the work is empty.
    """
    step = step_state.step
    alike = [state.steps[other] for other in _alike(state, step)]
    engine = state.recipe.engine_of(step.loads or "").name
    for found in alike:
        work = _sum(events_of_step(found), engine, step_state.wanted)
        if work.answered:
            return found.step.label, work
    for found in alike:
        work = _sum(list(_events_apart_from_seed(state, found)), engine, step_state.wanted)
        if work.answered:
            return found.step.label, work
    return "", Usage()


def _alike(state: RecipeState, step: Step) -> list[Step]:
    """Return the steps of the same stage and judge, the most similar ones first."""

    def difference(other: Step) -> tuple[bool, bool, bool, int]:
        return (
            other != step,
            (other.role == PROBE) != (step.role == PROBE),
            other.role != step.role,
            abs(other.iteration - step.iteration),
        )

    same = [
        other
        for other in state.steps
        if (other.stage, other.judge_name) == (step.stage, step.judge_name) and other.loads
    ]
    return sorted(same, key=difference)


def _sum(events: Sequence[dict[str, Any]], engine: str, wanted: int) -> Usage:
    """Sum the events of a step with `wanted` rows, at the speed of the latest events.

    If no event ran on the given engine, the sum has no seconds.
    """
    total, latest = sum_events(events), Usage()
    for event in reversed(events):
        if latest.answered and latest.answered >= ENOUGH * wanted:
            break
        if engine in event.get("versions", {}):
            latest += sum_events([event])
    seconds = latest.seconds * total.answered / latest.answered if latest.answered else 0.0
    return replace(total, seconds=seconds)


def _events_apart_from_seed(state: RecipeState, found: StepState) -> Iterator[dict[str, Any]]:
    """Yield the events of folders whose settings differ from a step's only in seed and length."""
    if found.folder is None:
        return
    ignored = {"seed": None, "max_tokens": None}
    mine = canonical({**found.settings, **ignored})
    for folder in state.lake.folders(found.step.stage):
        if canonical({**folder.settings(), **ignored}) == mine:
            yield from (event for event in folder.events() if event.get("answered"))


# trainings


def _estimate_training(state: RecipeState, step_state: StepState) -> Estimate:
    own = _rest_of_training(step_state)
    if own is not None:
        return Estimate(seconds=own, measured=step_state.step.label)
    step = step_state.step
    done = [found for other, found in state.steps.items() if other.stage == "train" and found.done]
    for found in sorted(done, key=lambda found: abs(found.step.iteration - step.iteration)):
        if ratio := _ratio_of_tokens(state, step, found.step):
            seconds = _seconds_for(found, ratio)
            return Estimate(seconds=seconds, measured=found.step.label)
    return Estimate()


def _ratio_of_tokens(state: RecipeState, step: Step, finished: Step) -> float | None:
    """Return the ratio of a training's tokens to the tokens of a finished training.

    If its pairs are not chosen yet, each prompt of its iteration counts like a prompt of the
    finished training. Returns None if the finished training read no tokens.
    """
    tokens, read = _tokens_of_pairs(state, step), _tokens_of_pairs(state, finished)
    if not read:
        return None
    if tokens is not None:
        return tokens / read
    mine, theirs = (state.n_prompts.get(each.iteration, (0, 0))[1] for each in (step, finished))
    return mine / theirs if theirs else None


def _tokens_of_pairs(state: RecipeState, step: Step) -> int | None:
    """Return the tokens of the pairs that a step trains on, or None if they are not chosen yet."""
    built = state.steps[Step("pairs", step.iteration, phase=step.phase)]
    if not built.done or built.folder is None:
        return None
    views = state.views()
    views.register_shards("pairs", "pairs", built.folder.shards())
    return int(views.one(load_query("report/trained_tokens"))["tokens"])


def _rest_of_training(step_state: StepState) -> float | None:
    """Return the remaining seconds of an interrupted training, or None if its speed is unknown.

    The training resumes from its newest checkpoint.
    """
    session = _last_session(step_state)
    if session is None or step_state.folder is None:
        return None
    saved = [_step_of(path) for path in step_state.folder.path.glob("checkpoints/checkpoint-*")]
    seconds = session["training_seconds"] / session["trained"]
    return float((session["of"] - max(saved, default=0)) * seconds)


def _step_of(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def _last_session(step_state: StepState) -> dict[str, Any] | None:
    """Return the last event of a training that measured its optimizer steps, or None."""
    events = step_state.folder.events() if step_state.folder else []
    return next((event for event in reversed(events) if event.get("trained")), None)


def _seconds_for(found: StepState, ratio: float) -> float | None:
    """Return the seconds of a training with `ratio` times the tokens of a finished training.

    The time to start the trainer stays the same.
    """
    session = _last_session(found)
    if session is None:
        return usage_of_step(found).seconds * ratio or None
    seconds = session["training_seconds"] / session["trained"]
    start = session["seconds"] - session["training_seconds"] - seconds
    return max(0.0, float(start)) + float(session["of"] * seconds) * ratio
