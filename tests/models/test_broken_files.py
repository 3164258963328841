"""Tests that errors about broken model files name the recipe field and exit with code 2."""

import json
import shutil

import pytest
from toys import QUICKSTART

from factory.errors import ModelError
from factory.models import Checkpoint, check_adapter, read_json, read_tensors, token_counter

SECTIONS = ["model", "judge.model", "judges.other.model", "judge.reward_model"]


@pytest.fixture
def broken(small, monkeypatch):
    """Return a function that breaks a file of a model, such as ("judge.model", "config.json")."""
    monkeypatch.setattr("factory.plan.doctor.find_gpus", list)

    def call(section, name):
        folder = small.folder / "broken"
        shutil.copytree(QUICKSTART / "m0", folder)
        place = {"path": str(folder)}
        if name == "adapter_config.json":
            place = {"path": str(QUICKSTART / "m0"), "adapter": str(folder)}
        elif name == "tokenizer_config.json":  # read for the chat template
            (folder / "chat_template.jinja").unlink()
        (folder / name).write_text("{")
        fields = small.fields
        match section.split("."):
            case ["model"]:
                fields["model"] = place
            case ["judge", kind]:
                fields["judge"] = {"rubric": fields["judge"]["rubric"], kind: place}
                if kind == "reward_model":
                    del fields["judge"]["rubric"]
            case ["judges", judge, kind]:
                fields["judges"] = {judge: {"rubric": fields["judge"]["rubric"], kind: place}}
        small.write()
        return small

    return call


FILES = {
    "config.json": "path",
    "generation_config.json": "path",
    "tokenizer_config.json": "path",
    "adapter_config.json": "adapter",
}


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("name", FILES)
def test_a_plan_names_the_field_of_a_broken_file(broken, factory, section, name):
    toy = broken(section, name)
    ended = factory("plan", toy.path, "--lake", toy.lake)
    assert ended.code == 2, ended.err
    assert f"{section}.{FILES[name]}: {name} cannot be read as JSON" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "adapter_config.json"])
def test_the_doctor_names_the_field_of_a_broken_file(broken, factory, section, name):
    toy = broken(section, name)
    ended = factory("doctor", toy.path, "--lake", toy.lake)
    assert ended.code == 2, ended.err
    assert f"{section}.{FILES[name]}: {name} cannot be read as JSON" in ended.err


@pytest.mark.parametrize("section", SECTIONS)
def test_weights_that_were_cut_short_name_the_field(broken, factory, section):
    toy = broken(section, "model.safetensors")
    ended = factory("doctor", toy.path, "--lake", toy.lake)
    assert ended.code == 2, ended.err
    assert f"{section}.path: model.safetensors is not a complete safetensors file" in ended.err


@pytest.mark.parametrize("section", SECTIONS)
def test_a_folder_that_is_not_there_names_the_field(small, factory, broken, section):
    toy = broken(section, "config.json")
    shutil.rmtree(toy.folder / "broken")
    said = f"{section}.path: {toy.folder / 'broken'} is not a folder"
    ended = factory("run", toy.path, "--lake", toy.lake)
    assert ended.code == 2
    assert said in ended.err
    assert said in factory("plan", toy.path, "--lake", toy.lake).out


def test_an_error_carries_the_field_apart_from_the_fault(tmp_path):
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(ModelError) as caught:
        read_json(tmp_path / "config.json", "judges.x.model.path")
    assert caught.value.field == "judges.x.model.path"
    assert caught.value.fault.startswith("config.json cannot be read as JSON")
    assert read_json(tmp_path / "missing.json", "model.path") == {}


def test_a_header_that_is_not_json_is_an_incomplete_file(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes((4).to_bytes(8, "little") + b"{]}}")
    with pytest.raises(ModelError, match=r"model\.path: model\.safetensors is not a complete"):
        read_tensors(file, "model.path")


def test_an_adapter_s_error_names_the_field_of_the_folder_at_fault(tmp_path):
    base = shutil.copytree(QUICKSTART / "m0", tmp_path / "base")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    with pytest.raises(ModelError, match=r"judge\.model\.adapter: .* is not a LoRA adapter"):
        check_adapter(adapter, base, "judge.model.adapter", "judge.model.path")
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    shutil.copy(base / "model.safetensors", adapter / "adapter_model.safetensors")
    (base / "model.safetensors").write_bytes(b"\xff" * 8)
    with pytest.raises(ModelError, match=r"judge\.model\.path: model\.safetensors is not a"):
        check_adapter(adapter, base, "judge.model.adapter", "judge.model.path")


def test_a_broken_tokenizer_of_a_judge_names_the_judge(tmp_path):
    folder = shutil.copytree(QUICKSTART / "m0", tmp_path / "m0")
    (folder / "tokenizer_config.json").write_text("{")
    judge = Checkpoint("judge", folder, "digest", "float32", field="judge.model.path")
    with pytest.raises(ModelError, match=r"judge\.model\.path: tokenizer_config\.json cannot"):
        token_counter(judge)
