"""Open the engine that a recipe chooses. Each engine is one file, imported only when chosen."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from factory.engines.protocol import Engine
from factory.models import Checkpoint
from factory.recipe import Engine as Settings
from factory.recipe import OpenaiEngine, ScriptedEngine, TransformersEngine, VllmEngine


def check_engine(settings: Settings, rank: int) -> None:
    """Refuses settings that the chosen engine does not have; `rank` is the largest of its adapters,
    0 where there are none. Imports no engine."""
    if isinstance(settings, VllmEngine):
        from factory.engines import vllm

        vllm.check(settings, rank)


def open_engine(
    settings: Settings, models: Sequence[Checkpoint], rank: int, folder: Path, logs: Path
) -> AbstractContextManager[Engine]:
    """The engine that the recipe chose, with its models loaded until the context ends; `folder` is
    the recipe's.

    Engines in processes of their own write what they say to files in `logs`, and are still
    starting when the context begins: a failure to start is raised by `generate`.
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
