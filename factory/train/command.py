"""Train a model in the loop with the user's own command."""

import os
import shutil
from pathlib import Path
from typing import Any

from factory.errors import ModelError, RecipeError, TrainError
from factory.files import copy_file, finish, remove_folder, unfinished_folder, write_whole
from factory.lake import Folder, writing
from factory.models import Checkpoint, is_adapter, model_files, tokenizer_files
from factory.plan import RecipeState, StepState, folder_of
from factory.progress import Progress
from factory.recipe import PLACEHOLDERS, Recipe
from factory.stages import command_words
from factory.train.accept import check_trained_model
from factory.train.process import LOG, run_command


def run_user_command(
    state: RecipeState,
    step_state: StepState,
    parent: Checkpoint,
    n_pairs: int,
    lock: Any,
    progress: Progress,
) -> None:
    """Run the recipe's `train.command`, and store the model that the command writes.

    Raises TrainError if the command fails, and ModelError if its model does not fit the loop.
    """
    recipe, folder = state.recipe, folder_of(step_state)
    out, ended = folder.path / "out", folder.path / "ended"
    if not ended.exists():  # if it does, a rejected model is only checked again
        _run(recipe, step_state, parent, n_pairs, lock, progress)
        write_whole(ended, "")
    try:
        check_trained_model(
            out, parent, state.models["M_0"], recipe.train.lora is not None, "train.command"
        )
    except ModelError:
        if not out.exists():
            ended.unlink()  # there is no model to repair, so the next run trains again
        raise
    take_over(out, parent, folder)


def _run(
    recipe: Recipe,
    step_state: StepState,
    parent: Checkpoint,
    n_pairs: int,
    lock: Any,
    progress: Progress,
) -> None:
    """Run the recipe's `train.command`. Raises TrainError if the command fails."""
    label, folder = step_state.step.label, folder_of(step_state)
    out, log = folder.path / "out", folder.path / LOG
    places = {
        "pairs": str(folder.path / "data.parquet"),
        "parent": str(parent.adapter or parent.path),
        "out": str(out),
    }
    command = command_words(recipe.train.command, places)
    log_place = folder.lake.relative(log)
    progress.say(
        f"  {label} ({n_pairs:,} pairs): running {command[0]} (log: {log_place} in the lake)"
    )
    environment = check_command(recipe)
    # The command inherits the folder's lock: if this process is killed, the next run waits for it.
    failure = run_command(command, recipe.folder, log, environment, lock.fileno())
    if failure is not None:
        raise TrainError(
            label,
            failure,
            f"read the log {log_place} in the lake (the command's files are in "
            f"{folder.lake.relative(out)})",
        )


def check_command(recipe: Recipe) -> dict[str, str]:
    """Return the environment variables for the user's training command.

    Raises RecipeError if the virtual environment or the program does not exist.
    """
    environment = _environment(recipe)
    (program, *_) = command_words(recipe.train.command, dict.fromkeys(PLACEHOLDERS, ""))
    here = recipe.file_beside(program) if "/" in program else None
    if shutil.which(str(here or program), path=environment["PATH"]) is None:
        raise RecipeError(
            "train.command",
            f"the program {program} is missing or is not executable",
            "use a program on the PATH or in train.environment, or give the program's path",
        )
    return environment


def _environment(recipe: Recipe) -> dict[str, str]:
    """Return the environment variables of the virtual environment in the recipe, or else of this
    process."""
    if recipe.train.environment is None:
        return dict(os.environ)
    root = recipe.resolve(recipe.train.environment)
    binaries = root / "bin"
    if not (binaries / "python").exists():
        raise RecipeError(
            "train.environment",
            f"{recipe.train.environment} is not a virtual environment",
            "give a folder that contains bin/python",
        )
    path = f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}"
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    return {**inherited, "PATH": path, "VIRTUAL_ENV": str(root)}


def take_over(path: Path, parent: Checkpoint, folder: Folder) -> None:
    """Copy an externally trained model to the lake.

    The model must be checked first. Missing tokenizer files are copied from the parent.
    """
    model = folder.path / "model"
    files = {file.relative_to(path): file for file in model_files(path)}
    if not is_adapter(path):
        own = tokenizer_files(parent.path)
        files = {file.relative_to(parent.path): file for file in own} | files
    with writing(folder.lake.root), unfinished_folder(folder.path) as unfinished:
        for name, file in files.items():
            (unfinished / name).parent.mkdir(exist_ok=True)
            copy_file(file, unfinished / name)
        remove_folder(model)
        finish(unfinished, model)
