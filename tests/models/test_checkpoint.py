"""Tests of model digests, token counts, and context lengths."""

import json
import shutil

import pytest
from toys import QUICKSTART

from factory.errors import ModelError
from factory.models import (
    Checkpoint,
    check_prompt_shown,
    check_turn_end,
    control_tokens,
    declared_dtype,
    fast_tokenizer,
    folder_digest,
    token_counter,
)


def test_tokens_are_counted_as_the_tokenizer_of_transformers_does():
    transformers = pytest.importorskip("transformers")
    model = Checkpoint("M_0", QUICKSTART / "m0", "digest", "float32")
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.path)
    count = token_counter(model)
    for text in ("Copy the letters of stone.", "q", "What else? {x}", "é"):
        messages = [{"role": "user", "content": text}]
        encoded = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=True
        )
        assert count(messages) == len(encoded["input_ids"])


def test_a_digest_covers_what_decides_the_answers_and_nothing_else(tmp_path):
    folder = shutil.copytree(QUICKSTART / "m0", tmp_path / "m0")
    digest = folder_digest(folder, "float32", {})
    (folder / "README.md").write_text("A model.")
    assert folder_digest(folder, "float32", {}) == digest
    assert folder_digest(folder, "bfloat16", {}) != digest
    for name in ("chat_template.jinja", "generation_config.json", "model.safetensors"):
        held = (folder / name).read_bytes()
        (folder / name).write_bytes(held + b" ")
        assert folder_digest(folder, "float32", {}) != digest, name
        (folder / name).write_bytes(held)
    assert folder_digest(folder, "float32", {}) == digest


def test_unchanged_files_are_hashed_once(tmp_path):
    folder = shutil.copytree(QUICKSTART / "m0", tmp_path / "m0")
    known: dict[str, str] = {}
    digest = folder_digest(folder, "float32", known)
    assert len(known) == 6
    assert str(tmp_path) not in str(known)
    known.update(dict.fromkeys(known, "0" * 64))  # cached hashes are trusted
    assert folder_digest(folder, "float32", known) != digest


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 64}, 64),
        ({"n_positions": 64}, 64),
        ({"max_seq_len": 64}, 64),
        ({"seq_length": 64}, 64),
        ({"text_config": {"max_position_embeddings": 64}}, 64),
        ({"text_config": {"max_position_embeddings": 32}, "max_position_embeddings": 64}, 64),
        ({"max_position_embeddings": None, "n_positions": 64}, 64),
        ({}, None),
    ],
)
def test_the_context_length_of_every_family_is_found(tmp_path, config, length):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert Checkpoint("M_0", tmp_path, "", "float32").context_length == length


@pytest.mark.parametrize(
    ("files", "stops"),
    [
        ({"config.json": {"eos_token_id": 1}}, [1]),
        ({"config.json": {"text_config": {"eos_token_id": [1, 2]}}}, [1, 2]),
        (
            {"config.json": {"eos_token_id": 1}, "generation_config.json": {"eos_token_id": [3]}},
            [3],
        ),
        ({"config.json": {}}, []),
    ],
)
def test_the_stop_tokens_of_every_family_are_found(tmp_path, files, stops):
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert Checkpoint("M_0", tmp_path, "", "float32").stop_tokens == stops


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer.json": {"added_tokens": [{"content": "<a>", "special": True}]}},
        {
            "tokenizer_config.json": {
                "added_tokens_decoder": {"7": {"content": "<a>", "special": True}}
            }
        },
    ],
)
def test_control_tokens_are_found_with_and_without_a_tokenizer_json(tmp_path, files):
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert control_tokens(Checkpoint("M_0", tmp_path, "", "float32")) == ("<a>",)


def model_with(folder, **files):
    """Create a model folder with JSON files, such as `config={"dtype": "bfloat16"}`."""
    folder.mkdir()
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return Checkpoint("M_0", folder, "digest", "float32")


def test_added_tokens_of_the_template_and_stop_tokens_are_control_tokens(tmp_path):
    texts = ["<bos>", "<turn>", "<end>", "\n", "<b>"]
    added = [
        {"id": number, "content": text, "special": text == "<bos>"}
        for number, text in enumerate(texts)
    ]
    model = model_with(
        tmp_path / "model", tokenizer={"added_tokens": added}, config={"eos_token_id": [2]}
    )
    template = "{% for m in messages %}<turn>{{ m.content }}\n{% endfor %}{# <b> #}"
    (model.path / "chat_template.jinja").write_text(template)
    assert model.special_tokens == ("<bos>",)
    assert control_tokens(model) == ("<bos>", "<turn>", "<end>")


@pytest.mark.parametrize(
    ("generation", "config", "stops"),
    [
        ({"eos_token_id": None}, {"eos_token_id": [1, 7]}, [1, 7]),
        ({}, {"eos_token_id": 2}, [2]),
        ({"eos_token_id": 3}, {"eos_token_id": 2}, [3]),
        ({"eos_token_id": []}, {"eos_token_id": 2}, []),
        ({}, {"text_config": {"eos_token_id": 4}}, [4]),
        ({}, {}, []),
    ],
)
def test_stop_tokens_come_from_the_first_file_that_has_them(tmp_path, generation, config, stops):
    model = model_with(tmp_path / "model", generation_config=generation, config=config)
    assert model.stop_tokens == stops


def test_the_dtype_of_a_language_model_can_be_in_its_text_config(tmp_path):
    model = model_with(tmp_path / "model", config={"text_config": {"dtype": "bfloat16"}})
    assert declared_dtype(model.path, "model") == "bfloat16"


def test_white_space_among_the_added_tokens_does_not_end_a_turn(tmp_path):
    added = [
        {"id": 1, "content": "<eos>", "special": True},
        {"id": 2, "content": "\n", "special": False},
    ]
    model = model_with(
        tmp_path / "model",
        tokenizer={"added_tokens": added},
        tokenizer_config={"eos_token": "<eos>"},
    )
    template = "{% for m in messages %}{{ m.content }}{{ '\\n' }}{{ eos_token }}{% endfor %}"
    (model.path / "chat_template.jinja").write_text(template)
    check_turn_end(model)


@pytest.mark.parametrize(
    ("template", "is_shown"),
    [
        ("", False),
        ("<|user|>", False),
        ("{{ messages[0].role }}", False),
        ("{{ messages[0].text }}", False),
        ("{{ messages[0].content }}", True),
        ("{{ messages | tojson }}", True),
        ("{{ raise_exception('no system message') }}", True),
    ],
)
def test_a_chat_template_that_leaves_out_the_prompt_is_refused(tmp_path, template, is_shown):
    model = model_with(tmp_path / "model")
    (model.path / "chat_template.jinja").write_text(template)
    if is_shown:
        check_prompt_shown(model)
    else:
        with pytest.raises(ModelError, match="does not print the user's message"):
            check_prompt_shown(model)


def test_a_tokenizer_without_tokenizer_json_has_the_same_tokens(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = {"tokenizer_class": "GPT2Tokenizer"}
    model = model_with(tmp_path / "model", tokenizer_config=config)
    vocabulary = {text: number for number, text in enumerate(["a", "b", "ab", "<|endoftext|>"])}
    (model.path / "vocab.json").write_text(json.dumps(vocabulary))
    (model.path / "merges.txt").write_text("#version: 0.2\na b\n")
    fast = fast_tokenizer(model)
    slow = transformers.AutoTokenizer.from_pretrained(model.path)
    for text in ("ab", "ba", "abab"):
        assert fast.encode(text).ids == slow.encode(text)


def test_a_tokenizer_that_transformers_cannot_load_is_one_sentence(tmp_path):
    pytest.importorskip("transformers")
    model = model_with(tmp_path / "model", tokenizer_config={"tokenizer_class": "LlamaTokenizer"})
    (model.path / "tokenizer.model").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="transformers cannot load the tokenizer of model"):
        fast_tokenizer(model)
