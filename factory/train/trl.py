"""The trainer process, which trains with TRL (`python -m factory.train FOLDER`).

The trainer runs in a separate process, so that all its memory is freed when it ends. It reads the
job in FOLDER, writes checkpoints to `checkpoints/`, and finally writes the weights to `model/`. If
it is killed, the next start resumes from the newest complete checkpoint. It does not use the lake.

The reference model of DPO is the model that training starts from, which is TRL's default. For a new
adapter, the reference is the base model with the adapter disabled. For an adapter that is trained
further, it is a frozen copy of the adapter.
"""

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from factory.errors import MissingExtra, RecipeError
from factory.files import copy_file, remove_folder, write_whole
from factory.models import tokenizer_files
from factory.recipe import Method
from factory.train.declared import check_adapter_fields, check_trl_fields

EVENT = "@factory "
"""Prefix of the output lines that report progress to the parent process."""

_ADAPTER_CONFIG, _ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclasses.dataclass(frozen=True)
class Job:
    """A training job, stored as `job.json` in the trainer's folder."""

    method: Method
    parent: str
    """Folder of the model that training starts from."""
    dtype: str
    """Data type of the saved weights. Training uses float32, or the data type set in `fields`."""
    fields: dict[str, Any]
    """Fields of TRL's DPOConfig or SFTConfig."""
    checkpoint_seconds: float
    """Seconds between checkpoints. Ignored if `fields` contains TRL's own `save_…` fields."""
    lora: dict[str, Any] | None = None
    """Fields of PEFT's LoraConfig for training an adapter. None trains all weights."""
    adapter: str | None = None
    """Folder of the parent's adapter, which is then trained further with its own configuration.
    None if the parent has no adapter."""


def check_fields(method: Method, fields: dict[str, Any], dtype: str) -> None:
    """Raise RecipeError if TRL's config does not have a given field or rejects its value."""
    check_trl_fields(method, fields)
    config, _ = _trl(method)
    _check_precision(method, fields, dtype)
    try:
        _config(config, fields, dtype, Path("unused"), {})
    except (TypeError, ValueError, ImportError) as error:
        raise RecipeError(f"train.{method}", f"TRL rejects these fields: {error}") from None


def _check_precision(method: Method, fields: dict[str, Any], dtype: str) -> None:
    """Raise RecipeError if this machine cannot train in the model's precision.

    Accelerate 1.15 supports float16 only on GPUs, and some GPUs have no bfloat16.
    """
    from transformers.utils import is_torch_bf16_gpu_available

    half = {"bf16": dtype == "bfloat16", "fp16": dtype == "float16", **fields}
    on_cpu = fields.get("use_cpu", not _has_accelerator())
    own = [name for name in ("bf16", "fp16") if fields.get(name)]
    field = f"train.{method}.{own[0]}" if own else "model.dtype"
    remedy = f"remove the field {own[0]}" if own else "set model.dtype to {}"
    if half["fp16"] and on_cpu:
        raise RecipeError(
            field,
            "training in float16 needs a GPU, but it would run on the CPU",
            remedy.format("bfloat16 or float32"),
        )
    if half["bf16"] and not on_cpu and not is_torch_bf16_gpu_available():
        raise RecipeError(
            field,
            "this machine's GPU cannot train in bfloat16",
            remedy.format("float16 or float32"),
        )


def _has_accelerator() -> bool:
    """Return whether torch can use a GPU or another accelerator on this machine."""
    import torch

    return torch.accelerator.is_available()


def check_lora(
    chosen: dict[str, Any], fields: dict[str, Any], base: Path, adapter: Path | None
) -> None:
    """Raise RecipeError if PEFT cannot add the adapter to the model in the folder `base`.

    `chosen` has the fields of LoraConfig that the recipe sets, and `fields` adds the defaults. If
    M_0 is an adapter, `adapter` is its folder, and the chosen fields must equal that adapter's.
    Loads no weights.
    """
    check_adapter_fields(fields)
    config = _tried(fields, base)
    if adapter is not None:
        _check_continued(chosen, config, _peft().LoraConfig.from_pretrained(adapter))


def _tried(fields: dict[str, Any], base: Path) -> Any:
    """Return the config of an adapter after adding it to a model without weights.

    PEFT fills in the names of the adapted modules.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    peft = _peft()
    with torch.device("meta"):
        config = AutoConfig.from_pretrained(base, trust_remote_code=False)
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        try:
            config = peft.LoraConfig(task_type="CAUSAL_LM", **fields)
            return peft.get_peft_model(model, config, low_cpu_mem_usage=True).peft_config["default"]
        except Exception as error:  # PEFT does not check types: wrong values fail anywhere
            reason = " ".join(str(error).split())
            raise RecipeError("train.lora", f"PEFT rejects these fields: {reason}") from None


def _check_continued(chosen: dict[str, Any], config: Any, own: Any) -> None:
    for name in chosen:
        got, expected = (_plain(getattr(each, name)) for each in (config, own))
        if got != expected:
            raise RecipeError(
                f"train.lora.{name}",
                f"got {got}, expected {expected} as in M_0's adapter",
                "remove the field, because training continues M_0's adapter",
            )


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else value


def run_job(job: Job, folder: Path) -> None:
    """Train on `data.parquet` in a folder, and write the trained model to `model/` in that folder.

    Rows have prompt, chosen, and rejected for DPO, or prompt and completion (or messages) for SFT.
    Each column is a list of {role, content}.
    """
    from datasets import Dataset
    from transformers import PrinterCallback

    from factory.engines import load_tokenizer

    config_class, trainer_class = _trl(job.method)
    checkpoints = folder / "checkpoints"
    saving = {} if any(name.startswith("save_") for name in job.fields) else {"save_strategy": "no"}
    # Full tuning needs float32 weights. The weights below an adapter are not trained.
    weights = "float32" if job.lora is None else job.dtype
    config = _config(config_class, job.fields, job.dtype, checkpoints, saving, weights)
    trainer = trainer_class(
        **_start(job, config),
        args=config,
        train_dataset=Dataset(pq.read_table(folder / "data.parquet")),
        processing_class=load_tokenizer(Path(job.parent), "model"),
        callbacks=[_callback(job.checkpoint_seconds if saving else None)],
    )
    trainer.remove_callback(PrinterCallback)
    checkpoint = _last_checkpoint(checkpoints)
    if checkpoint is not None:
        # Given this folder, Transformers 5.19 would load only the reference and restart from the
        # parent's adapter (Trainer._load_from_checkpoint). TRL has already rebuilt the reference.
        remove_folder(Path(checkpoint) / "ref")
        print(f"resuming from {Path(checkpoint).name}", file=sys.stderr)
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model(str(folder / "trained"))
    if not trainer.is_world_process_zero():
        return
    if job.lora is None:
        _finish(job, folder)
    else:
        _finish_adapter(folder)


def _start(job: Job, config: Any) -> dict[str, Any]:
    """Return the arguments for TRL's trainer that name the model and configure a new adapter."""
    if job.lora is None:
        return {"model": job.parent}
    peft = _peft()
    if job.adapter is None:
        lora = peft.LoraConfig(task_type="CAUSAL_LM", **job.lora)
        return {"model": job.parent, "peft_config": lora}
    from transformers import AutoModelForCausalLM

    # On several GPUs in one process, load the model as TRL loads a model given by name.
    places = {"device_map": "auto"} if config.n_gpu > 1 else {}
    options = {**places, **(config.model_init_kwargs or {})}
    config.model_init_kwargs = None  # TRL accepts it only with a model given by name
    base = AutoModelForCausalLM.from_pretrained(job.parent, **options, trust_remote_code=False)
    return {"model": peft.PeftModel.from_pretrained(base, job.adapter, is_trainable=True)}


def _config(
    config_class: Any,
    fields: dict[str, Any],
    dtype: str,
    out: Path,
    saving: dict[str, Any],
    weights: str = "float32",
) -> Any:
    """Return TRL's config, with the factory's settings below the recipe's fields.

    Mixed precision follows the model's own dtype. TRL's default would depend on the hardware.
    Without an accelerator, `use_cpu` must be set, or TRL rejects bfloat16.
    """
    ours = {
        "use_cpu": not _has_accelerator(),
        "output_dir": str(out),
        "report_to": "none",
        "disable_tqdm": True,
        "bf16": dtype == "bfloat16",
        "fp16": dtype == "float16",
        "save_total_limit": 1,
        "model_init_kwargs": {"dtype": weights},
    }
    return config_class(**{**ours, **saving, **fields})


def _trl(method: Method) -> tuple[Any, Any]:
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    try:
        import trl
    except ImportError:
        raise MissingExtra("trl", "train") from None
    if method == "dpo":
        return trl.DPOConfig, trl.DPOTrainer
    return trl.SFTConfig, trl.SFTTrainer


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise MissingExtra("peft", "train") from None
    return peft


def _callback(seconds: float | None) -> Any:
    """Return a trainer callback that reports progress and requests a checkpoint every `seconds`.

    If `seconds` is None, TRL's own fields decide when to write checkpoints.
    """
    from transformers import TrainerCallback

    class Events(TrainerCallback):  # type: ignore[misc]
        saved = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                tell({"step": state.global_step, "of": state.max_steps})
            if seconds is not None and time.monotonic() - self.saved >= seconds:
                control.should_save = True
                self.saved = time.monotonic()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if state.is_world_process_zero:
                tell({"log": {k: v for k, v in (logs or {}).items() if isinstance(v, int | float)}})

    return Events()


def tell(event: dict[str, Any]) -> None:
    """Print a progress event for the parent process."""
    print(EVENT + json.dumps(event), flush=True)


def _last_checkpoint(folder: Path) -> str | None:
    """Return the newest complete checkpoint, and remove incomplete checkpoints.

    TRL writes trainer_state.json last.
    """
    numbered = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in reversed(numbered):
        try:
            json.loads((path / "trainer_state.json").read_text())
        except (OSError, ValueError):
            remove_folder(path)
        else:
            return str(path)
    return None


def _finish(job: Job, folder: Path) -> None:
    """Convert the trained weights to the model's dtype, and copy the parent's tokenizer files.

    The IDs of special tokens become those of the parent. TRL replaces some of them. For example,
    it uses the end token of a model without a padding token for padding. The next training would
    then skip the embedding of that token.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    trained, final = folder / "trained", folder / "model"
    model = AutoModelForCausalLM.from_pretrained(trained, dtype=job.dtype, trust_remote_code=False)
    before = AutoConfig.from_pretrained(job.parent, trust_remote_code=False)
    config, parent = (each.get_text_config() for each in (model.config, before))
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config, name, getattr(parent, name, None))
    config.use_cache = True  # training turns it off
    model.save_pretrained(final)
    for file in tokenizer_files(Path(job.parent)):
        copy = final / file.relative_to(job.parent)
        copy.parent.mkdir(exist_ok=True)
        copy_file(file, copy)
    remove_folder(trained)


def _finish_adapter(folder: Path) -> None:
    """Save only the adapter, without the reference, the tokenizer, and the base model's path."""
    trained, final = folder / "trained", folder / "model"
    final.mkdir(exist_ok=True)
    config = json.loads((trained / _ADAPTER_CONFIG).read_text())
    config["base_model_name_or_path"] = None
    for name, value in config.items():
        if name in ("target_modules", "exclude_modules") and isinstance(value, list):
            config[name] = sorted(value)  # PEFT saves sets, whose order varies
    write_whole(final / _ADAPTER_CONFIG, json.dumps(config, indent=2, sort_keys=True))
    copy_file(trained / _ADAPTER_WEIGHTS, final / _ADAPTER_WEIGHTS)
    remove_folder(trained)


def main() -> None:
    """Run the training job in the folder given on the command line."""
    folder = Path(sys.argv[1])
    run_job(Job(**json.loads((folder / "job.json").read_text())), folder)
