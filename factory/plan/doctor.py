"""Whether this machine can run a recipe, as far as a second tells.

Reads versions, sizes and headers: imports neither torch nor an engine, reads no weights, asks no
model and changes nothing. What it says of memory and disk are estimates, each with what it leaves
out. Rubrics, functions and prompts are not looked at.
"""

import json
import os
import platform
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException
from importlib import util
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from factory.engines import Gpu, find_gpus, groups
from factory.errors import MissingExtra, ModelError, NotDownloaded
from factory.models import check_adapter, check_model, locate
from factory.pairs import load_policy
from factory.plan.machine import Room, built_for, memory_of, versioned
from factory.plan.step import steps
from factory.plan.weights import Weights, beside_bytes, kept_bytes, training_bytes, weigh
from factory.recipe import (
    JUDGE,
    OpenaiEngine,
    Recipe,
    ScriptedEngine,
    Train,
    TransformersEngine,
    VllmEngine,
)

Mark = Literal["ok", "note", "stop"]

SECONDS = 3
"""How long a server may take to answer."""

UTILIZATION = 0.92
"""The share of a device's memory that vLLM 0.32 takes where it is told nothing; of the machine's
memory, where it runs on the CPU."""

_SMALLER = {"optim", "deepspeed", "fsdp"}
"""Fields of TRL's config with which a training can take less than the estimate."""

_OTHERWISE = {"quantization", "quantization_config", "cpu_offload_gb", "offload_group_size"}
"""Arguments of vLLM with which the weights can take less than the estimate."""


@dataclass(frozen=True)
class Check:
    name: str
    mark: Mark
    """note is worth knowing; stop would keep the recipe from running as things are."""
    said: str


def examine(recipe: Recipe, lake: Path) -> list[Check]:
    """What was looked at, in the order in which it is read.

    Raises ModelError where M_0 or the judge is no model, RecipeError where a setting is not a
    number.
    """
    found = find_gpus()
    held, weights = _held(recipe, found, "M_0")
    checks = [
        Check("python", "ok", platform.python_version()),
        *held,
        *_judges(recipe, found),
        _training(recipe.train),
        _training_memory(recipe, found, weights),
        _disk(recipe, lake, weights),
        _hub(),
        _cluster(),
    ]
    return [check for check in checks if check is not None]


def _held(
    recipe: Recipe, found: Sequence[Gpu], who: str
) -> tuple[list[Check | None], Weights | None]:
    """What is asked of the recipe's model, called `who`, and of the engine that holds it."""
    model, weights = _model(recipe, who)
    memory = _engine_memory(recipe, found, weights, who)
    return [*_engine(recipe), _gpus(recipe, found), model, memory], weights


def _judges(recipe: Recipe, found: Sequence[Gpu]) -> list[Check]:
    """The same of each judge's own model, as of the model of a recipe that trains nothing; of one
    that only a server has, the server."""
    checks: list[Check] = []
    for name, judge in recipe.all_judges.items():
        if not judge.has_model or recipe.model_of_judge(name) != name:
            continue
        train = Train.model_validate({"with": "scripted"})
        alone: dict[str, Any] = {"engine": recipe.engine_of(name), "train": train}
        if judge.declared:
            looked: list[Check | None] = [*_engine(recipe.model_copy(update=alone))]
        else:
            alone["model"] = judge.model or judge.reward_model
            looked = _held_by(recipe.model_copy(update=alone), found, name)
        checks += [replace(check, name=f"{name}'s {check.name}") for check in looked if check]
    return checks


def _held_by(recipe: Recipe, found: Sequence[Gpu], name: str) -> list[Check | None]:
    try:
        return _held(recipe, found, "the judge" if name == JUDGE else name)[0]
    except ModelError as error:  # its sentence begins with the field, as M_0's does
        raise type(error)(f"{recipe.field_of(name)}.{error}") from None


# packages


def _engine(recipe: Recipe) -> list[Check]:
    match recipe.engine:
        case TransformersEngine():
            return [_packages("engine", ("transformers", "torch"), "train")]
        case VllmEngine():
            return [_packages("engine", ("vllm",), "vllm")]
        case OpenaiEngine() as engine:
            client = _packages("engine", ("openai",), "openai")
            return [client, _server(engine), _key(engine)]
        case ScriptedEngine():
            return [Check("engine", "ok", "scripted: answers without a model")]


def _training(train: Train) -> Check:
    match train.with_:
        case "scripted":
            return Check("training", "ok", "scripted: nothing is trained")
        case "manual":
            return Check("training", "note", "by hand: the run stops for each, and exits with 3")
        case "command":
            return Check("training", "note", "a command of your own, which is not looked at")
    adapters = () if train.lora is None else ("peft",)
    return _packages("training", ("trl", "torch", *adapters), "train")


def _packages(name: str, packages: Sequence[str], extra: str) -> Check:
    for package in packages:
        if util.find_spec(package) is None:
            return Check(name, "stop", str(MissingExtra(package, extra)))
    return Check(name, "ok", ", ".join(map(versioned, packages)))


def _cluster() -> Check:
    address = os.environ.get("RAY_ADDRESS")
    if util.find_spec("ray") is None:
        beside = f", though RAY_ADDRESS is {address}" if address else ""
        return Check("cluster", "note", f"ray is not installed{beside}: one machine is used")
    where = f"RAY_ADDRESS is {address}" if address else "RAY_ADDRESS is not set"
    return Check("cluster", "ok", f"{versioned('ray')}; {where}")


# keys and servers


def _key_of(engine: OpenaiEngine) -> str:
    return os.environ.get(engine.key, "").strip()


def _key(engine: OpenaiEngine) -> Check:
    if _key_of(engine):
        return Check("key", "ok", f"{engine.key} is set")
    return Check("key", "note", f"{engine.key} is not set: good for a server that asks for none")


def _server(engine: OpenaiEngine) -> Check:
    """Whether the server answers, takes the key, and knows the model. The error's own words are
    told only where they cannot hold the key."""
    url = f"{engine.base_url.rstrip('/')}/models"
    try:
        request = Request(url)
        if key := _key_of(engine):
            # Unredirected: another server that this one sends us to is not told the key.
            request.add_unredirected_header("Authorization", f"Bearer {key}")
        with urlopen(request, timeout=SECONDS) as answer:
            served = _served(answer.read())
    except HTTPError as error:
        error.close()
        if error.code in (401, 403):
            said = f"{url} answers {error.code}: it wants another key in {engine.key}"
            return Check("server", "stop", said)
        return Check("server", "note", f"{url} answers {error.code}")
    except OSError as error:
        return Check("server", "stop", f"{url} gives no answer: {getattr(error, 'reason', error)}")
    except (ValueError, HTTPException):
        said = f"{url} cannot be asked: check engine.base_url, and {engine.key} for odd characters"
        return Check("server", "stop", said)
    if served and engine.model not in served:
        has = ", ".join(served[:5])
        return Check("server", "note", f"{url} does not list {engine.model}; it has {has}")
    return Check("server", "ok", f"{url} answers")


def _served(body: bytes) -> list[str]:
    """The models that a server lists; none where it answers something else."""
    try:
        return [str(model["id"]) for model in json.loads(body)["data"]]
    except (ValueError, KeyError, TypeError):
        return []


def _hub() -> Check:
    from huggingface_hub import get_token

    if get_token():
        return Check("hub", "ok", "a token is set")
    return Check("hub", "note", "no token: publishing needs HF_TOKEN or `hf auth login`")


# GPUs


def _gpus(recipe: Recipe, found: Sequence[Gpu]) -> Check:
    if isinstance(recipe.engine, VllmEngine):
        return _gpus_of_vllm(recipe.engine, found)
    users = {
        "transformers": recipe.engine.name == "transformers",
        "the training": recipe.train.with_ == "trl",
    }
    needed = " and ".join(user for user, is_one in users.items() if is_one)
    if not needed:
        return Check("gpus", "ok", _listed(found) or "none, and none is needed")
    if not found:
        device = getattr(recipe.engine, "device", "auto")
        if device.startswith("cuda") and built_for("torch") != "other":
            return Check("gpus", "stop", f"none, and engine.device is {device}: set it to auto")
        return Check("gpus", "note", f"none: the CPU runs {needed}")
    if built_for("torch") == "cpu":
        return Check("gpus", "note", f"{_listed(found)}, unused: {versioned('torch')} is for CPU")
    return Check("gpus", "ok", _listed(found))


def _gpus_of_vllm(engine: VllmEngine, found: Sequence[Gpu]) -> Check:
    size, build = engine.group_size, built_for("vllm")
    replicas = len(groups(found, size)) if engine.replicas == "auto" else engine.replicas
    wanted = size * max(1, replicas)
    if wanted > len(found) and (found or size > 1):
        said = (
            f"{_listed(found) or 'none'}, and {wanted} are needed: tensor_parallel_size × "
            f"pipeline_parallel_size is {size}, engine.replicas {engine.replicas}; lower them"
        )
        return Check("gpus", "stop", said)
    if not found:
        if build == "cuda":
            said = f"none, and {versioned('vllm')} is for NVIDIA's: install vllm's build for CPU"
            return Check("gpus", "stop", said)
        return Check("gpus", "note", "none: the CPU runs vllm")
    if build == "cpu":
        return Check("gpus", "note", f"{_listed(found)}, unused: {versioned('vllm')} is for CPU")
    return Check("gpus", "ok", f"{_listed(found)}: {replicas} × vllm on {size} each")


def _listed(found: Sequence[Gpu]) -> str:
    kinds = Counter((gpu.name, gpu.total_bytes) for gpu in found)
    return ", ".join(
        f"{count} × {name}" + (f" ({_size(total)})" if total is not None else "")
        for (name, total), count in kinds.items()
    )


# memory


def _engine_memory(
    recipe: Recipe, found: Sequence[Gpu], weights: Weights | None, who: str
) -> Check | None:
    """Whether a model's weights fit where the engine runs. Leaves out keys and values, activations
    and adapters, so what fits barely may still be too much."""
    if weights is None:
        return None
    match recipe.engine:
        case VllmEngine() as engine:
            ours = [] if built_for("vllm") == "cpu" else found
            return _vllm_memory(engine, ours, weights, who)
        case TransformersEngine(device=device):
            ours = [] if device == "cpu" else _torch_gpus(found)[:1]
            remedy = "take a smaller model, or the engine vllm over several GPUs"
            return _fits("memory", who, weights.loaded, memory_of(ours), remedy, certain=True)
    return None


def _vllm_memory(
    engine: VllmEngine, found: Sequence[Gpu], weights: Weights, who: str
) -> Check | None:
    """As `_engine_memory`, within the share of the memory that vLLM takes: it does not start where
    so much is not free."""
    group = next(iter(groups(found, engine.group_size)), [])
    if found and not group:
        return None
    share = engine.number("gpu_memory_utilization", UTILIZATION)
    copies = 1 if found or engine.replicas == "auto" else engine.replicas
    room = memory_of(group)
    taken = None if room.total is None else room.total * min(1, share * copies)
    limit = Room(f"{room.where} (vllm's share: {share:g})", taken, room.free)
    remedy = "take more GPUs (engine.tensor_parallel_size) or a smaller model"
    certain = not _OTHERWISE & engine.arguments.keys()
    check = _fits("memory", who, weights.loaded * copies, limit, remedy, certain=certain)
    if check.mark != "ok" or "kv_cache_memory_bytes" in engine.arguments:
        return check
    if taken is not None and room.free is not None and room.free < taken:
        said = (
            f"vllm takes {_size(taken)} of {room.where} ({share:g}), and {_size(room.free)} are "
            "free: lower engine.gpu_memory_utilization, or end what uses it"
        )
        return Check("memory", "note", said)
    return check


def _training_memory(recipe: Recipe, found: Sequence[Gpu], weights: Weights | None) -> Check | None:
    """Whether a training fits, as far as `training_bytes` tells. What other launchers and
    optimizers make of it is not known: there it is a note at most."""
    train = recipe.train
    if weights is None or train.with_ != "trl":
        return None
    method = load_policy(recipe).trains
    fields, trained = train.fields(method), method.upper()
    room = memory_of([] if fields.get("use_cpu") else _torch_gpus(found))
    if train.lora is None:
        what, remedy = f"{trained} of all weights", "train an adapter instead (train.lora)"
    else:
        what, remedy = (
            f"{trained} of an adapter",
            "take a smaller model, or more GPUs (train.launcher)",
        )
    certain = not train.launcher and not _SMALLER & fields.keys()
    need = training_bytes(train, method, weights)
    return _fits("training memory", what, need, room, remedy, certain=certain)


def _torch_gpus(found: Sequence[Gpu]) -> list[Gpu]:
    return [] if built_for("torch") == "cpu" else list(found)


def _fits(name: str, what: str, need: float, room: Room, remedy: str, *, certain: bool) -> Check:
    needs = f"{what} needs about {_size(need)}"
    if room.total is None or room.free is None:
        return Check(name, "note", f"{needs}, and {room.where} does not tell its memory")
    total, free = _size(room.total), _size(room.free)
    if need > room.total:
        said = f"{needs}, and there are {total} on {room.where}: {remedy}"
        return Check(name, "stop" if certain else "note", said)
    if need > room.free:
        return Check(name, "note", f"{needs}, and {free} are free on {room.where} now")
    return Check(name, "ok", f"{needs} of {total} on {room.where}")


def _size(n_bytes: float) -> str:
    """Bytes as a person reads them, in thousands: 4 MB, 23.4 GB."""
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:,.0f} MB"


# disk


def _disk(recipe: Recipe, lake: Path, weights: Weights | None) -> Check:
    """Whether the models that the recipe trains fit where the lake is; what is already held is
    not taken off, so a lake with models in it is never reason to stop. Leaves out the tables,
    which are small beside models, and what is downloaded."""
    folder = next(path for path in (lake.absolute(), *lake.absolute().parents) if path.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        said = f"the lake {lake} cannot be written: make it writable, or name another with --lake"
        return Check("disk", "stop", said)
    free = shutil.disk_usage(folder).free
    has = f"{_size(free)} free where the lake is"
    if weights is None or recipe.train.with_ != "trl":
        return Check("disk", "ok", has)
    trainings = sum(step.stage == "train" for step in steps(recipe))
    models = trainings * kept_bytes(recipe.train, weights)
    beside = beside_bytes(recipe.train, weights)
    needs = f"about {_size(models)} of models will be written"
    if free < models:
        if any(lake.glob("models/*/manifest.json")):
            return Check("disk", "note", f"{has}; {needs}, less those that it holds already")
        return Check("disk", "stop", f"{has}; {needs}: make space, or name another with --lake")
    if free < models + beside:
        needs += f", and up to {_size(beside)} beside them while one is trained"
        return Check("disk", "note", f"{has}; {needs}")
    return Check("disk", "ok", f"{has}; {needs}")


# the model's files


def _model(recipe: Recipe, who: str) -> tuple[Check | None, Weights | None]:
    """Where a model is, and how large. Neither is said of a scripted model without weights."""
    from huggingface_hub import constants

    name = recipe.model.path
    try:
        path = locate(recipe.model, recipe, download=False)
    except NotDownloaded:
        if constants.HF_HUB_OFFLINE:
            said = f"{name} is not on this machine, and HF_HUB_OFFLINE keeps it from being fetched"
            return Check("model", "stop", said), None
        said = f"{name} is not on this machine: a run fetches it, as `hf download {name}` does"
        return Check("model", "note", said), None
    if recipe.engine.name != "scripted":
        check_model(name, path)
    if recipe.model.adapter is not None:
        check_adapter(recipe.resolve(recipe.model.adapter), path)
    weights = weigh(recipe, path)
    if weights is None:
        return None, None
    millions = weights.parameters / 1e6
    many = f"{millions:.1f} million" if millions < 1000 else f"{millions / 1000:.1f} billion"
    return Check("model", "ok", f"{who} has {many} parameters, run in {weights.dtype}"), weights
