"""Add a user's own trained model to the loop (`factory adopt`)."""

import time
from pathlib import Path

import pyarrow.parquet as pq

from factory.errors import Argument, RecipeError
from factory.lake import Lake
from factory.plan import RecipeState, StepState, folder_of, inspect_step, read_state, steps
from factory.progress import Progress
from factory.recipe import Recipe
from factory.train.accept import check_trained_model
from factory.train.command import take_over
from factory.train.training import build_of_training, training_rows, write_manifest

ROLES = ("future", "current")


def adopt_model(
    recipe: Recipe, lake: Lake, path: Path, iteration: int, role: str, progress: Progress
) -> str:
    """Add a trained model to the loop, and return its digest.

    The model takes the given role in the given iteration. Raises RecipeError if `train.with` is not
    manual or the loop does not wait for this model, and ModelError if the folder does not contain a
    suitable model.
    """
    if not recipe.loop.trains_models:
        raise RecipeError(
            "loop.iterations",
            "got 0, so the loop trains no models and waits for none",
            "set loop.iterations to at least 1",
        )
    if recipe.train.with_ != "manual":
        raise RecipeError(
            "train.with",
            f"got {recipe.train.with_}, expected manual",
            "set train.with to manual, so that the loop waits for the models that you train",
        )
    state = read_state(recipe, lake)
    step_state = _waiting(state, iteration, role)
    step, folder = step_state.step, folder_of(step_state)
    if path.resolve().is_relative_to(folder.path.resolve()):
        raise RecipeError(
            "FOLDER",
            f"{path} is already in this model's lake folder",
            "give a model folder outside the lake",
        )
    parent, first = state.models[step.parent], state.models["M_0"]
    field = f"{role} of iteration {iteration}"
    check_trained_model(path, parent, first, recipe.train.lora is not None, field)
    with folder.lock(f"factory adopt of {recipe.name}", progress.say):
        _adopt(state, step_state, path)
    inspect_step(state, step)
    return state.models[step.name].digest


def _adopt(state: RecipeState, step_state: StepState, path: Path) -> None:
    began = time.time()
    step, folder = step_state.step, folder_of(step_state)
    folder.create(step_state.settings)
    rows = folder.path / "data.parquet"
    if rows.exists():
        n_pairs = pq.read_metadata(rows).num_rows
    else:
        n_pairs = training_rows(state, step, build_of_training(state, step), folder)
    take_over(path, state.models[step.parent], folder)
    write_manifest(state, step_state, n_pairs, time.time() - began)


def _waiting(state: RecipeState, iteration: int, role: str) -> StepState:
    """Return the state of the training step that produces the model for a role of an iteration.

    Raises RecipeError unless the loop waits for this model.
    """
    names = {"future": f"F_{iteration}", "current": f"M_{iteration}"}
    if role not in ROLES or names[role] == "M_0":
        raise RecipeError(
            Argument("role"),
            f"got {role} for iteration {iteration}",
            "use --role future, or --role current with --iteration 1 or later (in iteration 0, "
            "the current model is M_0)",
        )
    wanted = [
        step for step in steps(state.recipe) if step.stage == "train" and step.name == names[role]
    ]
    if not wanted:
        trained = ", ".join(s.name for s in steps(state.recipe) if s.stage == "train")
        raise RecipeError(
            Argument("iteration"),
            f"the loop does not train the model {names[role]}",
            f"choose one of {trained}",
        )
    step_state = state.steps[wanted[0]]
    if step_state.waits_for:
        raise RecipeError(
            names[role],
            f"{names[role]} waits for {step_state.waits_for}",
            f"run `factory run` until the loop waits for {names[role]}",
        )
    if step_state.done:
        raise RecipeError(
            names[role],
            f"the lake already has the model {names[role]} ({state.models[names[role]].digest})",
            "run `factory run` to continue with that model (nothing was changed)",
        )
    return step_state
