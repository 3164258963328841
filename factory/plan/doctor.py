"""Whether this machine can run a recipe, as far as a second's look can tell.

Reads versions, sizes, and headers. Imports neither torch nor an engine, reads no weights, calls no
model, and changes nothing. Does not check rubrics, functions, and prompts.
"""

import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import util
from pathlib import Path

from factory.engines import Gpu, find_gpus, group_gpus
from factory.errors import MissingExtra, NotDownloaded
from factory.models import check_adapter, check_model, locate_model
from factory.pairs import load_policy
from factory.plan.capacity import check_disk, check_engine_memory, check_training_memory
from factory.plan.check import Check, readable_size
from factory.plan.machine import built_for, name_version
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
    TransformersEngine,
    VllmEngine,
)

__all__ = ["Check", "examine"]


@dataclass(frozen=True)
class _Loaded:
    """A model that the recipe loads, and the engine that runs it."""

    who: str
    """Its name in messages."""
    field: str
    """The recipe section that names it."""
    model: Model
    engine: Engine
    train: Train | None = None
    """How the recipe trains it; None for judges."""


def examine(recipe: Recipe, lake: Path) -> list[Check]:
    """Return the checks of a recipe on this machine, in reading order.

    Raises ModelError if M_0 or a judge is no model, and RecipeError if a setting is not a number.
    """
    found = find_gpus()
    first = _Loaded("M_0", "model", recipe.model, recipe.engine, recipe.train)
    checks, weights = _check_loaded(first, recipe, found)
    checks = [
        Check("python", "ok", platform.python_version()),
        *checks,
        *_check_judges(recipe, found),
        _check_trainer(recipe.train),
    ]
    if weights is not None and recipe.train.with_ == "trl":
        method = load_policy(recipe).trains
        checks.append(check_training_memory(recipe.train, method, found, weights))
    return [*checks, check_disk(recipe, lake, weights), _check_hub(), _check_cluster()]


def _check_loaded(
    loaded: _Loaded, recipe: Recipe, found: Sequence[Gpu]
) -> tuple[list[Check], Weights | None]:
    """Check a model and its engine, and return the size of its weights if they are here."""
    model, weights = _check_model_files(loaded, recipe)
    memory = None
    if weights is not None:
        memory = check_engine_memory(loaded.engine, found, weights, loaded.who)
    gpus = _check_gpus(loaded.engine, loaded.train, found)
    checks = [*_check_engine(loaded.engine), gpus, model, memory]
    return [check for check in checks if check is not None], weights


def _check_judges(recipe: Recipe, found: Sequence[Gpu]) -> list[Check]:
    """Check each judge's own model and its engine; for a declared model, only the server."""
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
    match engine:
        case TransformersEngine():
            return [_check_packages("engine", ("transformers", "torch"), "train")]
        case VllmEngine():
            return [_check_packages("engine", ("vllm",), "vllm")]
        case OpenaiEngine():
            client = _check_packages("engine", ("openai",), "openai")
            return [client, check_server(engine), check_key(engine)]
        case ScriptedEngine():
            return [Check("engine", "ok", "scripted: answers without a model")]


def _check_trainer(train: Train) -> Check:
    match train.with_:
        case "scripted":
            return Check("training", "ok", "scripted: no model is trained")
        case "manual":
            fault = "by hand: the run stops at each training with exit code 3"
            return Check("training", "note", fault)
        case "command":
            return Check("training", "note", "your own command, which is not checked")
    adapters = () if train.lora is None else ("peft",)
    return _check_packages("training", ("trl", "torch", *adapters), "train")


def _check_packages(name: str, packages: Sequence[str], extra: str) -> Check:
    for package in packages:
        if util.find_spec(package) is None:
            return Check(name, "stop", str(MissingExtra(package, extra)))
    return Check(name, "ok", ", ".join(map(name_version, packages)))


def _check_cluster() -> Check:
    address = os.environ.get("RAY_ADDRESS")
    if util.find_spec("ray") is None:
        unused = f", though RAY_ADDRESS is {address}" if address else ""
        return Check("cluster", "note", f"ray is not installed{unused}: one machine is used")
    where = f"RAY_ADDRESS is {address}" if address else "RAY_ADDRESS is not set"
    return Check("cluster", "ok", f"{name_version('ray')}; {where}")


def _check_hub() -> Check:
    from huggingface_hub import get_token

    if get_token():
        return Check("hub", "ok", "a token is set")
    return Check("hub", "note", "no token: publishing needs HF_TOKEN or `hf auth login`")


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
        return Check("gpus", "ok", _listed(found) or "none, and none is needed")
    if not found:
        device = getattr(engine, "device", "auto")
        if device.startswith("cuda") and built_for("torch") != "other":
            return Check("gpus", "stop", f"none, and engine.device is {device}: set it to auto")
        return Check("gpus", "note", f"none: the CPU runs {needed}")
    if built_for("torch") == "cpu":
        fault = f"{_listed(found)}, unused: {name_version('torch')} is for CPU"
        return Check("gpus", "note", fault)
    return Check("gpus", "ok", _listed(found))


def _check_vllm_gpus(engine: VllmEngine, found: Sequence[Gpu]) -> Check:
    size, build = engine.group_size, built_for("vllm")
    replicas = len(group_gpus(found, size)) if engine.replicas == "auto" else engine.replicas
    needed = size * max(1, replicas)
    if needed > len(found) and (found or size > 1):
        fault = (
            f"{_listed(found) or 'none'}, and {needed} are needed: tensor_parallel_size × "
            f"pipeline_parallel_size is {size}, engine.replicas {engine.replicas}; lower them"
        )
        return Check("gpus", "stop", fault)
    if not found:
        if build == "cuda":
            fault = f"none, and {name_version('vllm')} needs NVIDIA's: install vllm's build for CPU"
            return Check("gpus", "stop", fault)
        return Check("gpus", "note", "none: the CPU runs vllm")
    if build == "cpu":
        fault = f"{_listed(found)}, unused: {name_version('vllm')} is for CPU"
        return Check("gpus", "note", fault)
    return Check("gpus", "ok", f"{_listed(found)}: {replicas} × vllm on {size} each")


def _listed(found: Sequence[Gpu]) -> str:
    kinds = Counter((gpu.name, gpu.total_bytes) for gpu in found)
    return ", ".join(
        f"{count} × {name}" + (f" ({readable_size(total)})" if total is not None else "")
        for (name, total), count in kinds.items()
    )


# the model's files


def _check_model_files(loaded: _Loaded, recipe: Recipe) -> tuple[Check | None, Weights | None]:
    """Check a model's folder, and return its size. Both are None for a scripted model without
    weights."""
    from huggingface_hub import constants

    name, field = loaded.model.path, loaded.field
    try:
        path = locate_model(loaded.model, recipe, field=field, download=False)
    except NotDownloaded:
        if constants.HF_HUB_OFFLINE:
            fault = f"{name} is not on this machine, and HF_HUB_OFFLINE prevents its download"
            return Check("model", "stop", fault), None
        fault = f"{name} is not on this machine: a run fetches it, as `hf download {name}` does"
        return Check("model", "note", fault), None
    if loaded.engine.name != "scripted":
        check_model(name, path, field)
    if loaded.model.adapter is not None:
        adapter = recipe.resolve(loaded.model.adapter)
        check_adapter(adapter, path, f"{field}.adapter", f"{field}.path")
    weights = weigh(loaded.model, path, field, loaded.train)
    if weights is None:
        return None, None
    millions = weights.parameters / 1e6
    count = f"{millions:.1f} million" if millions < 1000 else f"{millions / 1000:.1f} billion"
    size = f"{loaded.who} has {count} parameters, run in {weights.dtype}"
    return Check("model", "ok", size), weights
