"""Tests of the zoo's tokenizers and chat templates: token counts, BOS tokens, and stop tokens."""

import json
import shutil

import pytest

transformers = pytest.importorskip("transformers")

from tokenizers import Tokenizer  # noqa: E402
from zoo.families import FAMILIES  # noqa: E402
from zoo.talk import ASK, THOUGHT, TRICKY, FixedClock, conversations, prompt_ids  # noqa: E402

from factory.errors import ModelError  # noqa: E402
from factory.models import (  # noqa: E402
    Checkpoint,
    check_turn_end,
    control_tokens,
    text_counter,
    token_counter,
)

each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


@pytest.fixture(autouse=True)
def fixed_clock(monkeypatch):
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", FixedClock)


@pytest.fixture
def model(zoo, family):
    return Checkpoint("M_0", zoo(family), family.name, family.dtype or "float32")


@pytest.fixture
def tokenizer(model):
    return transformers.AutoTokenizer.from_pretrained(model.path)


@each_family
def test_prompts_are_counted_as_transformers_tokenizes_them(family, model, tokenizer):
    count = token_counter(model)
    for messages in conversations(family).values():
        assert count(messages) == len(prompt_ids(tokenizer, messages))


@each_family
def test_answers_are_counted_with_their_end(model, tokenizer):
    for text in ("5", TRICKY.strip()):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert text_counter(model)(text) == len(ids) + 1


@each_family
def test_truncation_and_padding_saved_with_a_tokenizer_change_no_count(
    family, model, tokenizer, tmp_path
):
    file = Tokenizer.from_file(str(model.path / "tokenizer.json"))
    file.enable_truncation(4)
    file.enable_padding(length=900)
    folder = shutil.copytree(model.path, tmp_path / "model")
    file.save(str(folder / "tokenizer.json"))
    saved = Checkpoint("M_0", folder, "digest", "float32")
    assert token_counter(saved)(ASK) == token_counter(model)(ASK)
    assert text_counter(saved)(TRICKY) == text_counter(model)(TRICKY)


@each_family
def test_a_prompt_has_one_bos_token_if_the_template_prints_it(family, tokenizer):
    printed = "{{- bos_token }}" in family.template_text
    ids = prompt_ids(tokenizer, ASK)
    if family.bos is not None and family.bos != "<|im_start|>":
        assert ids.count(tokenizer.bos_token_id) == printed
    text = tokenizer.apply_chat_template(ASK, add_generation_prompt=True, tokenize=False)
    doubled = tokenizer(text)["input_ids"]  # the tokenizer adds what the template has printed
    assert len(doubled) - len(ids) == family.adds_bos


@each_family
def test_the_token_that_ends_a_turn_stops_an_answer(family, model, tokenizer):
    said = [*ASK, {"role": "assistant", "content": "A zebra"}]
    text = tokenizer.apply_chat_template(said, tokenize=False)
    assert text.rpartition("A zebra")[2].startswith(family.ends)
    stops = {*model.stop_tokens, tokenizer.eos_token_id}
    assert tokenizer.convert_tokens_to_ids(family.ends) in stops
    assert stops == {tokenizer.convert_tokens_to_ids(token) for token in family.stops}


@each_family
def test_the_control_tokens_are_the_special_tokens(family, model):
    assert set(control_tokens(model)) == set(family.special)


@each_family
def test_reasoning_in_earlier_turns_is_dropped_as_the_template_says(family, tokenizer):
    text = tokenizer.apply_chat_template(THOUGHT, add_generation_prompt=True, tokenize=False)
    assert ("Stripes" in text) == (not family.drops_thoughts)
    assert "A zebra." in text


@each_family
def test_a_model_that_would_not_stop_at_the_end_of_its_turn_is_refused(family, model, tmp_path):
    check_turn_end(model)
    folder = tmp_path / "model"
    shutil.copytree(model.path, folder, ignore=shutil.ignore_patterns("*.safetensors*"))
    for file in (folder / "generation_config.json", folder / "config.json"):
        if file.is_file():
            content = json.loads(file.read_text())
            content["eos_token_id"] = None
            file.write_text(json.dumps(content))
    endless = Checkpoint("M_0", folder, "digest", "float32", field="model.path")
    if family.ends == family.eos:
        check_turn_end(endless)
        return
    with pytest.raises(ModelError) as refused:
        check_turn_end(endless)
    number = Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id(family.ends)
    assert str(refused.value) == (
        f"model.path: the chat template ends a turn with {family.ends}, but this token does not "
        f"end an answer: add {number} to the list eos_token_id in the model's "
        "generation_config.json (copy a model of the Hub to a folder first)"
    )
