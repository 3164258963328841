"""Tests of training in the loop with the user's own command, or by hand with `factory adopt`."""

import json
import shutil
import sys

import pyarrow.parquet as pq
import pytest
import yaml
from toys import QUICKSTART, small_recipe

from factory.errors import HandOver, ModelError, RecipeError, TrainError
from factory.lake import Lake
from factory.models import Checkpoint, folder_digest, read_templates
from factory.train import check_trained_model
from factory.train.command import take_over

NUDGE = """
import json, shutil, sys
from pathlib import Path
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

pairs, parent, out = sys.argv[1:4]
rows = pq.read_table(pairs).to_pylist()
assert set(rows[0]) == {"prompt", "chosen", "rejected"}, rows[0]
assert rows[0]["chosen"][0]["role"] == "assistant"
out = Path(out)
out.mkdir()
weights = load_file(Path(parent) / "model.safetensors")
weights = {name: weight + 1e-3 * len(rows) for name, weight in weights.items()}
save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
shutil.copy(Path(parent) / "config.json", out)
print("nudged by", len(rows), "in", sys.prefix)
"""


def trained_by(command, folder):
    """Return a recipe with the quickstart's model, few prompts, and a training command."""
    toy = small_recipe(folder)
    (toy.folder / "nudge.py").write_text(NUDGE)
    toy.fields["loop"] = {"policy": "self_rewarding", "iterations": 1}
    toy.fields["train"] = {
        "with": "command",
        "command": f"{command} {{pairs}} {{parent}} {{out}}",
    }
    toy.fields.pop("probe", None)
    toy.write()
    return toy


@pytest.fixture(scope="module")
def paired(tmp_path_factory):
    """A lake with every row before the first training."""
    pytest.importorskip("torch")
    toy = trained_by("false", tmp_path_factory.mktemp("paired"))
    with pytest.raises(TrainError):
        toy.run()
    shutil.rmtree(toy.lake / "models")
    return toy.lake


@pytest.fixture
def small(paired, tmp_path):
    toy = trained_by(f"{sys.executable} nudge.py", tmp_path)
    shutil.copytree(paired, toy.lake)
    return toy


def test_a_command_of_ones_own_trains_in_the_loop(small):
    survey = small.run()
    (model,) = (survey.models["M_1"],)
    manifest = json.loads((model.folder / "manifest.json").read_text())
    assert manifest["n_pairs"] > 0
    assert f"nudged by {manifest['n_pairs']}" in (model.folder / "train.log").read_text()
    # The command wrote no tokenizer, so the parent's files are copied.
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (model.path / name).read_bytes() == (QUICKSTART / "m0" / name).read_bytes()
    left = {path.name for path in model.folder.iterdir()}
    assert {"manifest.json", "model", "train.log"} <= left
    assert not left & {"out", "data.parquet", "model.unfinished"}
    assert small.to_do() == set()
    # A changed script is a new training; a changed environment is not.
    (small.folder / "nudge.py").write_text(NUDGE + "# changed")
    assert small.to_do() == {"train"}
    (small.folder / "nudge.py").write_text(NUDGE)
    assert small.to_do("train.environment=venv") == set()


@pytest.mark.slow
def test_a_command_runs_in_the_environment_that_is_named(small):
    binaries = small.folder / "venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").symlink_to(sys.executable)
    script = f"#!/bin/sh\necho $VIRTUAL_ENV; exec {sys.executable} nudge.py $@\n"
    (binaries / "mytrainer").write_text(script)
    (binaries / "mytrainer").chmod(0o755)
    small.fields["train"]["command"] = "mytrainer {pairs} {parent} {out}"
    small.write()
    survey = small.run("train.environment=venv")
    log = (survey.models["M_1"].folder / "train.log").read_text()
    assert log.splitlines()[0] == str(small.folder / "venv")
    assert "nudged by" in log


@pytest.mark.parametrize(
    ("command", "error", "sentence"),
    [
        pytest.param(
            "false {pairs} {parent} {out}",
            TrainError,
            "train.command exited with code 1",
            marks=pytest.mark.slow,
        ),
        (
            "no-such-command {pairs} {parent} {out}",
            RecipeError,
            "no-such-command is missing or is not executable",
        ),
        pytest.param(
            "true {pairs} {parent} {out}",
            ModelError,
            "/out does not exist",
            marks=pytest.mark.slow,
        ),
        ("cp -r {parent} {out} {pairs}", TrainError, "exited with code 1: cp: "),
    ],
)
def test_a_command_that_leaves_no_model_is_told(small, command, error, sentence):
    small.fields["train"]["command"] = command
    small.write()
    with pytest.raises(error) as caught:
        small.run()
    assert sentence in str(caught.value)
    small.fields["train"]["command"] = f"{sys.executable} nudge.py {{pairs}} {{parent}} {{out}}"
    small.write()
    assert "M_1" in small.run().models


@pytest.mark.slow
def test_what_a_command_made_is_looked_at_again_and_not_made_again(small):
    wrong = NUDGE.replace(
        'print("nudged', '(out / "chat_template.jinja").write_text("mine")\nprint("nudged'
    )
    (small.folder / "nudge.py").write_text(wrong)
    with pytest.raises(
        ModelError, match="differs from the chat template of M_0: use the chat template"
    ):
        small.run()
    (template,) = small.lake.glob("models/*/out/chat_template.jinja")
    template.unlink()
    survey = small.run()
    log = (survey.models["M_1"].folder / "train.log").read_text()
    assert log.count("nudged by") == 1
    assert not template.parent.exists()


@pytest.mark.slow
def test_what_a_command_made_outlives_a_kill_before_its_manifest(small, monkeypatch):
    from factory.train import training

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            small.run()
    survey = small.run()
    assert (survey.models["M_1"].folder / "train.log").read_text().count("nudged by") == 1


def test_a_file_that_an_option_names_is_part_of_the_model(small):
    (small.folder / "mine.yaml").write_text("a: 1")
    small.fields["train"]["command"] += " --config=mine.yaml"
    small.write()
    small.run()
    (small.folder / "mine.yaml").write_text("a: 2")
    assert small.to_do() == {"train"}


def test_a_long_word_of_a_command_is_no_file(toy):
    command = f"sh -c '{'x' * 300} {{pairs}} {{parent}} {{out}}'"
    toy.fields["train"] = {"with": "command", "command": command}
    toy.write()
    toy.look()


def test_a_program_that_is_not_there_is_told_before_anything_is_sampled(toy):
    command = "no-such-program {pairs} {parent} {out}"
    toy.fields["train"] = {"with": "command", "command": command}
    toy.write()
    with pytest.raises(RecipeError, match="no-such-program is missing or is not executable"):
        toy.run()
    assert toy.shards("samples") == []


@pytest.mark.parametrize(
    ("train", "sentence"),
    [
        ({"with": "command"}, "train.command: the field is required if train.with is command: set"),
        (
            {"with": "manual", "command": "a {pairs} {parent} {out}"},
            "train.command: the field has no effect if train.with is manual",
        ),
        (
            {"with": "command", "command": "a {pairs} {out}"},
            "the command line lacks the placeholder {parent}",
        ),
        (
            {"with": "command", "command": "a '{pairs} {parent} {out}"},
            "the command line cannot be split into words",
        ),
    ],
)
def test_a_command_that_cannot_be_one_is_refused(toy, train, sentence):
    toy.fields["train"] = train
    toy.write()
    with pytest.raises(RecipeError) as caught:
        toy.recipe()
    assert sentence in str(caught.value)


# by hand


def trained(small, folder):
    """Write a model that a user might have trained on the pairs of the run."""
    from safetensors.torch import load_file, save_file

    (rows,) = small.lake.glob("models/*/data.parquet")
    folder.mkdir()
    weights = load_file(QUICKSTART / "m0" / "model.safetensors")
    moved = {
        name: weight + 1e-5 * pq.read_metadata(rows).num_rows for name, weight in weights.items()
    }
    save_file(moved, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(QUICKSTART / "m0" / "config.json", folder)


@pytest.mark.parametrize(
    ("policy", "role", "iteration"),
    [("future_guided", "future", 0), ("self_rewarding", "current", 1)],
)
@pytest.mark.slow
def test_a_person_trains_and_the_run_goes_on(small, factory, tmp_path, policy, role, iteration):
    small.fields["train"] = {"with": "manual"}
    small.fields["loop"] = {"policy": policy, "iterations": 1}
    small.path.write_text(yaml.safe_dump(small.fields))
    at = ("--lake", small.lake)
    stopped = factory("run", small.path, *at)
    assert stopped.code == 3
    assert f"--iteration {iteration} --role {role}" in stopped.err
    assert str(QUICKSTART / "m0") in stopped.err

    trained(small, tmp_path / "mine")
    mine = ("adopt", small.path, tmp_path / "mine", *at)
    adopted = factory(*mine, "--iteration", iteration, "--role", role)
    assert (adopted.code, adopted.out.startswith("Added ")) == (0, True), adopted.err
    again = factory(*mine, "--iteration", iteration, "--role", role)
    assert again.code == 2
    assert "the lake already has the model" in again.err
    ended = factory("run", small.path, *at)
    if ended.code == 3:  # M_1 trains on other pairs than F_0
        assert "--iteration 1 --role current" in ended.err
    else:
        assert ended.code == 0
        assert small.to_do() == set()


def test_a_model_within_the_lake_is_not_taken(small, factory):
    small.fields["train"] = {"with": "manual"}
    small.path.write_text(yaml.safe_dump(small.fields))
    at = ("--lake", small.lake)
    assert factory("run", small.path, *at).code == 3
    (rows,) = small.lake.glob("models/*/data.parquet")
    shutil.copytree(QUICKSTART / "m0", rows.parent / "model")
    mine = ("adopt", small.path, rows.parent / "model", *at)
    refused = factory(*mine, "--iteration", 1, "--role", "current")
    assert (refused.code, "give a model folder outside the lake" in refused.err) == (
        2,
        True,
    ), refused.err
    assert (rows.parent / "model" / "model.safetensors").exists()


def test_a_model_that_the_loop_does_not_wait_for_yet_is_not_taken(toy, factory):
    toy.fields["train"] = {"with": "manual"}
    toy.write()
    words = ("--role", "current", "--iteration", 1, "--lake", toy.lake)
    factory("run", toy.path, "--lake", toy.lake)
    early = factory("adopt", toy.path, toy.folder / "m0", *words)
    assert (early.code, "M_1 waits for" in early.err) == (2, True), early.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("--role", "past", "--iteration", "0"),
            "use --role future, or --role current with --iteration 1",
        ),
        (("--role", "current", "--iteration", "0"), "in iteration 0, the current model is M_0"),
        (
            ("--role", "future", "--iteration", "7"),
            "the loop does not train the model F_7: choose one of",
        ),
    ],
)
def test_a_role_that_is_none_is_refused(toy, factory, words, sentence):
    toy.fields["train"] = {"with": "manual"}
    toy.write()
    ended = factory("adopt", toy.path, toy.folder / "m0", *words, "--lake", toy.lake)
    assert (ended.code, sentence in ended.err) == (2, True), ended.err


def test_a_recipe_that_does_not_train_by_hand_adopts_nothing(toy, factory):
    words = ("--role", "future", "--iteration", 0, "--lake", toy.lake)
    ended = factory("adopt", toy.path, toy.folder / "m0", *words)
    assert ended.code == 2
    assert "train.with: got scripted, expected manual" in ended.err


M0 = Checkpoint("M_0", QUICKSTART / "m0", "digest", "float32")


def changed_config(folder, **fields):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def other_tokenizer(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = []
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def padded_tokenizer(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["truncation"] = {"max_length": 7}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, indent=3))


def fewer_weights(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "layers.0" in name)
    weights.pop(name)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: None, "contains M_0 unchanged: provide a model that was trained"),
        (
            lambda folder: changed_config(folder, hidden_size=7),
            "sets hidden_size to 7, but M_0 has 128",
        ),
        (lambda folder: (folder / "config.json").unlink(), "contains no config.json"),
        (no_weights, "contains no *.safetensors files: save the model as safetensors"),
        (fewer_weights, "lacks the weight model.layers.0"),
        (other_tokenizer, "learned differs from the tokenizer of M_0 in the field added_tokens"),
        (
            lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}"),
            "learned differs from the chat template of M_0: use the chat template",
        ),
        (shutil.rmtree, "learned does not exist: write the trained model"),
    ],
)
def test_a_model_that_cannot_be_the_one_is_refused(tmp_path, change, sentence):
    pytest.importorskip("torch")
    folder = tmp_path / "learned"
    shutil.copytree(QUICKSTART / "m0", folder)
    change(folder)
    with pytest.raises(ModelError) as caught:
        check_trained_model(folder, M0, M0, False, "future")
    assert sentence in str(caught.value)


def test_how_a_tokenizer_pads_is_no_other_tokenizer(tmp_path):
    folder = tmp_path / "learned"
    shutil.copytree(QUICKSTART / "m0", folder)
    padded_tokenizer(folder)
    check_trained_model(folder, M0, M0, False, "future")


def test_whole_weights_are_no_adapter(tmp_path):
    with pytest.raises(ModelError) as caught:
        check_trained_model(QUICKSTART / "m0", M0, M0, True, "future")
    assert "contains no adapter_config.json" in str(caught.value)


def test_hand_is_still_accepted_for_manual_and_has_the_same_key(toy):
    keys = set()
    for name in ("hand", "manual"):
        toy.write(train={"with": name})
        assert toy.recipe().train.with_ == "manual"
        with pytest.raises(HandOver):
            toy.run()
        (folder,) = toy.lake.glob("models/*")
        keys.add(folder.name)
    assert len(keys) == 1
    assert json.loads((folder / "settings.json").read_text())["with"] == "hand"


def test_templates_in_a_folder_of_their_own_are_taken_over(tmp_path):
    parent = shutil.copytree(QUICKSTART / "m0", tmp_path / "m0")
    templates = parent / "additional_chat_templates"
    templates.mkdir()
    (templates / "tool_use.jinja").write_text("{{ tools }}")
    trained = tmp_path / "trained"
    trained.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(parent / name, trained / name)
    folder = Lake(tmp_path / "lake").folder("models", "a" * 24)
    folder.path.mkdir(parents=True)
    take_over(trained, Checkpoint("M_0", parent, "", "float32"), folder)
    assert read_templates(folder.path / "model", "").texts["tool_use"] == "{{ tools }}"
    assert folder_digest(folder.path / "model", "", {}) == folder_digest(parent, "", {})
