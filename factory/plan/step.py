"""Plan the steps of a recipe and their order.

The steps depend only on the recipe. The order minimizes model loads. With full fine-tuning, an
iteration needs three loads: M_i samples and judges, the future model samples, and M_i judges the
future model's answers. M_0 samples the past role of all iterations during its first load. With
adapters, one engine serves every role, and an iteration needs two loads: one before and one after
the training of the future model. A judge with its own model, or the previous model as a judge, adds
two loads per iteration. With 0 iterations, the plan ends with the first pairs of iteration 0.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from factory.pairs import FIRST, SECOND, load_policy
from factory.recipe import JUDGE, PAST_OFFSET, PROBE, REFERENCE, Recipe


@dataclass(frozen=True)
class Step:
    """One step of the plan, such as sampling a model's answers in one iteration.

    A step covers one stage for one role, judge, or model.
    """

    stage: str
    """One of prompts, samples, judgments, verdicts, pairs, train."""
    iteration: int = 0
    role: str = ""
    """Role whose answers are sampled or judged: past, current, future, reference, or probe. For a
    prompts step, loop or probe."""
    name: str = ""
    """Model that plays the role or is trained: M_0, F_0, M_1, …. REFERENCE for references, which no
    model writes."""
    judge: str = ""
    """Model that judges: a model in the loop, or the name of a judge with its own model. Empty for
    a function."""
    judge_name: str = ""
    """Name of the recipe's judge, or PROBE. Set for judgments and verdicts."""
    phase: str = ""
    """D1 or D2. Set for pairs and for the training on these pairs."""
    parent: str = ""
    """Model that a training starts from."""

    @property
    def loads(self) -> str | None:
        """The model that an engine must load for this step, or None if no engine is needed."""
        if self.stage == "samples":
            return None if self.name == REFERENCE else self.name
        return (self.judge or None) if self.stage == "judgments" else None

    @property
    def judge_title(self) -> str:
        """The judge's display name, such as `M_1`, `the judge`, `honest`, or `M_1 (honest)`."""
        if not self.judge or self.judge.islower():
            named = self.judge_name not in (JUDGE, PROBE)
            fallback = "the judge" if self.judge else "a function"
            return self.judge_name if named else fallback
        return self.judge if self.judge_name == JUDGE else f"{self.judge} ({self.judge_name})"

    @property
    def player(self) -> str:
        """The name and the role of the model that answers in this step, for display."""
        return "the references" if self.name == REFERENCE else f"{self.name} as {self.role}"

    @property
    def title(self) -> str:
        """The description of the step in tables, such as `samples of M_0 as past`."""
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
        """The step's title and iteration, such as `pairs D1, iteration 0`.

        Messages and manifests show this label. Usage is looked up in manifests by this label.
        """
        return (
            self.title if self.stage == "prompts" else f"{self.title}, iteration {self.iteration}"
        )


def first_draw(step: Step) -> int:
    """Return the index at which a step starts to number its answers to a prompt.

    Past and current are the same model in iteration 0, so their draws must not overlap.
    """
    return PAST_OFFSET if step.role == "past" and step.iteration == 0 else 0


def steps(recipe: Recipe) -> list[Step]:
    """Return every step of a recipe, in execution order."""
    return list(_steps(recipe))


def _steps(recipe: Recipe) -> Iterator[Step]:
    yield Step("prompts", role="loop")
    if recipe.probe:
        yield Step("prompts", role="probe")
    for iteration in recipe.loop.numbers:
        yield from _iteration(recipe, iteration)
    if recipe.loop.trains_models:
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
        while_held = recipe.loop.numbers if i == 0 else range(0)
        for at in [i] if recipe.one_engine else while_held:
            yield Step("samples", at, "past", "M_0")
    probe = list(_probe(recipe, i, model))
    yield from probe[:1]
    yield from _judged(recipe, i, first, model)
    yield from probe[1:]
    yield Step("pairs", i, phase=policy.phases[0])
    if not recipe.loop.trains_models:
        return
    if FIRST in policy.phases:
        yield Step("train", i, name=future, phase=FIRST, parent=model)
        yield Step("samples", i, "future", future)
        yield from _probe(recipe, i, future)
        yield from _judged(recipe, i, [("future", future)], model)
        yield Step("pairs", i, phase=SECOND)
    yield Step("train", i, name=f"M_{i + 1}", phase=SECOND, parent=model)


def _judged(recipe: Recipe, i: int, players: list[tuple[str, str]], model: str) -> Iterator[Step]:
    """Yield the judgments and verdicts steps of every judge.

    Judges that use `model`, which is already loaded, come first.
    """
    by = {name: _judge_model(recipe, i, name, model) for name in recipe.all_judges}
    for name in sorted(by, key=lambda name: (by[name] != model, by[name])):
        for stage in ("judgments", "verdicts"):
            for role, player in players:
                yield Step(stage, i, role, player, judge=by[name], judge_name=name)


def _judge_model(recipe: Recipe, i: int, name: str, current: str) -> str:
    """Return the model of a judge in iteration `i`; an empty string for a function."""
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
    """Return a name for the model that a step's engine loads, or None if no engine is needed.

    Steps with the same name can share one engine.
    """
    if step.loads is None or step.loads in recipe.all_judges:
        return step.loads
    return "the base of all adapters" if recipe.one_engine else step.loads


def steps_of_one_pass(recipe: Recipe, first: Step, later: Sequence[Step]) -> list[Step]:
    """Return a step together with the following steps that can run in the same engine pass.

    None of these steps needs the rows of another one.
    """
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
    """Count how many times a model is loaded when the steps run in the given order."""
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
