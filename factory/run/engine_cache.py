"""Keep one engine open while consecutive steps need the same model."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from factory.engines import Engine, function, open_engine, reference, reward
from factory.functions import Function
from factory.plan import RecipeState, Step, engine_needed
from factory.recipe import TransformersEngine


class EngineCache(AbstractContextManager["EngineCache"]):
    """The one engine that is open at a time: kept while steps need the same model."""

    def __init__(self, survey: RecipeState) -> None:
        self._survey = survey
        self._stack = ExitStack()
        self._open: tuple[str, Engine] | None = None

    def __exit__(self, *exception: Any) -> None:
        self._open = None
        self._stack.__exit__(*exception)  # an engine that is left by an exception ends at once

    def close(self) -> None:
        self._open = None
        self._stack.close()

    @contextlib.contextmanager
    def for_step(self, step: Step) -> Iterator[Engine]:
        survey = self._survey
        judge = survey.judge(step) if step.stage == "judgments" else None
        if isinstance(judge, Function):
            section = survey.section(step) or survey.recipe.probe
            assert section is not None, "a function is a judge's, or the probe's"
            with function.open_engine(judge, section.timeout, survey.lake.root / "logs") as engine:
                yield engine
            return
        if step.stage == "samples" and step.loads is None:
            with reference.open_engine() as engine:
                yield engine
            return
        held = engine_needed(survey.recipe, step)
        assert held is not None, f"{step.label} needs a model"
        if self._open is None or self._open[0] != held:
            self.close()
            self._open = (held, self._stack.enter_context(self._opened(step)))
        yield self._open[1]

    def _opened(self, step: Step) -> AbstractContextManager[Engine]:
        survey, name = self._survey, step.loads
        assert name is not None, f"{step.label} needs a model"
        model, settings = survey.models[name], survey.recipe.engine_of(name)
        section = survey.recipe.all_judges.get(name)
        if section and section.reward_model:
            assert isinstance(settings, TransformersEngine), "the recipe was checked for it"
            return reward.open_engine(settings, model)
        logs = survey.lake.root / "logs"
        return open_engine(settings, [model], survey.rank(name), survey.recipe.folder, logs)
