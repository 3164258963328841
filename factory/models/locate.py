"""Find a model's folder: beside the recipe, or in the Hub's cache."""

import re
from pathlib import Path

from factory.errors import ModelError, NotDownloaded
from factory.models.digest import MEANING_FILES, WEIGHT_FILES
from factory.models.tokens import chat_template
from factory.recipe import Model, Recipe, Training


def locate(model: Model, recipe: Recipe | Training, *, download: bool) -> Path:
    """The folder of a model: beside the recipe, or where the Hub's cache has its repository.

    `download` fetches what the cache lacks. Raises NotDownloaded where it still lacks it (nothing
    was to be fetched, or there is no network), ModelError where the path names no model.
    """
    path = recipe.resolve(model.path)
    if path.is_dir():
        return path
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model.path) or model.path.startswith("."):
        raise ModelError(
            f"model.path: {model.path} is not a folder (looked for {path.name} in "
            f"{shown_path(path.parent)}): expected a folder with a model, or a Hub repository "
            "organisation/name"
        )
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
            f"model.path: {model.path} is neither a folder beside the recipe nor on this machine: "
            f"fetch it with `hf download {model.path}`, or let `factory run` do so with a network"
        ) from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelError(
            f"model.path: {model.path} could not be fetched from the Hub: {error}"
        ) from error


def shown_path(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def check_model(given: str, path: Path) -> None:
    """Raises ModelError unless a folder has a model's configuration, weights and chat template;
    `given` is what the recipe calls it. No file's content but the template's is looked at."""
    if not (path / "config.json").is_file():
        raise ModelError(f"model.path: {given} has no config.json: expected a model's folder")
    if not any(file for glob in WEIGHT_FILES for file in path.glob(glob)):
        raise ModelError(f"model.path: {given} has no weights: expected *.safetensors files")
    if chat_template(path) is None:
        raise ModelError(
            f"model.path: {given} has no chat template: expected chat_template.jinja or "
            "chat_template in tokenizer_config.json; take the instruction-tuned model, or add one"
        )
