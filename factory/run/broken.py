"""Set broken shards aside, and discard broken trained models."""

import os
from pathlib import Path

from factory.lake import Broken, Folder, Lake, writing
from factory.models import broken_files
from factory.plan import RecipeState, Step
from factory.progress import Progress


def set_aside(folders: list[Folder], progress: Progress, *, content: bool) -> bool:
    """Takes broken shards out of their folders and names them."""
    found: list[Broken] = []
    for folder in folders:
        broken = folder.broken(content=content)
        if broken:
            holder = f"process {os.getpid()} (setting broken shards aside)"
            with folder.lock(holder, lambda other: progress.say(f"  waiting for {other}")):
                folder.set_aside(broken)
        found += broken
    for shard in found:
        name = folders[0].lake.relative(shard.path)
        progress.say(f"  broken shard {name}: {shard.why}; its rows are made again")
    return bool(found)


def discard_broken_models(survey: RecipeState, step: Step, progress: Progress) -> bool:
    """Whether a trained model that a step needs is not as it was written: it is then no model any
    more, and is trained again."""
    model = survey.models.get(step.parent if step.stage == "train" else step.loads or "")
    if model is None or model.folder is None or model.digest in survey.checked_models:
        return False
    survey.checked_models.add(model.digest)
    broken = tell_broken_files(model.folder, survey.lake, progress)
    if broken:
        with writing(survey.lake.root):
            (model.folder / "manifest.json").unlink()
    return broken


def tell_broken_files(folder: Path, lake: Lake, progress: Progress) -> bool:
    """Names the files of a trained model that are not as they were written; whether there are."""
    broken = broken_files(folder)
    for file, why in broken:
        progress.say(f"  broken model {lake.relative(file)}: {why}; it is trained again")
    return bool(broken)
