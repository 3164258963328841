"""The plan: which steps a recipe takes, in which order. Looks at no lake and no model.

Steps are ordered so that a model is loaded as rarely as possible. With full fine-tuning an
iteration takes three loads (M_i samples and judges; the future model samples; M_i judges it), and
M_0 samples the past role of all iterations in its first. Where one engine holds every role, as
adapters of one base, it takes two: before the training of the future model and after it. A judge
with a model of its own, or that is the model before the current one, is loaded twice an iteration
beside these.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from factory.pairs import FIRST, SECOND, load_policy
from factory.recipe import JUDGE, PAST_OFFSET, PROBE, REFERENCE, Recipe


@dataclass(frozen=True)
class Step:
    """One stage in one place of the plan."""

    stage: str
    """prompts, samples, judgments, verdicts, pairs, train"""
    iteration: int = 0
    role: str = ""
    """Whose samples are made, judged or scored: past, current, future, reference, probe. Of a
    prompts step: loop or probe."""
    name: str = ""
    """The model that plays the role, or that is trained: M_0, F_0, M_1, …; REFERENCE where none
    does."""
    judge: str = ""
    """The model that judges: one of the loop, or a judge's own by its name; empty where a function
    does."""
    judge_name: str = ""
    """Of judgments and verdicts: which of the recipe's judges, or PROBE."""
    phase: str = ""
    """Of pairs, and of the training upon them: D1 or D2."""
    parent: str = ""
    """The model that a training starts from."""

    @property
    def loads(self) -> str | None:
        """The model that an engine must hold for this step."""
        if self.stage == "samples":
            return None if self.name == REFERENCE else self.name
        return (self.judge or None) if self.stage == "judgments" else None

    @property
    def judge_title(self) -> str:
        """Who judges, as people read it: `M_1`, `the judge`, `honest`, `M_1 (honest)`."""
        if not self.judge or self.judge.islower():
            named = self.judge_name not in (JUDGE, PROBE)
            fallback = "the judge" if self.judge else "a function"
            return self.judge_name if named else fallback
        return self.judge if self.judge_name == JUDGE else f"{self.judge} ({self.judge_name})"

    @property
    def player(self) -> str:
        """Whose samples it is about."""
        return "the references" if self.name == REFERENCE else f"{self.name} as {self.role}"

    @property
    def title(self) -> str:
        match self.stage:
            case "prompts":
                return "prompts" if self.role == "loop" else "prompts of the probe"
            case "samples":
                return f"samples of {self.player}"
            case "judgments":
                return f"judgments of {self.player} by {self.judge_title}"
            case "verdicts":
                by = "" if self.judge_name in (JUDGE, PROBE) else f" by {self.judge_title}"
                return f"verdicts on {self.player}{by}"
            case "pairs":
                return f"pairs {self.phase}"
            case _:
                return f"training of {self.name} on {self.phase}"

    @property
    def label(self) -> str:
        """The title with its place in the loop."""
        return (
            self.title if self.stage == "prompts" else f"{self.title}, iteration {self.iteration}"
        )


def first_draw(step: Step) -> int:
    """Past and current are one model in iteration 0: their draws lie apart."""
    return PAST_OFFSET if step.role == "past" and step.iteration == 0 else 0


def steps(recipe: Recipe) -> list[Step]:
    """Every step of a recipe, in the order in which they are run."""
    return list(_steps(recipe))


def _steps(recipe: Recipe) -> Iterator[Step]:
    yield Step("prompts", role="loop")
    if recipe.probe:
        yield Step("prompts", role="probe")
    for iteration in range(recipe.loop.iterations):
        yield from _iteration(recipe, iteration)
    yield from _probe(recipe, recipe.loop.iterations, f"M_{recipe.loop.iterations}")


def _iteration(recipe: Recipe, i: int) -> Iterator[Step]:
    policy = load_policy(recipe)
    model, future = f"M_{i}", f"F_{i}"
    players = {"current": model, "past": "M_0", "future": future, REFERENCE: REFERENCE}
    first = [(role, players[role]) for role in policy.candidates(FIRST)]

    if REFERENCE in policy.roles:
        yield Step("samples", i, REFERENCE, REFERENCE)
    yield Step("samples", i, "current", model)
    if "past" in policy.roles:
        while_held = range(recipe.loop.iterations) if i == 0 else range(0)
        for at in [i] if recipe.one_engine else while_held:
            yield Step("samples", at, "past", "M_0")
    probe = list(_probe(recipe, i, model))
    yield from probe[:1]
    yield from _judged(recipe, i, first, model)
    yield from probe[1:]
    if FIRST in policy.phases:
        yield Step("pairs", i, phase=FIRST)
        yield Step("train", i, name=future, phase=FIRST, parent=model)
        yield Step("samples", i, "future", future)
        yield from _probe(recipe, i, future)
        yield from _judged(recipe, i, [("future", future)], model)
    yield Step("pairs", i, phase=SECOND)
    yield Step("train", i, name=f"M_{i + 1}", phase=SECOND, parent=model)


def _judged(recipe: Recipe, i: int, players: list[tuple[str, str]], model: str) -> Iterator[Step]:
    """Each judge's steps; those that the model judges that is loaded come first."""
    by = {name: _judge_model(recipe, i, name, model) for name in recipe.all_judges}
    for name in sorted(by, key=lambda name: (by[name] != model, by[name])):
        for stage in ("judgments", "verdicts"):
            for role, player in players:
                yield Step(stage, i, role, player, judge=by[name], judge_name=name)


def _judge_model(recipe: Recipe, i: int, name: str, current: str) -> str:
    judge = recipe.all_judges[name]
    if judge.function:
        return ""
    if judge.has_model:
        return recipe.model_of_judge(name)
    return current if judge.by == "current" else f"M_{max(i - 1, 0)}"


def _probe(recipe: Recipe, i: int, name: str) -> Iterator[Step]:
    if recipe.probe:
        yield Step("samples", i, "probe", name)
        yield Step("judgments", i, "probe", name, judge_name=PROBE)
        yield Step("verdicts", i, "probe", name, judge_name=PROBE)


def engine_needed(recipe: Recipe, step: Step) -> str | None:
    """What an engine must have loaded for a step: steps with the same need no other."""
    if step.loads is None or step.loads in recipe.all_judges:
        return step.loads
    return "the base of all adapters" if recipe.one_engine else step.loads


def steps_of_one_pass(recipe: Recipe, first: Step, later: Sequence[Step]) -> list[Step]:
    """A generating step and the steps after it whose requests one engine answers in one pass:
    nothing that they need is made in between."""
    needed = engine_needed(recipe, first)
    if needed is None:
        return [first]
    alike = takewhile(
        lambda step: (
            (step.stage, step.judge_name) == (first.stage, first.judge_name)
            and engine_needed(recipe, step) == needed
        ),
        later,
    )
    return [first, *alike]


def loads(recipe: Recipe, recipe_steps: Sequence[Step]) -> int:
    """How often a model is loaded when these steps are run in this order."""
    loaded: str | None = None
    count = 0
    for step in recipe_steps:
        needed = engine_needed(recipe, step)
        if step.stage == "train":
            loaded = None
        elif needed is not None and needed != loaded:
            loaded = needed
            count += 1
    return count
