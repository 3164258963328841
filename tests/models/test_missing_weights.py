"""Tests that no step uses weights that transformers would fill with random numbers."""

import json
import shutil
from contextlib import nullcontext

import pytest
from toys import QUICKSTART

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from factory.engines.transformers import open_engine  # noqa: E402
from factory.errors import ModelError  # noqa: E402
from factory.models import Checkpoint, check_all_weights  # noqa: E402
from factory.recipe import TransformersEngine  # noqa: E402
from factory.train.accept import check_trained_model  # noqa: E402

M0 = Checkpoint("M_0", QUICKSTART / "m0", "digest", "float32")


def with_weights(change):
    def damage(folder):
        file = folder / "model.safetensors"
        weights = load_file(file)
        change(weights)
        save_file(weights, file, {"format": "pt"})

    return damage


def rename_one(weights):
    name = next(name for name in weights if "up_proj" in name)
    weights[name.replace("up_proj", "up_project")] = weights.pop(name)


def drop_a_layer(weights):
    for name in [name for name in weights if ".layers.0." in name]:
        del weights[name]


def more_layers(folder):
    file = folder / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"num_hidden_layers": config["num_hidden_layers"] + 1}))


def untie(folder):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tie_word_embeddings": False}))
    with_weights(lambda weights: weights.pop("lm_head.weight", None))(folder)


DAMAGES = {
    "a renamed weight": with_weights(rename_one),
    "a lost layer": with_weights(drop_a_layer),
    "more layers in the config": more_layers,
    "untied output weights": untie,
}


@pytest.fixture(params=DAMAGES)
def damaged(request, tmp_path):
    folder = shutil.copytree(QUICKSTART / "m0", tmp_path / "m0")
    DAMAGES[request.param](folder)
    return folder


def test_the_check_reads_no_weights_and_finds_what_is_missing(damaged, capfd):
    with pytest.raises(ModelError, match=r"model\.path: m0 lacks the weights of .*random"):
        check_all_weights(damaged, "model.path")
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


def test_a_whole_model_passes():
    check_all_weights(QUICKSTART / "m0", "model.path")


def test_the_engine_refuses_them(damaged):
    model = Checkpoint("M_0", damaged, "", "float32")
    refused = pytest.raises(ModelError, match=r"model\.path: m0 lacks the weights of")
    with refused, open_engine(TransformersEngine(), [model]):
        pass


def test_a_run_with_a_training_refuses_them_before_any_work(damaged, small, factory):
    small.write(model=str(damaged))
    ended = factory("run", small.path, "--lake", small.lake)
    assert ended.code == 2, ended.err
    assert "model.path: m0 lacks the weights of" in ended.err
    assert not list(small.lake.glob("samples/*/*.parquet"))


@pytest.mark.parametrize(
    ("change", "is_refused"), [(untie, True), (lambda folder: None, False)], ids=["untied", "tied"]
)
def test_an_adopted_model_may_lack_output_weights_only_if_they_are_tied(
    tmp_path, change, is_refused
):
    folder = shutil.copytree(QUICKSTART / "m0", tmp_path / "trained")

    def train(weights):
        weights["model.norm.weight"] += 1
        weights.pop("lm_head.weight", None)

    with_weights(train)(folder)
    change(folder)
    refused = pytest.raises(ModelError, match="trained lacks the weights of lm_head")
    with refused if is_refused else nullcontext():
        check_trained_model(folder, M0, M0, False, "future")


def test_a_config_that_transformers_cannot_read_is_refused_with_a_sentence(tmp_path):
    folder = shutil.copytree(QUICKSTART / "m0", tmp_path / "m0")
    file = folder / "config.json"
    for wrong in ({"model_type": "no_such_model"}, {"hidden_act": "no_such_function"}):
        config = json.loads((QUICKSTART / "m0" / "config.json").read_text()) | wrong
        file.write_text(json.dumps(config))
        with pytest.raises(ModelError, match=r"model\.path: transformers cannot load m0"):
            check_all_weights(folder, "model.path")
