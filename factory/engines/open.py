"""Open the engine that a recipe chooses. Each engine is one file, imported only when chosen."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from factory.engines.protocol import Engine
from factory.models import Checkpoint
from factory.recipe import Engine as Settings
from factory.recipe import OpenaiEngine, ScriptedEngine, TransformersEngine, VllmEngine


def check_engine(settings: Settings, rank: int, field: str) -> None:
    """Raise RecipeError for settings that the chosen engine does not have. Imports no engine.

    `rank` is the largest rank of its adapters, 0 without adapters; `field` is the recipe section of
    the settings: `engine`, `judge.engine`.
    """
    if isinstance(settings, VllmEngine):
        from factory.engines import vllm

        vllm.check_arguments(settings, rank, field)


def open_engine(
    settings: Settings, models: Sequence[Checkpoint], rank: int, folder: Path, logs: Path
) -> AbstractContextManager[Engine]:
    """Open the engine that the recipe chose, with its models loaded until the context ends.

    `folder` is the recipe's. Engines in separate processes write their output to files in `logs`.
    They are still starting when the context begins: `generate` raises a failure to start.
    """
    match settings:
        case TransformersEngine():
            from factory.engines import transformers

            return transformers.open_engine(settings, models)
        case OpenaiEngine():
            from factory.engines import openai

            return openai.open_engine(settings, models)
        case ScriptedEngine(replicas=None):
            from factory.engines import scripted

            return scripted.open_engine(settings, folder)
        case ScriptedEngine(replicas=int(replicas)):
            environments: Sequence[Mapping[str, str]] = [{}] * replicas
        case VllmEngine():
            from factory.engines import vllm

            environments = vllm.environments(settings)
    from factory.engines.fleet import open_fleet
    from factory.engines.worker import Start

    return open_fleet(Start(settings, tuple(models), rank, folder), environments, logs)
