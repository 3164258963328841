"""Check that a LoRA adapter fits its base model, without loading any weights."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from factory.errors import MissingModel, ModelError
from factory.models.config import check_files, read_json
from factory.models.digest import ADAPTER_FILES, model_files
from factory.models.locate import shown_path
from factory.models.safetensors import Tensor, read_tensors


def check_adapter(adapter: Path, base: Path, field: str, base_field: str) -> None:
    """Raise ModelError unless `adapter` contains a LoRA adapter that fits the model in `base`.

        Raises MissingModel if there is no such folder. Reads only the headers of safetensors files.
    There must be at least one pair of lora_A [r, in] and lora_B [out, r], and every pair must fit a
    weight [out, in] of the base model. An adapter in another file format passes unchecked. `field`
    and `base_field` are the recipe fields of the two folders.
    """
    if not adapter.is_dir():
        raise MissingModel(
            field, f"{shown_path(adapter)} is not a folder", "give the folder of a LoRA adapter"
        )
    config = read_json(adapter / ADAPTER_FILES[0], field)
    if config:
        check_files(model_files(adapter), field)
    if config.get("peft_type") != "LORA":
        raise ModelError(
            field,
            f"{shown_path(adapter)} is not a LoRA adapter",
            "choose a folder that PEFT saved, which contains adapter_config.json and "
            "adapter_model.safetensors",
        )
    file = adapter / "adapter_model.safetensors"
    if not file.is_file():
        return
    tensors = read_tensors(file, field)
    if fault := _missing(tensor.name for tensor in tensors):
        raise ModelError(
            field,
            f"{shown_path(adapter)} is not a complete LoRA adapter: {fault}",
            "save the adapter again with PEFT",
        )
    weights = {
        tensor.name: tensor.shape
        for part in base.glob("*.safetensors")
        for tensor in read_tensors(part, base_field)
    }
    for tensor in tensors:
        if weights and (fault := _misfit(tensor, weights)):
            raise ModelError(
                field,
                f"{shown_path(adapter)} does not fit the model {shown_path(base)}: {fault}",
                "use an adapter that was trained on this model",
            )


def _missing(names: Iterable[str]) -> str | None:
    """Return an error message if an adapter lacks weights, or None if it is complete.

    PEFT would fill missing matrices with random numbers.
    """
    found = Counter(name.replace("lora_B", "lora_A") for name in names if ".lora_" in name)
    if not found:
        return "it has no LoRA weights"
    alone = [name for name, count in found.items() if ".lora_A." in name and count != 2]
    return f"{alone[0]} or its lora_B is missing" if alone else None


def _misfit(tensor: Tensor, weights: dict[str, list[int]]) -> str | None:
    """Return the reason why an adapter's tensor does not fit the base model, or None if it fits."""
    module = tensor.name.removeprefix("base_model.model.").partition(".lora_")[0]
    weight = weights.get(f"{module}.weight")
    shared = {"lora_A": 1, "lora_B": 0}  # the axis whose length the weight shares with the tensor
    axis = next((shared[part] for part in tensor.name.split(".") if part in shared), None)
    if axis is None or (weight is not None and weight[axis] == tensor.shape[axis]):
        return None
    has = "no such weight" if weight is None else f"a weight of shape {weight}"
    return f"the adapter's {module} has shape {tensor.shape}, but the model has {has}"


def adapter_rank(adapter: Path) -> int:
    """Return the rank of a LoRA adapter: the largest rank among its modules."""
    config = read_json(adapter / ADAPTER_FILES[0], shown_path(adapter))
    return int(max([config.get("r", 0), *(config.get("rank_pattern") or {}).values()]))
