"""Training in each precision, on the CPU or on the GPU of this machine."""

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toys import QUICKSTART

pytest.importorskip("trl")

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from factory.errors import RecipeError
from factory.train import Job, check_fields, run_job, trl

M0 = QUICKSTART / "m0"
PAIRS = [
    {
        "prompt": [{"role": "user", "content": f"Copy the letters of {word}."}],
        "chosen": [{"role": "assistant", "content": f"{word}."}],
        "rejected": [{"role": "assistant", "content": f"{word[::-1]}."}],
    }
    for word in ("abcd", "kelp", "fjord", "wren")
]
FIELDS = {"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-3}


@pytest.fixture
def gpu(monkeypatch):
    """Pretend that this machine has a GPU that supports only some precisions."""

    def has(*, bfloat16):
        monkeypatch.setattr(trl, "_has_accelerator", lambda: True)
        monkeypatch.setattr("transformers.utils.is_torch_bf16_gpu_available", lambda: bfloat16)

    return has


@pytest.mark.parametrize("method", ["dpo", "sft"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_cpu_trains_in_float32_and_bfloat16(monkeypatch, method, dtype):
    monkeypatch.setattr(trl, "_has_accelerator", lambda: False)
    check_fields(method, {}, dtype)
    check_fields(method, {"use_cpu": True}, dtype)


@pytest.mark.parametrize("method", ["dpo", "sft"])
def test_a_cpu_does_not_train_in_float16(monkeypatch, method):
    monkeypatch.setattr(trl, "_has_accelerator", lambda: False)
    with pytest.raises(RecipeError, match=r"model.dtype: training in float16 needs a GPU"):
        check_fields(method, {}, "float16")
    with pytest.raises(RecipeError, match=rf"train.{method}.fp16: .*: remove the field fp16"):
        check_fields(method, {"fp16": True}, "float32")
    check_fields(method, {"fp16": False}, "float16")  # the user's own choice


def test_a_gpu_without_bfloat16_is_refused_unless_the_training_runs_elsewhere(gpu):
    gpu(bfloat16=False)
    with pytest.raises(
        RecipeError, match=r"model.dtype: .*: set model.dtype to float16 or float32"
    ):
        check_fields("dpo", {}, "bfloat16")
    check_fields("dpo", {"use_cpu": True}, "bfloat16")
    check_fields("dpo", {"bf16": False}, "bfloat16")
    check_fields("dpo", {}, "float32")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of TRL and its packages, which the trainer process shows
@pytest.mark.parametrize(
    "lora", [None, {"r": 4, "target_modules": "all-linear"}], ids=["full", "lora"]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("method", ["dpo", "sft"])
def test_a_model_is_trained_in_its_precision(tmp_path, method, dtype, lora):
    if dtype == "float16" and not torch.cuda.is_available():
        pytest.skip("float16 is trained only on GPUs")
    parent = tmp_path / "parent"
    AutoModelForCausalLM.from_pretrained(M0, dtype=getattr(torch, dtype)).save_pretrained(parent)
    AutoTokenizer.from_pretrained(M0).save_pretrained(parent)
    rows = PAIRS
    if method == "sft":
        rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in PAIRS]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    check_fields(method, FIELDS, dtype)
    run_job(Job(method, str(parent), dtype, FIELDS, 600, lora=lora), tmp_path)
    trained = tmp_path / "model"
    if lora is None:
        before, after = (load_file(at / "model.safetensors") for at in (parent, trained))
        assert json.loads((trained / "config.json").read_text())["dtype"] == dtype
        assert before.keys() == after.keys()
        assert {str(weight.dtype) for weight in after.values()} == {f"torch.{dtype}"}
        assert any(not torch.equal(before[name], after[name]) for name in before)
    else:
        after = load_file(trained / "adapter_model.safetensors")
        assert any(weight.abs().max() > 0 for name, weight in after.items() if "lora_B" in name)
    assert all(math.isfinite(weight.float().abs().sum()) for weight in after.values())
