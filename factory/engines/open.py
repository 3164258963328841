"""Open the engine named in a recipe. Each engine is imported only when it is used."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from factory.engines.openai_environment import check_environment
from factory.engines.protocol import Engine
from factory.engines.threads import share_cores
from factory.files import temporary_folder
from factory.models import Checkpoint
from factory.recipe import Engine as Settings
from factory.recipe import OpenaiEngine, ScriptedEngine, TransformersEngine, VllmEngine


def check_engine(settings: Settings, rank: int, field: str) -> None:
    """Check an engine's settings and its environment variables. Raises RecipeError.

    `rank` is the largest rank of its adapters, 0 without adapters. `field` is the recipe section
    with the settings, such as `engine` or `judge.engine`.
    """
    match settings:
        case VllmEngine():
            from factory.engines import vllm

            vllm.check_arguments(settings, rank, field)
        case OpenaiEngine():
            check_environment(settings, field)


def open_engine(
    settings: Settings,
    models: Sequence[Checkpoint],
    rank: int,
    folder: Path,
    logs: Path,
    spent: float = 0.0,
) -> AbstractContextManager[Engine]:
    """Open the engine named in the recipe. Its models stay loaded until the context ends.

    `rank` is the largest rank of the adapters, 0 without adapters. `folder` is the recipe's folder.
    Engines in separate processes write logs to the folder `logs`. They may still be starting when
    the context begins; if one fails to start, `generate` raises EngineError. `spent` is the part of
    `max_cost` that earlier work has cost.
    """
    share_cores()
    match settings:
        case TransformersEngine():
            from factory.engines import transformers

            return transformers.open_engine(settings, models)
        case OpenaiEngine():
            from factory.engines import openai

            return openai.open_engine(settings, models, spent)
        case ScriptedEngine(replicas=None):
            from factory.engines import scripted

            return scripted.open_engine(settings, folder)
        case ScriptedEngine() | VllmEngine():
            return _open_processes(settings, models, rank, folder, logs)


@contextmanager
def _open_processes(
    settings: ScriptedEngine | VllmEngine,
    models: Sequence[Checkpoint],
    rank: int,
    folder: Path,
    logs: Path,
) -> Iterator[Engine]:
    """Open an engine that runs in processes of its own. The arguments are those of `open_engine`.

    vLLM creates its sockets in a temporary folder, because a killed process does not delete them.
    """
    from factory.engines import vllm
    from factory.engines.fleet import open_fleet
    from factory.engines.worker import Start

    with temporary_folder() as sockets:
        environments: Sequence[Mapping[str, str]]
        if isinstance(settings, VllmEngine):
            environments = vllm.environments(settings, sockets)
        else:
            environments = [{}] * (settings.replicas or 1)
        start = Start(settings, tuple(models), rank, folder)
        with open_fleet(start, environments, logs) as fleet:
            yield fleet
