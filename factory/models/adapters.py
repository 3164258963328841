"""Check that a LoRA adapter fits its base model, from headers alone."""

from pathlib import Path

from factory.errors import ModelError
from factory.models.digest import ADAPTER_FILES, read_json
from factory.models.locate import shown_path
from factory.models.safetensors import read_tensors


def check_adapter(adapter: Path, base: Path) -> None:
    """Raises ModelError unless a folder is a LoRA adapter that fits the weights of another.

    Only headers are read. Every pair of lora_A [r, in] and lora_B [out, r] must fit a weight
    [out, in] of the base; adapters not in safetensors are not looked into.
    """
    config = read_json(adapter / ADAPTER_FILES[0])
    if config.get("peft_type") != "LORA":
        raise ModelError(
            f"model.adapter: {shown_path(adapter)} is no LoRA adapter: expected a folder with "
            "adapter_config.json and adapter_model.safetensors, as PEFT saves it"
        )
    file = adapter / "adapter_model.safetensors"
    if not file.is_file():
        return
    weights = {
        tensor.name: tensor.shape
        for part in base.glob("*.safetensors")
        for tensor in read_tensors(part, "model.path")
    }
    for tensor in read_tensors(file, "model.adapter"):
        name, shape = tensor.name, tensor.shape
        module = name.removeprefix("base_model.model.").partition(".lora_")[0]
        weight = weights.get(f"{module}.weight")
        sides = {"lora_A": 1, "lora_B": 0}  # which side of the weight each shares, at that place
        side = next((sides[part] for part in name.split(".") if part in sides), None)
        if weights and side is not None and (weight is None or weight[side] != shape[side]):
            has = "it has none of that name" if weight is None else f"its own are {weight}"
            raise ModelError(
                f"model.adapter: {shown_path(adapter)} was made for another base than "
                f"{shown_path(base)}: it has weights {shape} for {module}, and {has}"
            )


def adapter_rank(adapter: Path) -> int:
    """The rank of a LoRA adapter: the largest of its modules'."""
    config = read_json(adapter / ADAPTER_FILES[0])
    return int(max([config.get("r", 0), *(config.get("rank_pattern") or {}).values()]))
