"""The trainer: TRL, one screen, in a process of its own (`python -m factory.train JOB`).

Its memory is gone when it ends. It is started with the folder of a job, leaves checkpoints in
`checkpoints/` and, last, the weights in `model/`; killed and started again, it goes on from the
newest whole checkpoint. It knows nothing of the lake.

The reference model of DPO is the model that the training starts from (TRL's own default): for a
first adapter the base with the adapter off, for one that goes on a frozen copy of it.
"""

import dataclasses
import difflib
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from factory.errors import MissingExtra, RecipeError
from factory.recipe import Method

EVENT = "@factory "
"""Begins the lines of standard output that are for the process which started this one."""

_ADAPTER_REFUSED = (
    "task_type",
    "peft_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "runtime_config",
)
"""Fields of LoraConfig that the factory sets, or that say nothing of the adapter."""

_STARTS = (True, "gaussian", "orthogonal")
"""Values of init_lora_weights that leave the base as it is: a new adapter changes nothing."""

_ADAPTER_CONFIG, _ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_TOKENIZER = ("tokenizer*", "chat_template*", "special_tokens_map.json", "vocab*", "merges.txt")


@dataclasses.dataclass(frozen=True)
class Job:
    method: Method
    parent: str
    """The folder of the model that the training starts from."""
    dtype: str
    """What the trained weights are saved in; training is in float32, or as the fields say."""
    fields: dict[str, Any]
    """Fields of TRL's DPOConfig or SFTConfig."""
    checkpoint_seconds: float
    """How often a checkpoint is written, where the fields do not set TRL's own saving."""
    lora: dict[str, Any] | None = None
    """Fields of PEFT's LoraConfig, to train an adapter; None trains all weights."""
    adapter: str | None = None
    """The folder of the parent's adapter, which then goes on being trained as it is configured;
    None where the parent is the weights alone."""


def check_fields(method: Method, fields: dict[str, Any], dtype: str) -> None:
    """Refuses fields that TRL's config does not have, or values that it does not take."""
    config, _ = _trl(method)
    known = [field.name for field in dataclasses.fields(config)]
    _check_names(f"train.{method}", f"TRL's {config.__name__}", fields, known)
    try:
        _config(config, fields, dtype, Path("unused"), {})
    except (TypeError, ValueError, ImportError) as error:
        raise RecipeError(f"train.{method}", f"TRL refuses these fields: {error}") from None


def check_lora(
    chosen: dict[str, Any], fields: dict[str, Any], base: Path, adapter: Path | None
) -> None:
    """Refuses an adapter that PEFT would not put on the model in the folder `base`.

    `chosen` are the fields that the recipe sets, `fields` those with the defaults under them, and
    `adapter` is the folder of the adapter that M_0 has: the fields that are chosen must then be
    its own. No weights are loaded. Raises RecipeError.
    """
    peft = _peft()
    known = [field.name for field in dataclasses.fields(peft.LoraConfig)]
    _check_names("train.lora", "PEFT's LoraConfig", fields, known)
    for name in fields:
        if name in _ADAPTER_REFUSED:
            raise RecipeError(f"train.lora.{name}", "is set by the factory", "remove it")
    start = fields.get("init_lora_weights", True)
    if start not in _STARTS:
        raise RecipeError(
            "train.lora.init_lora_weights",
            f"got {start}",
            "expected true, gaussian, or orthogonal: the adapter would belong to other weights "
            "than the model's own",
        )
    config = _tried(fields, base)
    if adapter is not None:
        _check_continued(chosen, config, peft.LoraConfig.from_pretrained(adapter))


def _check_names(section: str, owner: str, fields: dict[str, Any], known: list[str]) -> None:
    for name in fields:
        if name not in known:
            # PEFT alone calls the rank r, which no likeness of letters finds.
            alike = ["r"] if name == "rank" else difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {alike[0]}?" if alike and alike[0] in known else ""
            raise RecipeError(f"{section}.{name}", f"{owner} has no such field", hint)


def _tried(fields: dict[str, Any], base: Path) -> Any:
    """The adapter's config, its modules by name, once it was put on a model of no weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    peft = _peft()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))
        try:
            config = peft.LoraConfig(task_type="CAUSAL_LM", **fields)
            return peft.get_peft_model(model, config, low_cpu_mem_usage=True).peft_config["default"]
        except Exception as error:  # PEFT checks no types: a wrong value fails where it is used
            reason = " ".join(str(error).split())
            raise RecipeError("train.lora", f"PEFT refuses these fields: {reason}") from None


def _check_continued(chosen: dict[str, Any], config: Any, own: Any) -> None:
    for name in chosen:
        got, expected = (_plain(getattr(each, name)) for each in (config, own))
        if got != expected:
            raise RecipeError(
                f"train.lora.{name}",
                f"got {got}",
                f"expected {expected}, as the adapter of M_0 has it and the training continues "
                "it; remove the field",
            )


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else value


def run_job(job: Job, folder: Path) -> None:
    """Trains on `folder/data.parquet` and leaves the model in `folder/model`.

    Rows: prompt, chosen, rejected for DPO; prompt, completion (or messages) for SFT; each a list
    of {role, content}.
    """
    from datasets import Dataset
    from transformers import AutoTokenizer, PrinterCallback

    config_class, trainer_class = _trl(job.method)
    checkpoints = folder / "checkpoints"
    saving = {} if any(name.startswith("save_") for name in job.fields) else {"save_strategy": "no"}
    # All weights are trained in float32; below an adapter they are only read.
    weights = "float32" if job.lora is None else job.dtype
    config = _config(config_class, job.fields, job.dtype, checkpoints, saving, weights)
    trainer = trainer_class(
        **_start(job, config),
        args=config,
        train_dataset=Dataset(pq.read_table(folder / "data.parquet")),
        processing_class=AutoTokenizer.from_pretrained(job.parent),
        callbacks=[_callback(job.checkpoint_seconds if saving else None)],
    )
    trainer.remove_callback(PrinterCallback)
    checkpoint = _last_checkpoint(checkpoints)
    if checkpoint is not None:
        # Transformers would read the reference alone and begin again with the parent's adapter
        # (Trainer._load_from_checkpoint, 5.19); TRL has made the reference anew already.
        shutil.rmtree(Path(checkpoint) / "ref", ignore_errors=True)
        print(f"going on from {Path(checkpoint).name}", file=sys.stderr)
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model(str(folder / "trained"))
    if not trainer.is_world_process_zero():
        return
    if job.lora is None:
        _finish(job, folder)
    else:
        _finish_adapter(folder)


def _start(job: Job, config: Any) -> dict[str, Any]:
    """What TRL's trainer is given to start from: the model, and a first adapter's config."""
    if job.lora is None:
        return {"model": job.parent}
    peft = _peft()
    if job.adapter is None:
        lora = peft.LoraConfig(task_type="CAUSAL_LM", **job.lora)
        return {"model": job.parent, "peft_config": lora}
    from transformers import AutoModelForCausalLM

    # Over several GPUs of one process, as TRL itself loads a model that it is given by name.
    places = {"device_map": "auto"} if config.n_gpu > 1 else {}
    options = {**places, **(config.model_init_kwargs or {})}
    config.model_init_kwargs = None  # which TRL takes for models by name alone
    base = AutoModelForCausalLM.from_pretrained(job.parent, **options)
    return {"model": peft.PeftModel.from_pretrained(base, job.adapter, is_trainable=True)}


def _config(
    config_class: Any,
    fields: dict[str, Any],
    dtype: str,
    out: Path,
    saving: dict[str, Any],
    weights: str = "float32",
) -> Any:
    """TRL's config. Training in bfloat16 autocast follows the model's own dtype, whatever the
    machine; TRL's default would hang on the hardware."""
    ours = {
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
    """Tells the starting process how far the training is, and asks for a checkpoint every so
    often (never where `seconds` is None: then TRL's own fields say when)."""
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
    print(EVENT + json.dumps(event), flush=True)


def _last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end: TRL writes trainer_state.json last."""
    numbered = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in reversed(numbered):
        try:
            json.loads((path / "trainer_state.json").read_text())
        except (OSError, ValueError):
            shutil.rmtree(path)
        else:
            return str(path)
    return None


def _finish(job: Job, folder: Path) -> None:
    """Casts the weights to the model's dtype and keeps the parent's tokenizer, byte for byte."""
    from transformers import AutoModelForCausalLM

    trained, final = folder / "trained", folder / "model"
    model = AutoModelForCausalLM.from_pretrained(trained, dtype=job.dtype)
    model.config.use_cache = True  # which training turns off
    model.save_pretrained(final)
    for pattern in (*_TOKENIZER, "generation_config.json"):
        for file in Path(job.parent).glob(pattern):
            shutil.copyfile(file, final / file.name)
    shutil.rmtree(trained)


def _finish_adapter(folder: Path) -> None:
    """Keeps the adapter alone: no reference, no tokenizer, no name of the base and no path."""
    trained, final = folder / "trained", folder / "model"
    final.mkdir(exist_ok=True)
    config = json.loads((trained / _ADAPTER_CONFIG).read_text())
    config["base_model_name_or_path"] = None
    for name, value in config.items():
        if name in ("target_modules", "exclude_modules") and isinstance(value, list):
            config[name] = sorted(value)  # PEFT's are sets, in another order each time
    (final / _ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))
    shutil.copyfile(trained / _ADAPTER_WEIGHTS, final / _ADAPTER_WEIGHTS)
    shutil.rmtree(trained)


def _die_with_parent() -> None:
    """Ends this process when the one that started it is gone: its end of the pipe closes."""

    def wait() -> None:
        while os.read(0, 1024):  # not sys.stdin: its lock would be held at the interpreter's end
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    folder = Path(sys.argv[1])
    _die_with_parent()
    run_job(Job(**json.loads((folder / "job.json").read_text())), folder)
