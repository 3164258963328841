"""Check that this machine has enough memory and disk space for the models and their training.

All sizes are estimates. Each function documents what its estimate leaves out.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from factory.engines import Gpu, group_gpus
from factory.plan.check import Check, readable_size
from factory.plan.machine import Room, built_for, memory_of
from factory.plan.step import steps
from factory.plan.weights import (
    Weights,
    activation_bytes,
    batch_tokens,
    checkpoint_bytes,
    stored_bytes,
    training_bytes,
)
from factory.recipe import Engine, Method, Recipe, Train, TransformersEngine, VllmEngine

UTILIZATION = 0.92
"""Default of vLLM 0.32: the share of a GPU's memory that it reserves. On a CPU, it is a share of
the machine's memory."""

_SMALLER = {"optim", "deepspeed", "fsdp"}
"""Fields of TRL's config that can reduce a training's memory below the estimate."""

_OTHERWISE = {"quantization", "quantization_config", "cpu_offload_gb", "offload_group_size"}
"""vLLM arguments that can reduce the size of the weights below the estimate."""


def check_engine_memory(
    engine: Engine, found: Sequence[Gpu], weights: Weights, who: str
) -> Check | None:
    """Check that an engine has enough memory to load a model's weights.

    `who` is the model's name in the message. Returns None if this engine's memory cannot be
    checked. The estimate leaves out the KV cache, activations, and adapters, so a model that barely
    fits may still be too large.
    """
    match engine:
        case VllmEngine():
            visible = [] if built_for("vllm") == "cpu" else found
            return _check_vllm_memory(engine, visible, weights, who)
        case TransformersEngine(device=device):
            visible = [] if device == "cpu" else _torch_gpus(found)[:1]
            remedy = "use a smaller model, or run vLLM on several GPUs (engine.name: vllm)"
            return _fits("memory", who, weights.loaded, memory_of(visible), remedy, certain=True)
    return None


def _check_vllm_memory(
    engine: VllmEngine, found: Sequence[Gpu], weights: Weights, who: str
) -> Check | None:
    """Check that a model's weights fit into the share of memory that vLLM reserves.

    vLLM does not start if less memory than its share is free.
    """
    group = next(iter(group_gpus(found, engine.group_size)), [])
    if found and not group:
        return None
    share = engine.number("gpu_memory_utilization", UTILIZATION)
    copies = 1 if found or engine.replicas == "auto" else engine.replicas
    room = memory_of(group)
    taken = None if room.total is None else room.total * min(1, share * copies)
    whole = "" if room.total is None else f" of {readable_size(room.total)}"
    where = f"{room.where} (vLLM's share: {share:g}{whole})"
    limit = Room(where, taken, room.free)
    remedy = "use more GPUs (engine.tensor_parallel_size) or a smaller model"
    certain = not _OTHERWISE & engine.arguments.keys()
    check = _fits("memory", who, weights.loaded * copies, limit, remedy, certain=certain)
    if check.mark != "ok" or "kv_cache_memory_bytes" in engine.arguments:
        return check
    if taken is not None and room.free is not None and room.free < taken:
        fault = (
            f"vLLM reserves {readable_size(taken)} on {where}, but only "
            f"{readable_size(room.free)} are free: lower engine.gpu_memory_utilization, or stop "
            "the processes that use this memory"
        )
        return Check("memory", "note", fault)
    return check


def check_training_memory(
    train: Train, method: Method, found: Sequence[Gpu], weights: Weights
) -> Check:
    """Check that training with TRL fits into memory.

    `training_bytes` estimates the required memory. Other launchers and optimizers may need less
    memory. With them, the result is at most a note.
    """
    fields, trained = train.fields(method), method.upper()
    gpus = [] if fields.get("use_cpu") else _torch_gpus(found)
    room = memory_of(gpus)
    if train.lora is None:
        what, remedy = f"{trained} of all weights", "train an adapter instead (train.lora)"
    else:
        what = f"{trained} of an adapter"
        remedy = "use a smaller model or more GPUs (train.launcher)"
    certain = not train.launcher and not _SMALLER & fields.keys()
    need = training_bytes(train, method, weights)
    check = _fits("training memory", what, need, room, remedy, certain=certain)
    most = need + activation_bytes(train, method, weights, on_cpu=not gpus)
    if check.mark != "ok" or room.total is None or most < 1.05 * need:
        return check
    full = f"up to {readable_size(most)} for a batch of {batch_tokens(train, method):,} tokens"
    needs = f"{what} needs about {readable_size(need)}, and {full}"
    if most <= room.total:
        return Check(check.name, "ok", f"{needs}, of {readable_size(room.total)} on {room.where}")
    fault = (
        f"{needs}, more than the {readable_size(room.total)} on {room.where}: lower "
        f"train.{method}.per_device_train_batch_size or train.{method}.max_length"
    )
    return Check(check.name, "note", fault)


def _torch_gpus(found: Sequence[Gpu]) -> list[Gpu]:
    return [] if built_for("torch") == "cpu" else list(found)


def _fits(name: str, what: str, need: float, room: Room, remedy: str, *, certain: bool) -> Check:
    needs = f"{what} needs about {readable_size(need)}"
    if room.total is None or room.free is None:
        return Check(name, "note", f"{needs}; the memory of {room.where} is unknown")
    total, free = readable_size(room.total), readable_size(room.free)
    if need > room.total:
        fault = f"{needs}, more than the {total} on {room.where}: {remedy}"
        return Check(name, "stop" if certain else "note", fault)
    if need > room.free:
        return Check(name, "note", f"{needs}, but only {free} are free on {room.where} now")
    return Check(name, "ok", f"{needs} of {total} on {room.where}")


def check_disk(recipe: Recipe, lake: Path, weights: Weights | None) -> Check:
    """Check that the lake's disk has space for the models that the recipe trains.

    The estimate does not subtract models that are already in the lake. If there are any, the result
    is at most a note. The estimate leaves out downloads and the tables, which are small next to
    models.
    """
    folder = next(path for path in (lake.absolute(), *lake.absolute().parents) if path.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        fault = f"the lake {lake} is not writable: make it writable, or choose another lake"
        return Check("disk", "stop", fault)
    free = shutil.disk_usage(folder).free
    has = f"{readable_size(free)} free on the lake's disk"
    if weights is None or not recipe.loop.trains_models or recipe.train.with_ != "trl":
        return Check("disk", "ok", has)
    trainings = sum(step.stage == "train" for step in steps(recipe))
    models = trainings * stored_bytes(recipe.train, weights)
    checkpoints = checkpoint_bytes(recipe.train, weights)
    needs = f"about {readable_size(models)} of models will be written"
    if free < models:
        if any(lake.glob("models/*/manifest.json")):
            return Check("disk", "note", f"{has}; {needs}, minus the models already in the lake")
        fault = f"{has}; {needs}: free up disk space, or choose another lake"
        return Check("disk", "stop", fault)
    if free < models + checkpoints:
        needs += f", plus up to {readable_size(checkpoints)} of checkpoints during each training"
        return Check("disk", "note", f"{has}; {needs}")
    return Check("disk", "ok", f"{has}; {needs}")
