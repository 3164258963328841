"""Tests of `factory train`: DPO on a dataset's folder, outside a loop and a lake."""

import json
import signal
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toys import QUICKSTART, Toy

from factory.export import PAIR_COLUMNS, export_dataset, open_dataset

pytest.importorskip("trl")

M0 = str(QUICKSTART / "m0")


def dataset(folder, letters="cdef"):
    (folder / "data").mkdir(parents=True)
    rows = [
        {
            **dict.fromkeys(PAIR_COLUMNS.names),
            "prompt": [{"role": "user", "content": f"Copy ab{letter}."}],
            "chosen": [{"role": "assistant", "content": f"ab{letter}."}],
            "rejected": [{"role": "assistant", "content": "zz."}],
        }
        for letter in letters
    ]
    table = pa.Table.from_pylist(rows, schema=PAIR_COLUMNS)
    pq.write_table(table, folder / "data" / "train-00.parquet")
    return folder


@pytest.mark.slow
def test_a_dataset_and_its_export_train_the_same_model(tmp_path, factory):
    folder = dataset(tmp_path / "set")
    export_dataset(open_dataset(folder), "trl", tmp_path / "exported")
    weights = []
    for name in ("set", "exported"):
        out = tmp_path / f"of-{name}"
        told = factory("train", tmp_path / name, "--model", M0, "--out", out)
        assert told.code == 0, told.err
        assert told.out == f"Trained model: {out / 'model'}\n"
        assert "training (4 pairs): 1 step in" in told.err
        weights.append((out / "model" / "model.safetensors").read_bytes())
        assert {path.name for path in out.iterdir()} == {"model", "job.json", "train.log"}
    assert weights[0] == weights[1]
    again = factory("train", folder, "--model", M0, "--out", tmp_path / "of-set")
    assert again.code == 2
    assert "already contains a trained model" in again.err


@pytest.mark.slow
def test_fields_are_those_of_a_recipe(tmp_path, factory):
    folder, out = dataset(tmp_path / "set"), tmp_path / "out"
    changes = ("train.dpo.beta=0.3", "train.dpo.max_steps=2", "train.lora.r=2", "seed=7")
    words = [word for change in changes for word in ("--set", change)]
    assert factory("train", folder, "--model", M0, "--out", out, *words).code == 0
    job = json.loads((out / "job.json").read_text())
    assert (job["fields"]["beta"], job["fields"]["seed"], job["lora"]["r"]) == (0.3, 7, 2)
    assert (out / "model" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("train.dpo.betta=1", "train.dpo.betta: TRL's DPOConfig has no such field: did you mean"),
        ("train.dpo.output_dir=x", "train.dpo.output_dir: the factory sets this field"),
        ("train.lora.rank=2", "PEFT's LoraConfig has no such field: did you mean r?"),
        ("train.with=scripted", "train.with: got scripted, expected trl"),
        ("sampling.draws=2", "set `seed` or a field under `model` or `train`, such as"),
        ("train.checkpoint_seconds=0", "train.checkpoint_seconds: got 0"),
        ("model.path=nowhere", "model.path: nowhere is not a folder"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(tmp_path, factory, change, said):
    folder = dataset(tmp_path / "set")
    ended = factory("train", folder, "--model", M0, "--out", tmp_path / "o", "--set", change)
    assert ended.code == 2
    assert said in ended.err
    assert not (tmp_path / "o").exists()


def test_a_folder_of_others_is_left_alone(tmp_path, factory):
    folder = dataset(tmp_path / "set")
    ended = factory("train", folder, "--model", M0, "--out", folder)
    assert ended.code == 2
    assert "is not empty and was not written by `factory train`" in ended.err
    assert [path.name for path in folder.iterdir()] == ["data"]


@pytest.mark.slow
def test_a_trainer_that_fails_says_how(tmp_path, factory):
    folder, out = dataset(tmp_path / "set"), tmp_path / "out"
    change = "train.dpo.max_length=1"  # TRL drops every pair
    ended = factory("train", folder, "--model", M0, "--out", out, "--set", change)
    assert ended.code == 1
    assert "the trainer exited with code 1" in ended.err
    assert str(out / "train.log") in ended.err


@pytest.mark.slow
def test_a_killed_training_goes_on(tmp_path, factory):
    folder, out = dataset(tmp_path / "set"), tmp_path / "out"
    command = ["train", folder, "--model", M0, "--out", out]
    for change in ("train.dpo.max_steps=40", "train.dpo.save_strategy=steps"):
        command += ["--set", change]
    command += ["--set", "train.dpo.save_steps=1"]
    process = Toy(tmp_path / "toy").process(*map(str, command))
    deadline = time.monotonic() + 120
    while not list(out.glob("checkpoints/checkpoint-*/trainer_state.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    other = factory(*command[:-2], "--set", "train.dpo.save_steps=2")
    assert "contains a training run with other settings" in other.err
    ended = factory(*command)
    assert ended.code == 0, ended.err
    assert "resuming from checkpoint-" in (out / "train.log").read_text()
    assert (out / "model" / "model.safetensors").is_file()
