"""Set broken shards aside, and discard broken trained models."""

from collections.abc import Sequence
from pathlib import Path

from factory.lake import Folder, Lake, writing
from factory.models import Checkpoint, broken_files
from factory.plan import RecipeState, Step, StepState, folders_read
from factory.progress import Progress


def repair_inputs(
    state: RecipeState, steps: Sequence[Step], own: Sequence[Folder], progress: Progress
) -> bool:
    """Set aside the broken shards that steps read, those of their `own` folders included, and
    discard their broken models: the rows are then missing. False if nothing was broken."""
    read = [folder for step in steps for folder in folders_read(state, step)]
    tables = [folder for folder in own if folder.table != "models"]
    folders = {repr(folder): folder for folder in [*read, *tables]}
    set_aside = [_set_aside(folder, progress) for folder in folders.values()]
    discarded = [_discard_model(state, step, progress) for step in steps]
    return any(set_aside) or any(discarded)


def _set_aside(folder: Folder, progress: Progress) -> bool:
    """Move the broken shards of a folder out of it, and name them. False if there is none."""
    broken = folder.broken(content=True)
    if broken:
        with folder.lock("setting broken shards aside", progress.say):
            folder.set_aside(broken)
    for shard in broken:
        name = folder.lake.relative(shard.path)
        progress.say(f"  broken shard {name}: {shard.why}; its rows are made again")
    return bool(broken)


def are_inputs_whole(state: RecipeState, located: StepState) -> bool:
    """Whether the shards of a step, and the shards and the model that it reads, are as they were
    written. A model is read once per run."""
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
    """The model that a step loads or trains from."""
    return state.models.get(step.parent if step.stage == "train" else step.loads or "")


def _discard_model(state: RecipeState, step: Step, progress: Progress) -> bool:
    """Remove the manifest of a broken trained model, so that it is trained again. False if the
    model that the step reads is whole."""
    model = _model_read(state, step)
    if model is None or model.folder is None:
        return False
    broken = name_broken_files(model.folder, state.lake, progress)
    if broken:
        with writing(state.lake.root):
            (model.folder / "manifest.json").unlink()
    return broken


def name_broken_files(folder: Path, lake: Lake, progress: Progress) -> bool:
    """Name the files of a trained model that are not as they were written. False if all are."""
    broken = broken_files(folder)
    for file, why in broken:
        progress.say(f"  broken model {lake.relative(file)}: {why}; it is trained again")
    return bool(broken)
