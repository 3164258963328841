"""Open the models that a recipe names."""

from pathlib import Path

from factory.fingerprint import folder_key
from factory.functions import find_function
from factory.models.adapters import check_adapter
from factory.models.checkpoint import Checkpoint
from factory.models.digest import adapter_digest, as_run, declared_dtype, folder_digest
from factory.models.locate import check_model, locate
from factory.recipe import Model, OpenaiEngine, Recipe


def open_checkpoint(
    name: str, model: Model, recipe: Recipe, known: dict[str, str], *, download: bool = False
) -> Checkpoint:
    """Finds a model and takes its digest.

    `known` remembers the hashes of files by device, inode, size and time, so that unchanged
    weights are not read again; it is added to. Raises ModelError where the folder is missing, has
    no weights or no chat template (the scripted engine needs neither).
    """
    engine = recipe.engine_of(name)
    path = locate(model, recipe, download=download)
    if engine.name != "scripted":
        check_model(model.path, path)
    dtype = model.dtype if model.dtype != "auto" else declared_dtype(path)
    base = digest = folder_digest(path, dtype, known)
    adapter = None
    if model.adapter is not None:
        adapter = recipe.resolve(model.adapter)
        check_adapter(adapter, path)
        digest = adapter_digest(adapter, base, known)
    if engine.name == "scripted":  # a script answers, not the model
        script = engine.script
        told = find_function(script, recipe.folder).digest if script else "words"
        digest = folder_key("scripted model", 1, {"model": digest, "script": told})
    return Checkpoint(name, path, as_run(digest, engine), dtype, adapter, base=base)


def declared_checkpoint(name: str, revision: str, engine: OpenaiEngine) -> Checkpoint:
    """A model of which only a server has the weights, by the name that the server gives it and the
    revision that whoever runs it declares."""
    digest = folder_key("model declared", 1, {"name": engine.model, "revision": revision})
    return Checkpoint(name, Path(engine.model), digest, "unknown", declared=revision)
