"""Find a model's folder by its path, or in the local cache of the Hugging Face Hub."""

import re
from pathlib import Path

from factory.errors import ModelError, NotDownloaded
from factory.models.digest import MEANING_FILES, WEIGHT_FILES
from factory.models.tokens import chat_template
from factory.recipe import Model, Recipe, Training


def locate_model(model: Model, recipe: Recipe | Training, *, field: str, download: bool) -> Path:
    """Return a model's folder, found by its path or in the local cache of the Hugging Face Hub.

    `field` is the recipe section that names the model (`model`, `judge.model`). With `download`,
    downloads the files that the cache lacks. Raises NotDownloaded if files are missing and cannot
    be downloaded, and ModelError if the path is neither a folder nor a repository.
    """
    path = recipe.resolve(model.path)
    if path.is_dir():
        return path
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model.path) or model.path.startswith("."):
        raise ModelError(
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

    try:
        return Path(
            snapshot_download(
                model.path,
                revision=model.revision,
                allow_patterns=[*WEIGHT_FILES, *MEANING_FILES],
                local_files_only=not download,
            )
        )
    except LocalEntryNotFoundError:
        raise NotDownloaded(
            field,
            f"{model.path} is neither in the recipe's folder nor in this machine's Hub cache",
            f"download the repository with `hf download {model.path}` or `factory run`",
        ) from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelError(
            field,
            f"the download of {model.path} from the Hub failed: {error}",
            "check the repository name, the network connection, and HF_TOKEN",
        ) from error


def shown_path(path: Path) -> str:
    """Format a path for a message, relative to the current folder if possible."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def check_model(given: str, path: Path, field: str) -> None:
    """Raise ModelError unless a folder contains a config.json, weights, and a chat template.

    `given` is the folder as the recipe writes it. `field` is the recipe section that names it.
    """
    field = f"{field}.path"
    if not (path / "config.json").is_file():
        raise ModelError(field, f"{given} has no config.json", "expected a model folder")
    if not any(file for glob in WEIGHT_FILES for file in path.glob(glob)):
        raise ModelError(
            field, f"{given} has no weights", "expected *.safetensors or pytorch_model*.bin files"
        )
    if chat_template(path, field) is None:
        raise ModelError(
            field,
            f"{given} has no chat template",
            "use an instruction-tuned model, or add a chat_template.jinja",
        )
