"""Digests of model folders, computed from the files that affect a model's answers."""

from pathlib import Path

from factory.fingerprint import file_digest, files_digest, folder_key
from factory.models.templates import DATE
from factory.recipe import VLLM_IDENTITY, Engine, OpenaiEngine, VllmEngine

WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")
"""Patterns of weight files. Only the files of the first pattern that matches count."""


MEANING_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "additional_chat_templates/*.jinja",
    "vocab*",
    "merges.txt",
    "scripted.json",
)
"""Patterns of the files that affect a model's answers, in addition to the weights."""


CONFIG_FILES = ("config.json", "model.safetensors.index.json", "scripted.json")
"""The names in MEANING_FILES that describe the weights rather than the tokenizer."""


ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
"""The files of a LoRA adapter that PEFT saved."""


def as_run(digest: str, engine: Engine, *, prints_date: bool = False) -> str:
    """Return a digest of a model and of everything else that affects its answers.

    It covers the date that the chat template prints, if `prints_date`, and the engine's settings:
    the vLLM arguments in VLLM_IDENTITY, or an OpenAI server's name for the model.
    """
    if prints_date:
        digest = folder_key("model on a date", 1, {"model": digest, "date": DATE.isoformat()})
    match engine:
        case VllmEngine():
            set_ = {k: v for k, v in engine.arguments.items() if k in VLLM_IDENTITY}
            return folder_key("model in vllm", 1, {"model": digest, **set_}) if set_ else digest
        case OpenaiEngine():
            return folder_key("model served", 1, {"model": digest, "name": engine.model})
    return digest


def folder_digest(path: Path, dtype: str, known: dict[str, str]) -> str:
    """Return a digest of a model's files and data type.

    `known` caches file hashes; see `cached_digest`.
    """
    files = files_digest(
        (file.relative_to(path).as_posix(), cached_digest(file, known))
        for file in model_files(path)
    )
    return folder_key("model", 1, {"files": files, "dtype": dtype})


def adapter_digest(adapter: Path, base: str, known: dict[str, str]) -> str:
    """Return a digest of a LoRA adapter and its base model. `base` is the base model's digest."""
    files = files_digest((file.name, cached_digest(file, known)) for file in model_files(adapter))
    return folder_key("adapter", 1, {"base": base, "adapter": files})


def is_adapter(path: Path) -> bool:
    """Return whether a folder contains a LoRA adapter rather than a full model."""
    return (path / ADAPTER_FILES[0]).is_file()


def tokenizer_files(path: Path) -> list[Path]:
    """Return the tokenizer, chat template, and generation config files of a model folder."""
    return sorted(
        file for glob in MEANING_FILES if glob not in CONFIG_FILES for file in path.glob(glob)
    )


def model_files(path: Path) -> list[Path]:
    """Return the files in a model or adapter folder that affect the model's answers, sorted by
    name."""
    if is_adapter(path):
        return sorted(file for name in ADAPTER_FILES if (file := path / name).is_file())
    files = {file for glob in MEANING_FILES for file in path.glob(glob)}
    return sorted({*weight_files(path), *files})


def weight_files(path: Path) -> list[Path]:
    """Return the weight files in a model folder, sorted by name."""
    return next((found for glob in WEIGHT_FILES if (found := sorted(path.glob(glob)))), [])


def cached_digest(file: Path, known: dict[str, str]) -> str:
    """Return the SHA-256 of a file, cached in `known` by device, inode, size, and mtime."""
    stat = file.stat()
    stamp = f"{stat.st_dev}-{stat.st_ino}-{stat.st_size}-{stat.st_mtime_ns}"
    if stamp not in known:
        known[stamp] = file_digest(file)
    return known[stamp]
