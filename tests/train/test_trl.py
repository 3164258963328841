"""Tests of the TRL trainer: TRL's fields, the separate process, and resuming after a kill."""

import json
import os
import signal
import time

import pytest

pytest.importorskip("trl")

from factory.errors import RecipeError, TrainError
from factory.lake import Lake, verify_lake
from factory.train import check_fields


def test_any_field_of_trl_s_config_can_be_set():
    check_fields("dpo", {"beta": 0.3, "loss_type": ["sigmoid"], "weight_decay": 0.1}, "float32")
    check_fields("sft", {"packing": False, "max_length": 128}, "float32")


def test_an_unknown_field_is_refused_with_a_suggestion():
    with pytest.raises(RecipeError, match=r"train.dpo.learning_rat: .*did you mean learning_rate"):
        check_fields("dpo", {"learning_rat": 1}, "float32")


def test_a_value_that_trl_refuses_is_a_sentence():
    with pytest.raises(RecipeError, match="TRL rejects these fields"):
        check_fields("dpo", {"loss_type": ["ipo"], "loss_weights": [1.0, 2.0]}, "float32")


@pytest.mark.parametrize("field", ["bta: 0.2", "output_dir: there", "push_to_hub: true"])
def test_a_run_refuses_such_fields_before_any_generation(small, factory, field):
    name, _, value = field.partition(": ")
    args = ("run", small.path, "--lake", small.lake, "--set", f"train.dpo.{name}={value}")
    ended = factory(*args)
    assert ended.code == 2
    assert f"train.dpo.{name}" in ended.err
    assert not list(small.lake.glob("samples/*"))


@pytest.mark.slow
def test_a_training_killed_in_its_middle_goes_on_from_its_checkpoint(small):
    steps = {"save_strategy": "steps", "save_steps": 1, "per_device_train_batch_size": 1}
    small.write(train={"dpo": {**small.fields["train"]["dpo"], **steps}})
    args = ("run", str(small.path), "--lake", str(small.lake))
    killed = small.process(*args, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(small.lake.glob("models/*/checkpoints/checkpoint-3/trainer_state.json")):
        assert time.monotonic() < deadline, "no checkpoint was written"
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)  # only the run: its trainer must end by itself
    killed.communicate()

    again = small.process(*args)
    _, err = again.communicate(timeout=200)
    assert again.returncode == 0, err
    logs = [path.read_text() for path in small.lake.glob("models/*/train.log")]
    assert [log.count("resuming from checkpoint-") for log in sorted(logs)].count(1) == 1
    assert not list(small.lake.glob("models/*/checkpoints"))
    assert not list(small.lake.glob("models/*/data.parquet"))
    assert verify_lake(Lake(small.lake)).faults == []


@pytest.mark.slow
def test_a_trainer_that_fails_is_a_sentence_that_names_its_log(small, factory):
    # TRL accepts this value, but then drops every pair, so the training fails.
    small.write(train={"dpo": {**small.fields["train"]["dpo"], "max_steps": 2, "max_length": 1}})
    ended = factory("run", small.path, "--lake", small.lake)
    assert ended.code == 1
    assert "the trainer exited with code" in ended.err
    assert "train.log in the lake" in ended.err
    assert "pairs exceed train.dpo.max_length (1)" in ended.err


@pytest.mark.slow
def test_a_trained_model_keeps_the_tokenizer_and_the_template_of_its_parent(small):
    small.finish()
    survey = small.look()
    parent, trained = survey.models["M_0"], survey.models["M_1"]
    for name in ("tokenizer.json", "chat_template.jinja", "tokenizer_config.json"):
        assert (parent.path / name).read_bytes() == (trained.path / name).read_bytes()
    assert parent.tokenizer_digest == trained.tokenizer_digest
    files = {path.name for path in trained.path.iterdir()}
    assert "training_args.bin" not in files
    config = json.loads((trained.path / "config.json").read_text())
    assert config["use_cache"] is not False


@pytest.mark.slow
def test_configuration_files_beside_the_recipe_reach_the_trainer(small, monkeypatch):
    from factory.train import training

    (small.folder / "accelerate.yaml").write_text("compute_environment: LOCAL_MACHINE\n")
    (small.folder / "batches.json").write_text('{"split_batches": true}')
    small.fields["train"]["launcher"] = ["--config_file", "accelerate.yaml", "--num_processes", "1"]
    small.fields["train"]["dpo"]["accelerator_config"] = "batches.json"
    small.write()
    started = []

    def stand_in(folder, launcher, *_, **__):
        started.append((launcher, json.loads((folder / "job.json").read_text())))
        return "it is not run here"

    monkeypatch.setattr(training, "run_trainer", stand_in)
    with pytest.raises(TrainError):
        small.run()
    ((launcher, job),) = started
    assert launcher[:2] == ["--config_file", str(small.folder / "accelerate.yaml")]
    assert job["fields"]["accelerator_config"] == str(small.folder / "batches.json")

    def key():
        steps = small.look().steps.items()
        (found,) = (found for step, found in steps if (step.stage, step.name) == ("train", "F_0"))
        return found.folder.key

    held = key()
    (small.folder / "batches.json").write_text('{"split_batches": false}')
    assert key() != held


@pytest.mark.slow
def test_an_interrupted_training_is_estimated_from_its_own_steps(small, factory):
    steps = {"save_strategy": "steps", "save_steps": 1, "per_device_train_batch_size": 1}
    small.write(train={"dpo": {**small.fields["train"]["dpo"], **steps}})
    interrupted = small.process("run", str(small.path), "--lake", str(small.lake))
    deadline = time.monotonic() + 200
    while not list(small.lake.glob("models/*/checkpoints/checkpoint-3/trainer_state.json")):
        assert time.monotonic() < deadline, "no checkpoint was written"
        assert interrupted.poll() is None, interrupted.communicate()
        time.sleep(0.02)
    interrupted.send_signal(signal.SIGTERM)
    interrupted.communicate()
    (folder,) = Lake(small.lake).folders("models")
    (session,) = folder.events()
    assert session["trained"] >= 2
    assert 0 < session["training_seconds"] < session["seconds"]
    rows = factory("plan", small.path, "--lake", small.lake, "--json").json()["steps"]
    (row,) = (row for row in rows if row["step"] == "training of F_0 on D1")
    assert row["measured"] == "training of F_0 on D1, iteration 0"
    of_all = session["of"] * session["training_seconds"] / session["trained"]
    assert 0 < row["expected_seconds"] < of_all
