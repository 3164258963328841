"""Read the manifests of trained models in the lake, and find broken model files."""

import json
from pathlib import Path
from typing import Any

from factory.fingerprint import file_digest
from factory.models.checkpoint import Checkpoint
from factory.models.digest import ADAPTER_FILES, as_run
from factory.models.templates import prints_date
from factory.recipe import Recipe


def trained_model(name: str, folder: Path, first: Checkpoint, recipe: Recipe) -> Checkpoint | None:
    """Return the checkpoint of a trained model in the lake, or None if it is incomplete.

    A model is complete if its training wrote a manifest and every file has the size in that
    manifest. `first` is M_0, the base model of every adapter.
    """
    manifest = model_manifest(folder)
    if manifest is None:
        return None
    path = folder / "model"
    for file, (size, _) in manifest["files"].items():
        if not (path / file).is_file() or (path / file).stat().st_size != size:
            return None
    digest = as_run(
        manifest["digest"], recipe.engine, prints_date=prints_date(first.path, first.field)
    )
    if ADAPTER_FILES[0] in manifest["files"]:
        return Checkpoint(
            name, first.path, digest, first.dtype, path, folder, first.base, field=first.field
        )
    return Checkpoint(
        name, path, digest, manifest["dtype"], None, folder, manifest["digest"], field=name
    )


def model_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a trained model, or None if the training did not finish.

    The manifest is the last file that a training writes. A damaged manifest counts as missing.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        whole = all(
            type(name) is str and type(size) is int and type(digest) is str
            for name, (size, digest) in manifest["files"].items()
        )
        texts = [manifest[name] for name in ("digest", "dtype", "parent")]
        return manifest if whole and all(type(text) is str for text in texts) else None
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        return None


def broken_files(folder: Path) -> list[tuple[Path, str]]:
    """Return the broken files of a trained model, each with the reason why it is broken."""
    manifest = model_manifest(folder)
    faults = []
    for name, (size, digest) in (manifest or {"files": {}})["files"].items():
        file = folder / "model" / name
        if not file.is_file():
            faults.append((file, "the file was deleted"))
        elif file.stat().st_size != size or file_digest(file) != digest:
            faults.append((file, "the file's content changed"))
    return faults
