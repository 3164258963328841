"""Find the models named in a recipe, and compute their digests."""

from pathlib import Path

from factory.fingerprint import folder_key
from factory.functions import find_function
from factory.models.adapters import check_adapter
from factory.models.checkpoint import Checkpoint
from factory.models.config import check_files, declared_dtype
from factory.models.digest import adapter_digest, as_run, folder_digest, model_files
from factory.models.locate import check_model, locate_model
from factory.models.templates import prints_date
from factory.recipe import Model, OpenaiEngine, Recipe


def open_checkpoint(
    name: str,
    model: Model,
    recipe: Recipe,
    known: dict[str, str],
    *,
    field: str,
    download: bool = False,
) -> Checkpoint:
    """Find a model that the recipe names, and return its checkpoint.

    `field` is the recipe section that names the model: `model`, `judge.model`, or
    `judges.x.reward_model`. `known` caches file hashes, so that unchanged weights are not read
    again; new hashes are added to it. Raises ModelError if the folder is missing, or if it has no
    weights or chat template, which every engine except the scripted one needs.
    """
    engine = recipe.engine_of(name)
    path = locate_model(model, recipe, field=field, download=download)
    place = f"{field}.path"
    if engine.name != "scripted":
        check_model(model.path, path, field)
    else:
        check_files(model_files(path), place)
    dtype = model.dtype if model.dtype != "auto" else declared_dtype(path, place)
    base = digest = folder_digest(path, dtype, known)
    adapter = None
    if model.adapter is not None:
        adapter = recipe.resolve(model.adapter)
        check_adapter(adapter, path, f"{field}.adapter", place)
        digest = adapter_digest(adapter, base, known)
    if engine.name == "scripted":  # the answers depend on the script
        script = engine.script
        code = find_function(script, recipe.folder, n_arguments=2).digest if script else "words"
        digest = folder_key("scripted model", 1, {"model": digest, "script": code})
    return Checkpoint(
        name,
        path,
        as_run(digest, engine, prints_date=prints_date(path, place)),
        dtype,
        adapter,
        base=base,
        field=place,
    )


def declared_checkpoint(name: str, revision: str, engine: OpenaiEngine) -> Checkpoint:
    """Return the checkpoint of a model that runs on a server and has no local weights.

    The server's name for the model and the declared revision identify it.
    """
    digest = folder_key("model declared", 1, {"name": engine.model, "revision": revision})
    return Checkpoint(name, Path(engine.model), digest, "unknown", declared=revision)
