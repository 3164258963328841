"""Tests of model digests, token counts, and context lengths."""

import json
import shutil

import pytest
from toys import QUICKSTART

from factory.models import Checkpoint, folder_digest, token_counter


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
    assert Checkpoint("M_0", tmp_path, "", "float32").control_tokens == ("<a>",)
