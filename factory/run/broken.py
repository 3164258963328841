"""Find broken shards and models in a lake, so that a run can recompute them."""

from collections.abc import Sequence
from pathlib import Path

from factory.lake import Folder, Lake, writing
from factory.models import Checkpoint, broken_files
from factory.plan import RecipeState, Step, StepState, folders_read
from factory.progress import Progress


def repair_inputs(
    state: RecipeState, steps: Sequence[Step], own: Sequence[Folder], progress: Progress
) -> bool:
    """Set aside the broken shards and discard the broken models that the given steps read.

    Their rows then count as missing. `own` are the folders of the steps themselves, which are
    checked too. Returns False if no file was broken.
    """
    read = [folder for step in steps for folder in folders_read(state, step)]
    tables = [folder for folder in own if folder.table != "models"]
    folders = {repr(folder): folder for folder in [*read, *tables]}
    set_aside = [_set_aside(folder, progress) for folder in folders.values()]
    discarded = [_discard_model(state, step, progress) for step in steps]
    return any(set_aside) or any(discarded)


def _set_aside(folder: Folder, progress: Progress) -> bool:
    """Move a folder's broken shards out of the folder, and report them. Return whether any was
    broken."""
    broken = folder.broken(content=True)
    if broken:
        with folder.lock("setting broken shards aside", progress.say):
            folder.set_aside(broken)
    for shard in broken:
        name = folder.lake.relative(shard.path)
        progress.say(f"  broken shard {name}: {shard.why}; its rows will be recomputed")
    return bool(broken)


def are_inputs_whole(state: RecipeState, located: StepState) -> bool:
    """Return whether a step's input files are unchanged since they were written.

    These are its own shards, the shards of its inputs, and its model. Each model is checked only
    once per run.
    """
    step, own = located.step, located.folder
    folders = [*folders_read(state, step), *([own] if own and own.table != "models" else [])]
    if any(folder.broken(content=True) for folder in folders):
        return False
    model = _model_read(state, step)
    if model is None or model.folder is None or model.digest in state.checked_models:
        return True
    state.checked_models.add(model.digest)
    return not broken_files(model.folder)


def _model_read(state: RecipeState, step: Step) -> Checkpoint | None:
    """Return the model that a step loads or starts its training from, if there is one."""
    return state.models.get(step.parent if step.stage == "train" else step.loads or "")


def _discard_model(state: RecipeState, step: Step, progress: Progress) -> bool:
    """Remove the manifest of the model that a step reads if the model is broken.

    Without a manifest, the model is trained again. Returns whether the model was broken.
    """
    model = _model_read(state, step)
    if model is None or model.folder is None:
        return False
    broken = name_broken_files(model.folder, state.lake, progress)
    if broken:
        with writing(state.lake.root):
            (model.folder / "manifest.json").unlink()
    return broken


def name_broken_files(folder: Path, lake: Lake, progress: Progress) -> bool:
    """Report the broken files of a trained model. Return whether any file is broken."""
    broken = broken_files(folder)
    for file, why in broken:
        name = lake.relative(file)
        progress.say(f"  broken model file {name}: {why}; the model will be trained again")
    return bool(broken)
