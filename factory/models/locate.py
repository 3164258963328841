"""Find a model's folder by its path, or in the local cache of the Hugging Face Hub."""

import re
from collections.abc import Sequence
from pathlib import Path

from factory.errors import MissingModel, ModelError, NotDownloaded
from factory.models.config import check_files, read_json
from factory.models.digest import (
    MEANING_FILES,
    WEIGHT_FILES,
    is_adapter,
    model_files,
    weight_files,
)
from factory.models.safetensors import read_tensors
from factory.models.templates import read_templates
from factory.recipe import Model, Recipe, Training

INDEX_FILES = {
    ".safetensors": "model.safetensors.index.json",
    ".bin": "pytorch_model.bin.index.json",
}
"""Names of the files that list the weight files of a model, by format."""

_OTHER_WEIGHTS = (
    "*.bin",
    "*.pt",
    "*.pth",
    "*.gguf",
    "*.ckpt",
    "*.distcp",
    "global_step*",
    "*fsdp*",
)
"""Patterns of files in which trainers and other programs keep weights or their state."""

VOCABULARY_FILES = ("tokenizer.json", "*.model*", "vocab*", "*.tiktoken", "tekken.json")
"""Patterns of the files with a tokenizer's vocabulary. A model folder needs one of them."""


def locate_model(model: Model, recipe: Recipe | Training, *, field: str, download: bool) -> Path:
    """Return a model's folder, found by its path or in the local cache of the Hugging Face Hub.

    `field` is the recipe section that names the model (`model`, `judge.model`). With `download`,
    downloads the files that the cache lacks. Raises NotDownloaded if files are missing and cannot
    be downloaded, and MissingModel if the path is neither a folder nor a repository.
    """
    path = recipe.resolve(model.path)
    if path.is_dir():
        return path
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model.path) or model.path.startswith("."):
        raise MissingModel(
            f"{field}.path",
            f"{model.path} is not a folder (looked for {path.name} in {shown_path(path.parent)})",
            "give a model folder, or a Hub repository in the form organization/name",
        )
    return _locate_repository(model, f"{field}.path", download)


def _locate_repository(model: Model, field: str, download: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    def find(*weights: str) -> Path:
        folder = snapshot_download(
            model.path,
            revision=model.revision,
            allow_patterns=[*weights, *MEANING_FILES],
            local_files_only=not download,
        )
        return Path(folder)

    try:
        path = find(WEIGHT_FILES[0])
        # Look for the second format only if the first one is missing.
        if not weight_files(path):
            path = find(*WEIGHT_FILES, INDEX_FILES[".bin"])
        weights = weight_files(path)
        if download or (weights and not _missing_shards(path, weights, field)):
            return path
        fault = "is only partly in this machine's Hub cache"
    except LocalEntryNotFoundError:
        fault = "is neither in the recipe's folder nor in this machine's Hub cache"
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelError(
            field,
            f"the download of {model.path} from the Hub failed: {error}",
            "check the repository name, the network connection, and HF_TOKEN",
        ) from error
    raise NotDownloaded(
        field,
        f"{model.path} {fault}",
        f"download the repository with `hf download {model.path}` or `factory run`",
    )


def shown_path(path: Path) -> str:
    """Format a path for a message, relative to the current folder if possible."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def check_model(given: str, path: Path, field: str) -> None:
    """Check that a folder contains a config.json, complete weights, a tokenizer, and a chat
    template.

    Reads the headers of the weights. `given` is the folder as the recipe writes it. `field` is the
    recipe section that names it. Raises MissingModel if a file is missing, and ModelError if a file
    cannot be used, or if there is no chat template.
    """
    section, field = field, f"{field}.path"
    if is_adapter(path):
        raise ModelError(
            field,
            f"{given} is a LoRA adapter, not a full model",
            f"set {section}.adapter to this folder, and {field} to its base model",
        )
    if not (path / "config.json").exists():
        raise MissingModel(field, f"{given} has no config.json", "expected a model folder")
    check_files(model_files(path), field)
    _check_weights(given, path, field)
    if not any(file for glob in VOCABULARY_FILES for file in path.glob(glob)):
        raise MissingModel(
            field, f"{given} has no tokenizer", "expected a tokenizer.json or a vocabulary file"
        )
    if read_templates(path, field) is None:
        raise ModelError(
            field,
            f"{given} has no chat template",
            "use an instruction-tuned model, or add a chat_template.jinja",
        )


def _missing_shards(path: Path, weights: Sequence[Path], field: str) -> list[str]:
    """Return the names of missing weight files, which a model's index or its other files name."""
    index = INDEX_FILES[weights[0].suffix]
    shards = set((read_json(path / index, field).get("weight_map") or {}).values())
    for weight in weights:
        if found := re.fullmatch(r"(.*-)\d{5}-of-(\d{5})(\.\w+)", weight.name):
            before, count, suffix = found.groups()
            shards |= {f"{before}{n:05d}-of-{count}{suffix}" for n in range(1, int(count) + 1)}
    return [name for name in sorted(shards) if not (path / name).is_file()]


def _is_loadable(file: Path) -> bool:
    """Return whether transformers looks for a `.bin` file with this name."""
    return re.fullmatch(r"pytorch_model(-\d{5}-of-\d{5})?\.bin", file.name) is not None


def _no_weights(given: str, path: Path) -> tuple[str, str]:
    """Return the fault and the remedy for a folder without weights that an engine can load."""
    others = [file for glob in _OTHER_WEIGHTS for file in sorted(path.glob(glob))]
    if not others:
        return f"{given} has no weights", "expected *.safetensors or pytorch_model.bin"
    return (
        f"{given} has no weights that an engine can load, only {others[0].name}",
        "save the model with save_pretrained, which writes *.safetensors",
    )


def _check_weights(given: str, path: Path, field: str) -> None:
    """Raise ModelError unless the weights of a model are complete according to their headers."""
    weights = weight_files(path)
    if not weights:
        raise MissingModel(field, *_no_weights(given, path))
    if weights[0].suffix == ".bin" and not any(map(_is_loadable, weights)):
        raise MissingModel(field, *_no_weights(given, path))
    if missing := _missing_shards(path, weights, field):
        raise MissingModel(
            field,
            f"{given} lacks {len(missing)} of its weight files, such as {missing[0]}",
            "download the model again",
        )
    for file in weights:
        if file.suffix == ".safetensors":
            read_tensors(file, field)
        elif file.stat().st_size == 0:
            raise ModelError(field, f"{file.name} is empty", "download the model again")
