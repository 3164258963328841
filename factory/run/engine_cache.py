"""A cache that keeps one engine open while consecutive steps need the same model."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from factory.engines import Engine, function, open_engine, reference, reward
from factory.functions import Function
from factory.plan import RecipeState, Step, engine_needed, locate_step, steps
from factory.recipe import Engine as Settings
from factory.recipe import OpenaiEngine, TransformersEngine
from factory.report import Usage, usage_of_step


class EngineCache(AbstractContextManager["EngineCache"]):
    """A cache that keeps one engine open while consecutive steps need the same model."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._open: tuple[str, Engine] | None = None

    def __exit__(self, *exception: Any) -> None:
        self._open = None
        self._stack.__exit__(*exception)  # with an exception, the engine stops immediately

    def close(self) -> None:
        """Close the open engine and free its memory."""
        self._open = None
        self._stack.close()

    @contextmanager
    def for_step(self, state: RecipeState, step: Step) -> Iterator[Engine]:
        """Yield the engine that handles a step's requests, and open it first if necessary.

        Functions and references get a separate engine for each step, which needs no model.
        """
        judge = state.judge(step) if step.stage == "judgments" else None
        if isinstance(judge, Function):
            section = state.opened.section(step) or state.recipe.probe
            assert section is not None, "the function belongs to neither a judge nor the probe"
            with function.open_engine(judge, section.timeout, state.lake.root / "logs") as engine:
                yield engine
            return
        if step.stage == "samples" and step.loads is None:
            with reference.open_engine() as engine:
                yield engine
            return
        needed = engine_needed(state.recipe, step)
        assert needed is not None, f"{step.label} needs a model"
        if self._open is None or self._open[0] != needed:
            self.close()
            self._open = (needed, self._stack.enter_context(_open_engine(state, step)))
        yield self._open[1]


def _open_engine(state: RecipeState, step: Step) -> AbstractContextManager[Engine]:
    """Open the engine of the model that a step loads."""
    name = step.loads
    assert name is not None, f"{step.label} needs a model"
    model, settings = state.models[name], state.recipe.engine_of(name)
    section = state.recipe.all_judges.get(name)
    if section and section.reward_model:
        assert isinstance(settings, TransformersEngine), (
            "a reward model needs the transformers engine"
        )
        return reward.open_engine(settings, model)
    logs = state.lake.root / "logs"
    spent = _spent(state, settings)
    return open_engine(settings, [model], state.rank(name), state.recipe.folder, logs, spent)


def _spent(state: RecipeState, settings: Settings) -> float:
    """Return what the rows of the recipe from one server have cost, in this and earlier runs."""
    if not isinstance(settings, OpenaiEngine) or settings.max_cost is None:
        return 0.0
    usage = Usage()
    for step in steps(state.recipe):
        if step.loads is not None and state.recipe.engine_of(step.loads) == settings:
            usage += usage_of_step(state.steps.get(step) or locate_step(state, step, None))
    return usage.cost or 0.0
