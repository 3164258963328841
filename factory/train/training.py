"""Train one model in the loop on its pairs, and store it in the lake.

A training folder without a manifest has no model yet. It contains the files from which the trainer
resumes.
"""

import dataclasses
import json
import time
from typing import Any

import pyarrow as pa

from factory import __version__
from factory.errors import HandOver, StepFailed, TrainError
from factory.export import PLAIN, select_pairs, shown_rows, with_prompt_fields
from factory.files import remove_folder, unfinished_file, write_whole
from factory.lake import Folder, load_query, write_parquet, writing
from factory.models import (
    Checkpoint,
    adapter_digest,
    as_run,
    cached_digest,
    folder_digest,
    is_adapter,
    model_files,
    prints_date,
)
from factory.plan import (
    RecipeState,
    Step,
    StepState,
    count_outcomes,
    folder_of,
    trained_prompt_fields,
)
from factory.progress import Progress
from factory.recipe import TRL_MAX_LENGTH, Method, Recipe
from factory.stages import FILE_FIELDS, training_fields
from factory.train.command import run_user_command
from factory.train.job import build_job
from factory.train.prefix import prefix_warning
from factory.train.process import LOG, Pace, run_trainer


def train_model(state: RecipeState, step_state: StepState, lock: Any, progress: Progress) -> None:
    """Train one model in the loop, and then write its manifest.

    Raises StepFailed if there are no pairs to train on, TrainError if the trainer fails, ModelError
    if the trained model does not fit the loop, and HandOver if the user has to train the model.
    """
    step, folder, recipe = step_state.step, folder_of(step_state), state.recipe
    parent = state.models[step.parent]
    folder.create(step_state.settings)
    (folder.path / "manifest.json").unlink(missing_ok=True)
    build = build_of_training(state, step)
    began = time.time() - sum(event.get("seconds", 0) for event in folder.events())
    n_pairs = training_rows(state, step, build, folder)
    if n_pairs == 0:
        raise _nothing_to_train_on(state, step, build)
    match recipe.train.with_:
        case "trl":
            _tell_too_long(state, step, build, n_pairs, progress)
            if warning := prefix_warning(folder.path / "data.parquet", parent):
                progress.say(f"  {step.label}: {warning}")
            _run_trl(state, step_state, parent, n_pairs, lock, progress)
        case "command":
            run_user_command(state, step_state, parent, n_pairs, lock, progress)
        case "manual":
            raise HandOver(step.label, *_hand_over(step_state, parent, n_pairs))
        case "scripted":
            _scripted_trainer(step_state, parent)
    write_manifest(state, step_state, n_pairs, time.time() - began)


def build_of_training(state: RecipeState, step: Step) -> Folder:
    """Return the lake folder that contains the pairs for a training step."""
    return folder_of(state.steps[Step("pairs", step.iteration, phase=step.phase)])


def _nothing_to_train_on(state: RecipeState, step: Step, build: Folder) -> StepFailed:
    outcomes = count_outcomes(state, build)
    counted = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items())
    return StepFailed(
        f"pairs {step.phase} of iteration {step.iteration}",
        f"no pair in the train split was kept ({counted or 'no prompts'}), so {step.name} "
        "cannot be trained",
        "look at the judgments with `factory preview` or `factory sql RECIPE 'from judgments'`",
    )


def write_manifest(state: RecipeState, step_state: StepState, n_pairs: int, seconds: float) -> None:
    """Write the manifest of a trained model, and remove temporary files of the training."""
    step, folder, recipe = step_state.step, folder_of(step_state), state.recipe
    parent, model = state.models[step.parent], folder.path / "model"
    hashes: dict[str, str] = {}
    digest = (
        adapter_digest(model, parent.base, hashes)
        if is_adapter(model)
        else folder_digest(model, parent.dtype, hashes)
    )
    manifest = {
        "digest": digest,
        "as_run": as_run(digest, recipe.engine, prints_date=prints_date(parent.path, parent.field)),
        "dtype": parent.dtype,
        "parent": parent.digest,
        "build": build_of_training(state, step).key,
        "n_pairs": n_pairs,
        "settings": step_state.settings,
        "seconds": round(seconds, 1),
        "versions": {"factory": __version__, **_trainer_versions(recipe)},
        "files": {
            file.relative_to(model).as_posix(): [file.stat().st_size, cached_digest(file, hashes)]
            for file in model_files(model)
        },
    }
    with writing(folder.lake.root):
        write_whole(folder.path / "manifest.json", json.dumps(manifest, indent=1))
    tidy(folder)


def tidy(folder: Folder) -> None:
    """Remove the files that a finished training no longer needs.

    Call this only after the manifest is written, so that a killed run loses only the work since the
    last checkpoint.
    """
    with writing(folder.lake.root):
        for name in ("data.parquet", "job.json", "ended"):
            (folder.path / name).unlink(missing_ok=True)
        for name in ("checkpoints", "out"):
            remove_folder(folder.path / name)


_TRAINED_ON: dict[Method, tuple[str, tuple[str, ...]]] = {
    "dpo": ("train/training_rows", ("prompt", "chosen", "rejected")),
    "sft": ("train/training_completions", ("prompt", "completion")),
}
"""The query for training rows and its columns, by training method."""


def training_rows(state: RecipeState, step: Step, build: Folder, folder: Folder) -> int:
    """Write a step's training rows to a Parquet file, and return the number of rows.

    The rows are the kept pairs of the train split, sorted by pair_id.
    """
    query, columns = _TRAINED_ON[state.policy.trains]
    found = trained_prompt_fields(state, build)
    schema = with_prompt_fields(pa.schema([(column, PLAIN) for column in columns]), found)
    views = state.views(state.phase_scope(step))
    views.register_shards("pairs", "pairs", build.shards())
    views.define("pairs", "from pairs_shards")
    kept = "outcome = 'kept' and split = 'train'"
    views.read_texts(f"from pairs where {kept}")
    select_pairs(views, kept)
    rows = folder.path / "data.parquet"
    # Replaced in one step, because the user may be reading the existing file.
    with writing(folder.lake.root), unfinished_file(rows) as unfinished:
        shown = shown_rows(views.stream(load_query(query)), schema)
        n_rows = write_parquet(unfinished, schema, shown)
    views.forget_texts()  # training takes long, and its process may need the memory
    return n_rows


def _tell_too_long(
    state: RecipeState, step: Step, build: Folder, n_pairs: int, progress: Progress
) -> None:
    """Report the number of pairs that exceed TRL's max_length, which TRL truncates or drops."""
    method = state.policy.trains
    max_length = training_fields(state.recipe.train, method).get("max_length", TRL_MAX_LENGTH)
    if max_length is None:
        return
    views = state.views()
    views.register_shards("pairs", "pairs", build.shards())
    if n := views.one(load_query("train/too_long"), max_length=max_length)["n"]:
        progress.say(
            f"  {step.label}: {n:,} of {n_pairs:,} pairs exceed train.{method}.max_length "
            f"({max_length}); TRL truncates them, or drops them if the prompt alone exceeds it"
        )


def _scripted_trainer(step_state: StepState, parent: Checkpoint) -> None:
    """Write a placeholder model for the scripted engine, which names its parent and training
    rows."""
    folder = folder_of(step_state)
    with writing(folder.lake.root):
        model = folder.path / "model"
        model.mkdir(exist_ok=True)
        content = {"parent": parent.digest, "rows": step_state.settings["rows"], "key": folder.key}
        write_whole(model / "scripted.json", json.dumps(content))


def _run_trl(
    state: RecipeState,
    step_state: StepState,
    parent: Checkpoint,
    n_pairs: int,
    lock: Any,
    progress: Progress,
) -> None:
    recipe, method, folder = state.recipe, state.policy.trains, folder_of(step_state).path
    fields = {"seed": recipe.seed, **trainer_fields(recipe, method)}
    job = build_job(recipe.train, method, parent.path, parent.adapter, parent.dtype, fields)
    with writing(folder_of(step_state).lake.root):
        write_whole(folder / "job.json", json.dumps(dataclasses.asdict(job)))
    title = f"{step_state.step.label} ({n_pairs:,} pairs)"
    # The trainer inherits the folder's lock: if this process is killed, no other run can write to
    # the folder until the trainer has ended.
    launcher = [path_beside(recipe, word) for word in recipe.train.launcher]
    pace, began = Pace(), time.time()
    try:
        failure = run_trainer(folder, launcher, title, progress, lock.fileno(), pace=pace)
    finally:
        seconds = round(time.time() - began, 3)
        event = {"step": step_state.step.label, "seconds": seconds, **pace.event()}
        folder_of(step_state).record(event)
    if failure is not None:
        log = folder_of(step_state).lake.relative(folder / LOG)
        raise TrainError(step_state.step.label, failure, f"read the log {log} in the lake")


def trainer_fields(recipe: Recipe, method: Method) -> dict[str, Any]:
    """Return the fields of TRL's config for a recipe.

    Paths of files in the recipe's folder become absolute.
    """
    fields = training_fields(recipe.train, method)
    named = {name: fields[name] for name in FILE_FIELDS if isinstance(fields.get(name), str)}
    return {**fields, **{name: path_beside(recipe, file) for name, file in named.items()}}


def path_beside(recipe: Recipe, word: str) -> str:
    """Convert a command-line word to a full path if it refers to a file in the recipe's folder.

    The name may follow an equals sign, as in `--config=mine.yaml`. Other words are returned
    unchanged.
    """
    head, equals, name = word.rpartition("=")
    return f"{head}{equals}{recipe.file_beside(name) or name}"


def _hand_over(step_state: StepState, parent: Checkpoint, n_pairs: int) -> tuple[str, str]:
    """Return the fault and the remedy of the message that asks the user to train a model."""
    step = step_state.step
    is_future = step.name.startswith("F")
    role, iteration = ("future", step.iteration) if is_future else ("current", step.iteration + 1)
    rows = folder_of(step_state).path / "data.parquet"
    remedy = (
        f"train {parent.adapter or parent.path} on the {n_pairs:,} pairs in {rows}, then run "
        f"`factory adopt RECIPE FOLDER --iteration {iteration} --role {role}` and the same command "
        "again"
    )
    return "waiting for you to train this model (train.with: manual)", remedy


def _trainer_versions(recipe: Recipe) -> dict[str, str]:
    if recipe.train.with_ != "trl":
        return {}
    from importlib.metadata import version

    names = ("trl", "transformers", "torch", *(["peft"] if recipe.train.lora is not None else []))
    return {name: version(name) for name in names}
