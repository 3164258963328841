"""Tests that errors about broken model files name the recipe field and exit with code 2."""

import json
import os
import shutil

import numpy as np
import pytest
from toys import QUICKSTART

from factory.errors import ModelError
from factory.models import (
    Checkpoint,
    check_adapter,
    check_model,
    read_json,
    read_tensors,
    token_counter,
)

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


WRONG = {
    "config.json": [
        {"max_position_embeddings": "4096"},
        {"max_position_embeddings": 1.5},
        {"n_positions": True},
        {"dtype": 16},
        {"dtype": "bfloat"},
        {"torch_dtype": ["float32"]},
        {"architectures": "LlamaForCausalLM"},
        {"eos_token_id": "</s>"},
        {"eos_token_id": [1, "2"]},
        {"text_config": 3},
        {"text_config": {"max_position_embeddings": {}}},
        {"id2label": [1]},
        {"vocab_size": None, "num_labels": "one"},
        {"vocab_size": 10**30},
        {"eos_token_id": [10**30]},
        {"max_position_embeddings": 10**30},
        {"num_hidden_layers": "two"},
        {"hidden_size": -4},
        {"quantization_config": "x"},
        {"rope_scaling": [1]},
        {"model_type": "\ud800"},
    ],
    "generation_config.json": [
        {"eos_token_id": {"a": 1}},
        {"top_k": "50"},
        {"top_k": 1.5},
        {"min_p": "0.1"},
        {"repetition_penalty": [1]},
        {"temperature": "hot"},
        {"top_p": float("nan")},
        {"top_k": 10**30},
        {"pad_token_id": "p"},
    ],
    "tokenizer_config.json": [
        {"chat_template": 3},
        {"chat_template": [{"name": "default"}]},
        {"chat_template": [3]},
        {"bos_token": 1},
        {"bos_token": {"text": "<s>"}},
        {"added_tokens_decoder": [1]},
        {"added_tokens_decoder": {"1": "<s>", "2": 3}},
        {"added_tokens_decoder": {"x": "<s>"}},
        {"added_tokens_decoder": {"9" * 5000: "<s>"}},
        {"sep_token": [1]},
        {"model_max_length": "x"},
        {"tokenizer_class": 5},
    ],
    "tokenizer.json": [{"added_tokens": {}}, {"added_tokens": ["<s>"]}, {"added_tokens": [{}]}],
    "adapter_config.json": [{"r": "16"}, {"rank_pattern": [8]}, {"peft_type": 1}],
    "model.safetensors.index.json": [{"weight_map": []}, {"weight_map": {"a": 1}}]
    + [{"weight_map": {"a": name}} for name in ("../x", "/x", "a\0", "x" * 300, "")],
    "special_tokens_map.json": [{"eos_token": 3}],
}


@pytest.mark.parametrize(
    ("name", "content"), [(name, each) for name, wrong in WRONG.items() for each in wrong]
)
def test_a_value_of_the_wrong_type_is_refused_with_a_sentence(tmp_path, name, content):
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ModelError, match=rf"model\.path: {name} sets .* expected a"):
        read_json(tmp_path / name, "model.path")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"3", b"\xff{}", b"\xef\xbb\xbf{}", b"[" * 100_000, b'{"a":' * 100_000],
)
@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_not_a_json_object_is_refused_with_a_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"model\.path: {name} (cannot be read|contains)"):
        read_json(tmp_path / name, "model.path")


def weights(header, n_bytes=8):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(n_bytes)


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def test_a_complete_file_is_read(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(weights({"__metadata__": {"format": "pt"}, "a": TENSOR}))
    (tensor,) = read_tensors(file, "model.path")
    assert (tensor.name, tensor.shape, tensor.stored) == ("a", [2], 8)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x01",
        b"\xff" * 8,
        b"\xff" * 100,
        b"version https://git-lfs.github.com/spec/v1",
        weights(b"{]}}"),
        weights([1]),
        weights({"a": 3}),
        weights({"a": {}}),
        weights({"a": TENSOR}, n_bytes=7),
        weights({"a": TENSOR}, n_bytes=9),
        weights({"a": TENSOR}, n_bytes=0),
        weights({"a": TENSOR, "b": {**TENSOR, "data_offsets": [8, 16]}}),
        weights({"a": {**TENSOR, "shape": 2}}),
        weights({"a": {**TENSOR, "shape": ["2"]}}),
        weights({"a": {**TENSOR, "shape": [-2]}}),
        weights({"a": {**TENSOR, "data_offsets": [8, 0]}}),
        weights({"a": {**TENSOR, "data_offsets": [0, "8"]}}),
        weights({"a": {**TENSOR, "data_offsets": [8]}}),
        weights({"a": {**TENSOR, "data_offsets": None}}),
        weights({"a": {**TENSOR, "dtype": ["F32"]}}),
        weights({"a": {**TENSOR, "dtype": "F99"}}),
        weights({"a": {**TENSOR, "dtype": "F64"}}),
        weights({"a": {**TENSOR, "shape": [3]}}),
        weights({"a": {**TENSOR, "shape": [10**30]}}),
        weights({"a": {**TENSOR, "data_offsets": [0, 10**30]}}),
        weights({"a": TENSOR, "b": {**TENSOR, "data_offsets": [0, 8]}}),
        weights({"a": {**TENSOR, "data_offsets": [4, 12]}}, n_bytes=12),
        weights({"a": TENSOR, "__metadata__": "x"}),
        weights({"a": TENSOR, "__metadata__": {"x": {}}}),
        weights(b'{"\\ud800": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'),
        weights(b"[" * 100_000),
    ],
)
def test_damaged_or_incomplete_weights_are_refused_with_a_sentence(tmp_path, content):
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.path: model\.safetensors is not a complete"):
        read_tensors(file, "model.path")


@pytest.mark.parametrize("command", ["plan", "doctor", "run"])
@pytest.mark.parametrize("section", ["model", "judge.model"])
def test_a_half_downloaded_model_is_refused_before_any_work(broken, factory, section, command):
    toy = broken(section, "config.json")
    folder = toy.folder / "broken"
    shutil.copytree(QUICKSTART / "m0", folder, dirs_exist_ok=True)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    ended = factory(command, toy.path, "--lake", toy.lake)
    assert ended.code == 2, ended.err
    assert f"{section}.path: model.safetensors is not a complete safetensors file" in ended.err
    assert not list(toy.lake.glob("samples/*/*.parquet"))


def lack_config(folder):
    (folder / "config.json").unlink()


def be_an_adapter(folder):
    (folder / "adapter_config.json").write_text("{}")


def lack_a_shard(folder):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def lack_a_shard_of_bin(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model-00001-of-00002.bin")
    index = {"weight_map": {"a": "pytorch_model-00002-of-00002.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def lack_two_shards_and_the_index(folder):
    (folder / "model.safetensors").rename(folder / "model-00002-of-00003.safetensors")


def have_empty_weights(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").touch()


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lack_config, "has no config.json"),
        (be_an_adapter, "is a LoRA adapter, not a full model: set model.adapter to this folder"),
        (lack_a_shard, "lacks 1 of its weight files, such as model-00001-of-00002.safetensors"),
        (lack_a_shard_of_bin, "lacks 1 of its weight files, such as pytorch_model-00002-of"),
        (
            lack_two_shards_and_the_index,
            "lacks 2 of its weight files, such as model-00001-of",
        ),
        (have_empty_weights, "pytorch_model.bin is empty"),
    ],
)
def test_an_incomplete_folder_is_refused_with_a_sentence(tmp_path, damage, fault):
    folder = shutil.copytree(QUICKSTART / "m0", tmp_path / "m0")
    damage(folder)
    with pytest.raises(ModelError) as caught:
        check_model("m0", folder, "model")
    assert fault in str(caught.value)


def be_a_fifo(path):
    os.mkfifo(path)


def be_a_folder(path):
    path.mkdir()


def be_a_loop(path):
    path.symlink_to(path.name)


READ = [
    *("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"),
    *("model.safetensors", "chat_template.jinja", "special_tokens_map.json"),
]


@pytest.mark.parametrize(
    ("name", "become"),
    [(name, become) for name in READ for become in (be_a_fifo, be_a_folder)]
    + [(name, be_a_loop) for name in ("config.json", "tokenizer.json", "model.safetensors")],
)
def test_what_is_not_a_file_is_never_read(tmp_path, name, become):
    folder = shutil.copytree(QUICKSTART / "m0", tmp_path / "m0")
    (folder / name).unlink(missing_ok=True)
    become(folder / name)
    with pytest.raises(ModelError, match=rf"{name}|no config\.json"):
        check_model("m0", folder, "model")


@pytest.mark.parametrize(
    "names", [["training_args.bin", "optimizer.pt"], ["pytorch_model_fsdp.bin"], ["model.gguf"]]
)
def test_weights_in_another_format_are_named(tmp_path, names):
    folder = shutil.copytree(QUICKSTART / "m0", tmp_path / "m0")
    (folder / "model.safetensors").unlink()
    for name in names:
        (folder / name).write_bytes(b"x")
    with pytest.raises(ModelError, match=rf"only {names[0]}: save the model with save_pretrained"):
        check_model("m0", folder, "model")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", b"{}"),
        ("chat_template.jinja", b"{% for %}"),
        ("chat_template.jinja", b"{{ " + b"9" * 5000 + b" }}"),
        ("generation_config.json", b'{"eos_token_id": "x"}'),
    ],
)
def test_the_doctor_refuses_what_a_plan_refuses(small, factory, tmp_path, name, content):
    folder = shutil.copytree(QUICKSTART / "m0", tmp_path / "m0")
    (folder / name).write_bytes(content)
    small.write(model=str(folder))
    said = [factory(each, small.path, "--lake", small.lake) for each in ("doctor", "plan")]
    assert [ended.code for ended in said] == [2, 2]
    assert said[0].err == said[1].err


def write_adapter(folder, names):
    from safetensors.numpy import save_file

    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    save_file({n: np.zeros((2, 2), "float32") for n in names}, folder / "adapter_model.safetensors")


LAYER = "base_model.model.model.layers.0.mlp.up_proj"


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["something.else"],
        [f"{LAYER}.lora_A.weight"],
        [f"{LAYER}.lora_B.weight"],
        [f"{LAYER}.lora_A.weight", f"{LAYER}.lora_C.weight"],
    ],
)
def test_an_adapter_that_lacks_weights_is_refused(tmp_path, names):
    write_adapter(tmp_path, names)
    with pytest.raises(ModelError, match="is not a complete LoRA adapter"):
        check_adapter(tmp_path, QUICKSTART / "m0", "model.adapter", "model.path")


def test_an_adapter_s_error_names_the_field_of_the_folder_at_fault(tmp_path):
    base = shutil.copytree(QUICKSTART / "m0", tmp_path / "base")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    with pytest.raises(ModelError, match=r"judge\.model\.adapter: .* is not a LoRA adapter"):
        check_adapter(adapter, base, "judge.model.adapter", "judge.model.path")
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    write_adapter(adapter, [f"{LAYER}.lora_A.weight", f"{LAYER}.lora_B.weight"])
    (base / "model.safetensors").write_bytes(b"\xff" * 8)
    with pytest.raises(ModelError, match=r"judge\.model\.path: model\.safetensors is not a"):
        check_adapter(adapter, base, "judge.model.adapter", "judge.model.path")


def test_a_broken_tokenizer_of_a_judge_names_the_judge(tmp_path):
    folder = shutil.copytree(QUICKSTART / "m0", tmp_path / "m0")
    (folder / "tokenizer_config.json").write_text("{")
    judge = Checkpoint("judge", folder, "digest", "float32", field="judge.model.path")
    with pytest.raises(ModelError, match=r"judge\.model\.path: tokenizer_config\.json cannot"):
        token_counter(judge)
