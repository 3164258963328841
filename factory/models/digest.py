"""Digests of model folders: which files decide what a model answers."""

from pathlib import Path

from factory.fingerprint import file_digest, files_digest, folder_key
from factory.recipe import VLLM_IDENTITY, Engine, OpenaiEngine, VllmEngine

WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")


MEANING_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab*",
    "merges.txt",
    "scripted.json",
)
"""The files beside the weights that decide what a model answers."""


CONFIG_FILES = ("config.json", "model.safetensors.index.json", "scripted.json")
"""Of these, what belongs to the weights."""


ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
"""The files of a LoRA adapter, as PEFT writes it."""


def as_run(digest: str, engine: Engine) -> str:
    """A model's digest with what its engine adds to what decides its answers."""
    match engine:
        case VllmEngine():
            set_ = {k: v for k, v in engine.arguments.items() if k in VLLM_IDENTITY}
            return folder_key("model in vllm", 1, {"model": digest, **set_}) if set_ else digest
        case OpenaiEngine():
            return folder_key("model served", 1, {"model": digest, "name": engine.model})
    return digest


def folder_digest(path: Path, dtype: str, known: dict[str, str]) -> str:
    """The digest of a model's folder run in `dtype`."""
    files = files_digest((file.name, cached_digest(file, known)) for file in model_files(path))
    return folder_key("model", 1, {"files": files, "dtype": dtype})


def adapter_digest(adapter: Path, base: str, known: dict[str, str]) -> str:
    """The digest of an adapter on weights of the digest `base`."""
    files = files_digest((file.name, cached_digest(file, known)) for file in model_files(adapter))
    return folder_key("adapter", 1, {"base": base, "adapter": files})


def is_adapter(path: Path) -> bool:
    """Whether a folder holds a LoRA adapter, and not weights of its own."""
    return (path / ADAPTER_FILES[0]).is_file()


def tokenizer_files(path: Path) -> list[Path]:
    """The files of a model's folder that decide how texts become tokens and are ended."""
    return sorted(
        file for glob in MEANING_FILES if glob not in CONFIG_FILES for file in path.glob(glob)
    )


def model_files(path: Path) -> list[Path]:
    """The files of a model's or adapter's folder that decide its answers, sorted by name."""
    if is_adapter(path):
        return sorted(file for name in ADAPTER_FILES if (file := path / name).is_file())
    weights = next((found for glob in WEIGHT_FILES if (found := sorted(path.glob(glob)))), [])
    return sorted({*weights, *(file for glob in MEANING_FILES for file in path.glob(glob))})


def cached_digest(file: Path, known: dict[str, str]) -> str:
    """Return the SHA-256 of a file, computed once per device, inode, size, and time."""
    stat = file.stat()
    stamp = f"{stat.st_dev}-{stat.st_ino}-{stat.st_size}-{stat.st_mtime_ns}"
    if stamp not in known:
        known[stamp] = file_digest(file)
    return known[stamp]
