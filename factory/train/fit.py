"""DPO with TRL on a dataset's folder, for those who want no other trainer.

    OUT/model/         the trained model, or adapter
    OUT/job.json       what was trained how
    OUT/train.log      what TRL said

The same process as in the loop: killed and started again, it goes on from its last checkpoint.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import pyarrow as pa

from factory.errors import ExportError, RecipeError, TrainError
from factory.export import export_query, open_dataset, open_pairs, select_splits
from factory.fingerprint import file_digest
from factory.lake import BARE_MESSAGE, BATCH, write_parquet, write_whole
from factory.models import check_adapter, check_model, declared_dtype, locate
from factory.progress import Progress
from factory.recipe import Recipe
from factory.stages import training as train
from factory.train.job import build_job
from factory.train.process import LOG, run_trainer
from factory.train.trl import Job, check_fields, check_lora

_MESSAGES = pa.list_(BARE_MESSAGE)

_COLUMNS = pa.schema([("prompt", _MESSAGES), ("chosen", _MESSAGES), ("rejected", _MESSAGES)])


def fit_dataset(folder: Path, recipe: Recipe, out: Path, progress: Progress) -> Path:
    """Trains the recipe's model, as its `train` says, on the training pairs of a dataset; the
    folder of what came of it. A model that is not on this machine is fetched from the Hub.

    Raises ExportError where the folder is no dataset or `out` holds anything but this training,
    TrainError where the trainer fails.
    """
    job = _job(recipe)
    data, written = out / "data.parquet", out / "job.json"
    said = json.dumps(dataclasses.asdict(job), indent=1)
    _check_out(out, said)
    with open_pairs(open_dataset(folder), ()) as views:
        select_splits(views, "train")
        out.mkdir(parents=True, exist_ok=True)
        unfinished = out / ".tmp-data.parquet"
        rows = views.con.sql(export_query("canonical")).to_arrow_reader(BATCH)
        n_pairs = write_parquet(unfinished, _COLUMNS, (batch.cast(_COLUMNS) for batch in rows))
    if data.exists() and file_digest(data) != file_digest(unfinished):
        unfinished.unlink()
        raise ExportError(f"--out {out}: holds a training on other pairs: name another folder")
    unfinished.replace(data)
    write_whole(written, said)
    failure = run_trainer(out, recipe.train.launcher, f"training ({n_pairs:,} pairs)", progress)
    if failure is not None:
        raise TrainError(f"{failure} (all of it: {out / LOG})")
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    data.unlink()  # last: while it is there, the training is not finished
    return out / "model"


def _job(recipe: Recipe) -> Job:
    spec = recipe.train
    if spec.with_ != "trl":
        raise RecipeError(f"train.with: got {spec.with_}, expected trl")
    path = locate(recipe.model, recipe, download=True)
    check_model(recipe.model.path, path)
    dtype = recipe.model.dtype if recipe.model.dtype != "auto" else declared_dtype(path)
    adapter = None if recipe.model.adapter is None else recipe.resolve(recipe.model.adapter)
    if refused := train.refused(spec, "dpo"):
        raise RecipeError(f"train.dpo.{refused[0]}: is set by the factory; take it out")
    fields = {**train.effective(spec, "dpo"), "seed": spec.dpo.get("seed", recipe.seed)}
    check_fields("dpo", fields, dtype)
    if adapter is not None:
        check_adapter(adapter, path)
        if spec.lora is None:
            raise RecipeError("train.lora: missing, and the model is an adapter: set it to {}")
    lora = train.adapter_fields(spec)
    if spec.lora is not None:
        check_lora(spec.lora, lora or {}, path, adapter)
    return build_job(spec, "dpo", path, adapter, dtype, fields)


def _check_out(out: Path, said: str) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir() or not (out / "job.json").is_file():
        raise ExportError(
            f"--out {out}: is not empty and holds no training of ours: name another folder"
        )
    if (out / "model").exists() and not (out / "data.parquet").exists():
        raise ExportError(f"--out {out}: holds a trained model already: name another folder")
    if (out / "job.json").read_text(encoding="utf-8") != said:
        raise ExportError(
            f"--out {out}: holds another training, with other settings: name another folder, or "
            "go on with the same"
        )
