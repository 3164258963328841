"""A model that a person trained by hand, taken into the loop."""

import os
import time
from pathlib import Path

import pyarrow.parquet as pq

from factory.errors import RecipeError
from factory.lake import Lake
from factory.plan import RecipeState, Step, StepState, folder_of, read_state, steps
from factory.progress import Progress
from factory.recipe import Recipe
from factory.train.accept import check_trained_model
from factory.train.command import take_over
from factory.train.training import training_rows, write_manifest

ROLES = ("future", "current")


def adopt_model(
    recipe: Recipe, lake: Lake, path: Path, iteration: int, role: str, progress: Progress
) -> str:
    """Makes a folder's model the one that plays a role in an iteration; its digest.

    Raises RecipeError where the recipe does not train by hand, or does not wait for this model,
    ModelError where the folder's model cannot be it.
    """
    if recipe.train.with_ != "manual":
        raise RecipeError(
            "train.with",
            f"got {recipe.train.with_}",
            "expected manual: only then does the loop wait for a model that you train",
        )
    state = read_state(recipe, lake)
    step_state = _waiting(state, iteration, role)
    step, folder = step_state.step, folder_of(step_state)
    parent = state.models[step.parent]
    if path.resolve().is_relative_to(folder.path.resolve()):
        raise RecipeError(
            "FOLDER",
            f"{path} is where the lake keeps this training",
            "expected a folder of your own",
        )
    who = f"{role} of iteration {iteration}"
    check_trained_model(path, parent, state.models["M_0"], recipe.train.lora is not None, who)
    began = time.time()
    holder = f"process {os.getpid()} (factory adopt of {recipe.name})"
    with folder.lock(holder, lambda other: progress.say(f"  waiting for {other}")):
        folder.create(step_state.settings)
        built = folder_of(state.found[Step("pairs", step.iteration, phase=step.phase)])
        rows = folder.path / "data.parquet"
        n_pairs = (
            pq.read_metadata(rows).num_rows
            if rows.exists()
            else training_rows(state, step, built, folder)
        )
        take_over(path, parent, folder)
        write_manifest(state, step_state, n_pairs, time.time() - began)
    state.look(step)
    return state.models[step.name].digest


def _waiting(state: RecipeState, iteration: int, role: str) -> StepState:
    """The training whose model plays a role in an iteration, which must be the next to be done."""
    names = {"future": f"F_{iteration}", "current": f"M_{iteration}"}
    if role not in ROLES or names[role] == "M_0":
        raise RecipeError(
            "--role",
            f"got {role} of iteration {iteration}",
            "expected future, or current of iteration 1 and later; the current model of iteration "
            "0 is M_0",
        )
    wanted = [
        step for step in steps(state.recipe) if step.stage == "train" and step.name == names[role]
    ]
    if not wanted:
        trained = ", ".join(s.name for s in steps(state.recipe) if s.stage == "train")
        raise RecipeError(
            "--iteration",
            f"{names[role]} is no model of this loop",
            f"expected one of {trained}",
        )
    step_state = state.found[wanted[0]]
    if step_state.waits_for:
        raise RecipeError(
            names[role],
            f"{names[role]} waits for {step_state.waits_for}",
            f"run the recipe until it asks for {names[role]}",
        )
    if step_state.done:
        raise RecipeError(
            names[role],
            f"{names[role]} is there already ({state.models[names[role]].digest})",
            "nothing was changed",
        )
    return step_state
