"""The trainer: TRL, one screen, in a process of its own (`python -m factory.train JOB`).

Its memory is gone when it ends. It is started with the folder of a job, leaves checkpoints in
`checkpoints/` and, last, the weights in `model/`; killed and started again, it goes on from the
newest whole checkpoint. It knows nothing of the lake.

The reference model of DPO is the model that the training starts from (TRL's own default).
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
from typing import Any, Literal

import pyarrow.parquet as pq

from factory.errors import MissingExtra, RecipeError

Method = Literal["dpo", "sft"]

EVENT = "@factory "
"""Begins the lines of standard output that are for the process which started this one."""

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


def check_fields(method: Method, fields: dict[str, Any], dtype: str) -> None:
    """Refuses fields that TRL's config does not have, or values that it does not take."""
    config, _ = _trl(method)
    known = [field.name for field in dataclasses.fields(config)]
    for name in fields:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise RecipeError(
                f"train.{method}.{name}: TRL's {config.__name__} has no such field{hint}"
            )
    try:
        _config(config, fields, dtype, Path("unused"), {})
    except (TypeError, ValueError, ImportError) as error:
        raise RecipeError(f"train.{method}: TRL refuses these fields: {error}") from None


def fit(job: Job, folder: Path) -> None:
    """Trains on `folder/data.parquet` and leaves the model in `folder/model`.

    Rows: prompt, chosen, rejected for DPO; prompt, completion (or messages) for SFT; each a list
    of {role, content}.
    """
    from datasets import Dataset
    from transformers import AutoTokenizer, PrinterCallback

    config_class, trainer_class = _trl(job.method)
    checkpoints = folder / "checkpoints"
    saving = {} if any(name.startswith("save_") for name in job.fields) else {"save_strategy": "no"}
    trainer = trainer_class(
        model=job.parent,
        args=_config(config_class, job.fields, job.dtype, checkpoints, saving),
        train_dataset=Dataset(pq.read_table(folder / "data.parquet")),
        processing_class=AutoTokenizer.from_pretrained(job.parent),
        callbacks=[_callback(job.checkpoint_seconds if saving else None)],
    )
    trainer.remove_callback(PrinterCallback)
    checkpoint = _last_checkpoint(checkpoints)
    if checkpoint is not None:
        print(f"going on from {Path(checkpoint).name}", file=sys.stderr)
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model(str(folder / "trained"))
    if trainer.is_world_process_zero():
        _finish(job, folder)


def _config(
    config_class: Any, fields: dict[str, Any], dtype: str, out: Path, saving: dict[str, Any]
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
        "model_init_kwargs": {"dtype": "float32"},
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
    fit(Job(**json.loads((folder / "job.json").read_text())), folder)


if __name__ == "__main__":
    main()
