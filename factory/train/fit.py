"""Train a model with DPO on a dataset folder, outside the loop.

    OUT/model/         the trained model or adapter
    OUT/job.json       the model that training started from, and the settings
    OUT/train.log      the trainer's log

The trainer is the same process as in the loop: if it is killed, the next start resumes from its
last checkpoint.
"""

import dataclasses
import json
from pathlib import Path

from factory.errors import Argument, ExportError, RecipeError, TrainError
from factory.export import export_query, open_dataset, open_pairs, restored, select_splits
from factory.files import remove_folder, unfinished_file, write_whole
from factory.fingerprint import file_digest
from factory.lake import BATCH, write_parquet
from factory.models import (
    Checkpoint,
    check_adapter,
    check_all_weights,
    check_model,
    declared_dtype,
    locate_model,
)
from factory.progress import Progress
from factory.recipe import Training
from factory.stages import adapter_fields, reserved_fields, training_fields
from factory.train.job import build_job
from factory.train.prefix import prefix_warning
from factory.train.process import LOG, run_trainer
from factory.train.trl import Job, check_fields, check_lora


def fit_dataset(folder: Path, training: Training, out: Path, progress: Progress) -> Path:
    """Train a model on the train split of a dataset, and return the trained model's folder.

    Downloads the model from the Hub if it is not on this machine. Raises ExportError if the folder
    is not a dataset or if `out` contains anything but this training, and TrainError if the trainer
    fails.
    """
    job = _job(training)
    data, written = out / "data.parquet", out / "job.json"
    settings = json.dumps(dataclasses.asdict(job), indent=1)
    _check_out(out, settings)
    with open_pairs(open_dataset(folder), ()) as views:
        select_splits(views, "train")
        out.mkdir(parents=True, exist_ok=True)
        rows = views.con.sql(export_query("canonical")).to_arrow_reader(BATCH)
        schema = restored(rows.schema)
        with unfinished_file(data) as unfinished:
            n_pairs = write_parquet(unfinished, schema, (batch.cast(schema) for batch in rows))
            if data.exists() and file_digest(data) != file_digest(unfinished):
                raise ExportError(
                    Argument(f"out {out}"),
                    "the folder contains an unfinished training run on other pairs",
                    "choose another folder",
                )
    write_whole(written, settings)
    model = Checkpoint(training.model.path, Path(job.parent), "", job.dtype)
    if warning := prefix_warning(data, model):
        progress.say(f"  {warning}")
    failure = run_trainer(out, training.train.launcher, f"training ({n_pairs:,} pairs)", progress)
    if failure is not None:
        raise TrainError("factory train", failure, f"read the log {out / LOG}")
    remove_folder(out / "checkpoints")
    data.unlink()  # last, because this file marks an unfinished training
    return out / "model"


def _job(training: Training) -> Job:
    spec, model = training.train, training.model
    if spec.with_ != "trl":
        raise RecipeError("train.with", f"got {spec.with_}, expected trl", "remove train.with")
    path = locate_model(model, training, field="model", download=True)
    check_model(model.path, path, "model")
    dtype = model.dtype if model.dtype != "auto" else declared_dtype(path, "model.path")
    adapter = None if model.adapter is None else training.resolve(model.adapter)
    if refused := reserved_fields(spec, "dpo"):
        raise RecipeError(
            f"train.dpo.{refused[0]}", "the factory sets this field", "remove this field"
        )
    fields = {**training_fields(spec, "dpo"), "seed": spec.dpo.get("seed", training.seed)}
    check_fields("dpo", fields, dtype)
    check_all_weights(path, "model.path")
    if adapter is not None:
        check_adapter(adapter, path, "model.adapter", "model.path")
        if spec.lora is None:
            raise RecipeError(
                "train.lora",
                "the field is required, because the model is an adapter",
                "set train.lora to {}",
            )
    if spec.lora is not None:
        check_lora(spec.lora, adapter_fields(spec) or {}, path, adapter)
    return build_job(spec, "dpo", path, adapter, dtype, fields)


def _check_out(out: Path, job: str) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    option = Argument(f"out {out}")
    if not out.is_dir() or not (out / "job.json").is_file():
        raise ExportError(
            option,
            "the folder is not empty and was not written by `factory train`",
            "choose another folder",
        )
    if (out / "model").exists() and not (out / "data.parquet").exists():
        raise ExportError(
            option, "the folder already contains a trained model", "choose another folder"
        )
    if (out / "job.json").read_text(encoding="utf-8") != job:
        raise ExportError(
            option,
            "the folder contains a training run with other settings",
            "choose another folder, or use the same settings",
        )
