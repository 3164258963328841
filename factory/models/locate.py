"""Find a model's folder: next to the recipe, or in the Hub's cache."""

import re
from pathlib import Path

from factory.errors import ModelError, NotDownloaded
from factory.models.digest import MEANING_FILES, WEIGHT_FILES
from factory.models.tokens import chat_template
from factory.recipe import Model, Recipe, Training


def locate_model(model: Model, recipe: Recipe | Training, *, field: str, download: bool) -> Path:
    """Return the folder of a model: next to the recipe, or in the Hub's cache.

    `field` is the recipe section that names the model (`model`, `judge.model`). `download` fetches
    what the cache lacks. Raises NotDownloaded if files are missing (with `download`: without a
    network), and ModelError if the path names no model.
    """
    path = recipe.resolve(model.path)
    if path.is_dir():
        return path
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model.path) or model.path.startswith("."):
        raise ModelError(
            f"{field}.path",
            f"{model.path} is not a folder (looked for {path.name} in {shown_path(path.parent)})",
            "expected a folder with a model, or a Hub repository organization/name",
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
            f"{model.path} was not found next to the recipe or in the Hub's cache",
            f"run `hf download {model.path}`, or run `factory run` with network access",
        ) from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelError(
            field,
            f"{model.path} could not be fetched from the Hub: {error}",
            "check the name, the network, and HF_TOKEN",
        ) from error


def shown_path(path: Path) -> str:
    """Return a path as messages show it: relative to the current folder if it is inside."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def check_model(given: str, path: Path, field: str) -> None:
    """Raise ModelError unless a folder has a model's configuration, weights, and chat template.

    `given` is the recipe's name for the folder, `field` the section that names it. Reads no content
    but the template's.
    """
    field = f"{field}.path"
    if not (path / "config.json").is_file():
        raise ModelError(field, f"{given} has no config.json", "expected a model's folder")
    if not any(file for glob in WEIGHT_FILES for file in path.glob(glob)):
        raise ModelError(field, f"{given} has no weights", "expected *.safetensors files")
    if chat_template(path, field) is None:
        raise ModelError(
            field,
            f"{given} has no chat template",
            "expected chat_template.jinja or chat_template in tokenizer_config.json; use the "
            "instruction-tuned model, or add one",
        )
