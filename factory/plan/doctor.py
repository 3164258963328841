"""Check whether this machine can run a recipe.

The checks read versions, sizes, and headers. They import neither torch nor an engine, read no
weights, call no model, and change nothing. `factory.checks` checks the recipe itself.
"""

import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import util
from pathlib import Path

from factory.engines import Gpu, find_gpus, group_gpus
from factory.errors import MissingModel, NotDownloaded
from factory.models import check_adapter, check_model, check_prompting, locate_model
from factory.pairs import load_policy
from factory.plan.capacity import check_disk, check_engine_memory, check_training_memory
from factory.plan.check import Check, readable_size
from factory.plan.machine import built_for, name_version
from factory.plan.packages import Packages, engine_packages, missing_package, training_packages
from factory.plan.server import check_key, check_server
from factory.plan.weights import Weights, weigh
from factory.recipe import (
    JUDGE,
    Engine,
    Model,
    OpenaiEngine,
    Recipe,
    ScriptedEngine,
    Train,
    VllmEngine,
)

__all__ = ["Check", "examine"]


@dataclass(frozen=True)
class _Loaded:
    """A model that the recipe loads, and the engine that runs it."""

    who: str
    """The model's name in messages."""
    field: str
    """The recipe section that names the model."""
    model: Model
    engine: Engine
    train: Train | None = None
    """The recipe's training settings; None for a model that is never trained, such as a judge."""


def examine(recipe: Recipe, lake: Path) -> list[Check]:
    """Check whether this machine can run a recipe, and return the results.

    The results are in display order. Raises ModelError if the folder of M_0 or of a judge contains
    files that cannot be used, and RecipeError if a numeric setting is not a number.
    """
    found = find_gpus()
    train = recipe.train if recipe.loop.trains_models else None
    first = _Loaded("M_0", "model", recipe.model, recipe.engine, train)
    checks, weights = _check_loaded(first, recipe, found)
    checks = [
        Check("python", "ok", platform.python_version()),
        *checks,
        *_check_judges(recipe, found),
        _check_trainer(train),
    ]
    if weights is not None and train is not None and train.with_ == "trl":
        method = load_policy(recipe).trains
        checks.append(check_training_memory(train, method, found, weights))
    return [*checks, check_disk(recipe, lake, weights), _check_hub(), _check_cluster()]


def _check_loaded(
    loaded: _Loaded, recipe: Recipe, found: Sequence[Gpu]
) -> tuple[list[Check], Weights | None]:
    """Check a model and its engine. Return the results, and the size of the weights if they are on
    this machine. For a declared model, check only the server."""
    if loaded.model.declared is not None:
        return _check_engine(loaded.engine), None
    model, weights = _check_model_files(loaded, recipe)
    memory = None
    if weights is not None:
        memory = check_engine_memory(loaded.engine, found, weights, loaded.who)
    gpus = _check_gpus(loaded.engine, loaded.train, found)
    checks = [*_check_engine(loaded.engine), gpus, model, memory]
    return [check for check in checks if check is not None], weights


def _check_judges(recipe: Recipe, found: Sequence[Gpu]) -> list[Check]:
    """Check the model and the engine of each judge that has its own model. For a declared model,
    check only the server."""
    checks: list[Check] = []
    for name, judge in recipe.all_judges.items():
        if not judge.has_model or recipe.model_of_judge(name) != name:
            continue
        engine = recipe.engine_of(name)
        model = judge.model or judge.reward_model
        if model is None:
            own = _check_engine(engine)
        else:
            field = f"{recipe.field_of(name)}.{'reward_model' if judge.reward_model else 'model'}"
            who = "the judge" if name == JUDGE else name
            own, _ = _check_loaded(_Loaded(who, field, model, engine), recipe, found)
        checks += [replace(check, name=f"{name}'s {check.name}") for check in own]
    return checks


# packages


def _check_engine(engine: Engine) -> list[Check]:
    if isinstance(engine, ScriptedEngine):
        return [Check("engine", "ok", "scripted (answers without a model)")]
    packages = _check_packages("engine", engine_packages(engine))
    if isinstance(engine, OpenaiEngine):
        return [packages, check_server(engine), check_key(engine)]
    return [packages]


def _check_trainer(train: Train | None) -> Check:
    if train is None:
        return Check("training", "ok", "none, because loop.iterations is 0")
    match train.with_:
        case "scripted":
            return Check("training", "ok", "scripted (trains no model)")
        case "manual":
            fault = "manual: the run stops before each training with exit code 3"
            return Check("training", "note", fault)
        case "command":
            return Check("training", "note", "train.command is your own and is not checked")
    return _check_packages("training", training_packages(train))


def _check_packages(name: str, needed: Packages) -> Check:
    if (missing := missing_package(needed)) is not None:
        return Check(name, "stop", str(missing))
    return Check(name, "ok", ", ".join(map(name_version, needed[0])))


def _check_cluster() -> Check:
    address = os.environ.get("RAY_ADDRESS")
    if util.find_spec("ray") is None:
        unused = f", although RAY_ADDRESS is {address}" if address else ""
        return Check("cluster", "note", f"ray is not installed{unused}: only this machine is used")
    where = f"RAY_ADDRESS is {address}" if address else "RAY_ADDRESS is not set"
    return Check("cluster", "ok", f"{name_version('ray')}; {where}")


def _check_hub() -> Check:
    from huggingface_hub import get_token

    if get_token():
        return Check("hub", "ok", "a token is set")
    fault = "no Hub token is set: to publish, set HF_TOKEN or run `hf auth login`"
    return Check("hub", "note", fault)


# GPUs


def _check_gpus(engine: Engine, train: Train | None, found: Sequence[Gpu]) -> Check:
    if isinstance(engine, VllmEngine):
        return _check_vllm_gpus(engine, found)
    users = {
        "transformers": engine.name == "transformers",
        "the training": train is not None and train.with_ == "trl",
    }
    needed = " and ".join(user for user, is_one in users.items() if is_one)
    if not needed:
        return Check("gpus", "ok", _listed(found) or "none found, none needed")
    if not found:
        device = getattr(engine, "device", "auto")
        if device.startswith("cuda") and built_for("torch") != "other":
            fault = f"no GPU found, but engine.device is {device}: set engine.device to auto"
            return Check("gpus", "stop", fault)
        return Check("gpus", "note", f"no GPU found: {needed} will run on the CPU")
    if built_for("torch") == "cpu":
        fault = f"{_listed(found)}, unused because {name_version('torch')} is a CPU build"
        return Check("gpus", "note", fault)
    return Check("gpus", "ok", _listed(found))


def _check_vllm_gpus(engine: VllmEngine, found: Sequence[Gpu]) -> Check:
    size, build = engine.group_size, built_for("vllm")
    replicas = len(group_gpus(found, size)) if engine.replicas == "auto" else engine.replicas
    needed = size * max(1, replicas)
    if needed > len(found) and (found or size > 1):
        fault = (
            f"found {_listed(found) or 'no GPU'}, but {needed} are needed "
            f"(tensor_parallel_size × pipeline_parallel_size is {size}, engine.replicas is "
            f"{engine.replicas}): lower these settings"
        )
        return Check("gpus", "stop", fault)
    if not found:
        if build == "cuda":
            fault = (
                f"no GPU found, but {name_version('vllm')} needs an NVIDIA GPU: install vLLM's CPU "
                "build"
            )
            return Check("gpus", "stop", fault)
        return Check("gpus", "note", "no GPU found: vLLM will run on the CPU")
    if build == "cpu":
        fault = f"{_listed(found)}, unused because {name_version('vllm')} is a CPU build"
        return Check("gpus", "note", fault)
    return Check("gpus", "ok", f"{_listed(found)}; vLLM replicas: {replicas}, GPUs each: {size}")


def _listed(found: Sequence[Gpu]) -> str:
    kinds = Counter((gpu.name, gpu.total_bytes) for gpu in found)
    return ", ".join(
        f"{count} × {name}" + (f" ({readable_size(total)})" if total is not None else "")
        for (name, total), count in kinds.items()
    )


# the model's files


def _check_model_files(loaded: _Loaded, recipe: Recipe) -> tuple[Check | None, Weights | None]:
    """Check a model's folder, and return the size of its weights. Both results are None for a
    scripted model without weights."""
    try:
        weights = _weigh_model(loaded, recipe)
    except NotDownloaded:
        return _not_downloaded(loaded.model.path), None
    except MissingModel as missing:
        return Check("model", "stop", str(missing)), None
    if weights is None:
        return None, None
    millions = weights.parameters / 1e6
    count = f"{millions:.1f} million" if millions < 1000 else f"{millions / 1000:.1f} billion"
    size = f"{loaded.who} has {count} parameters and runs in {weights.dtype}"
    return Check("model", "ok", size), weights


def _weigh_model(loaded: _Loaded, recipe: Recipe) -> Weights | None:
    name, field = loaded.model.path, loaded.field
    path = locate_model(loaded.model, recipe, field=field, download=False)
    if loaded.engine.name != "scripted":
        check_model(name, path, field)
        check_prompting(path, f"{field}.path")
    if loaded.model.adapter is not None:
        adapter = recipe.resolve(loaded.model.adapter)
        check_adapter(adapter, path, f"{field}.adapter", f"{field}.path")
    return weigh(loaded.model, path, field, loaded.train)


def _not_downloaded(name: str) -> Check:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        fault = f"{name} is not downloaded: unset HF_HUB_OFFLINE to let a run download it"
        return Check("model", "stop", fault)
    fault = f"{name} is not downloaded: `factory run` will download it, or run `hf download {name}`"
    return Check("model", "note", fault)
