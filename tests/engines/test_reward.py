"""Tests of reward models: a score must not depend on the other rows of its batch."""

import dataclasses
import json
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from reward_models import make_reward_model  # noqa: E402
from transformers import (  # noqa: E402
    AutoTokenizer,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from factory.engines import Request, reward  # noqa: E402
from factory.errors import EngineError, ModelError  # noqa: E402
from factory.models import Checkpoint  # noqa: E402
from factory.recipe import Generation, TransformersEngine  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_reward_model(tmp_path_factory.mktemp("reward"))


def request(name, question, answer, draws=(0,)):
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    return Request(name, messages, draws, 0, Generation(), None)


ANSWERS = ["", "a.", "enots.", "enots", "stone " * 8, "a b c d e f g.", "tsone.", "enots. enots."]


def requests():
    return [
        request(f"r{place}", "Reverse the letters of stone.", answer)
        for place, answer in enumerate(ANSWERS)
    ]


def results(model, asked, **settings):
    with reward.open_engine(TransformersEngine(device="cpu", **settings), model) as engine:
        found = list(engine.generate(iter(asked)))
    assert len(found) == sum(len(one.draws) for one in asked)
    return {(result.request_id, result.draw): result for result in found}


def values(model, asked, **settings):
    return {key: result.value for key, result in results(model, asked, **settings).items()}


def by_hand(model, asked):
    """Return the logit of each conversation, computed with transformers only."""
    tokenizer = AutoTokenizer.from_pretrained(model.path)
    loaded = LlamaForSequenceClassification.from_pretrained(model.path)
    said = {}
    for one in asked:
        question, answer = (message["content"] for message in one.messages)
        text = f"<s><|user|>{question}<|assistant|>{answer}</s>"
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.inference_mode():
            said[one.id, 0] = loaded(input_ids=ids).logits.item()
    return said


def test_the_value_is_the_logit_of_the_conversation_with_its_answer(model):
    found = values(model, requests())
    assert found == pytest.approx(by_hand(model, requests()), abs=1e-4)
    assert len({round(value, 2) for value in found.values()}) == len(ANSWERS)


# The padding may be the token that ends every conversation (3), or not be named at all.
@pytest.mark.parametrize("pad", [0, 3, None])
def test_a_value_does_not_depend_on_its_neighbours_in_the_batch(tmp_path, pad):
    model = make_reward_model(tmp_path, pad_token_id=pad)
    alone = values(model, requests(), batch_size=1)
    assert alone == pytest.approx(by_hand(model, requests()), abs=1e-4)
    for settings in ({"batch_size": 8}, {"batch_size": 3}, {"batch_size": 2, "window": 1}):
        assert values(model, requests(), **settings) == pytest.approx(alone, abs=1e-4)
    assert values(model, requests()[::-1]) == pytest.approx(alone, abs=1e-4)


def test_every_draw_has_the_value_and_the_tokens_that_were_read(model):
    found = results(model, [request("r", "Copy a.", "a.", (0, 2))])
    assert set(found) == {("r", 0), ("r", 2)}
    assert found["r", 0].value == found["r", 2].value
    assert found["r", 0].n_prompt_tokens == 10  # <s> <|user|> Copy _ a . <|assistant|> a . </s>
    assert found["r", 0].n_tokens is None


def test_in_half_precision_the_value_keeps_the_digits_of_float32(tmp_path):
    model = make_reward_model(tmp_path, dtype="bfloat16")
    found = values(model, requests())
    assert any(value != torch.tensor(value).bfloat16().item() for value in found.values())
    assert found == pytest.approx(by_hand(model, requests()), abs=0.2)


def test_a_conversation_that_does_not_fit_fails_and_the_others_go_on(model):
    fits = "a" * 248  # and 8 other tokens
    asked = [
        *requests(),
        request("long", "Copy a.", fits + "a", (0, 1)),
        request("fits", "Copy a.", fits),
    ]
    found = results(model, asked, batch_size=4)
    assert found["fits", 0].n_prompt_tokens == 256
    assert found["fits", 0].error is None
    for draw in (0, 1):
        assert found["long", draw].error == (
            "the prompt is too long: got 257 tokens, but the model's context length is 256 tokens"
        )
        assert found["long", draw].error_kind == "permanent"
        assert found["long", draw].value is None
    assert sum(result.error is None for result in found.values()) == len(ANSWERS) + 1


def test_a_conversation_that_the_template_refuses_fails_with_its_reason(model):
    odd = request("odd", "Copy a.", "a.")
    odd = dataclasses.replace(odd, messages=[{"role": "tool", "content": "x"}, odd.messages[1]])
    found = results(model, [odd, *requests()])
    assert "the chat template rejected the messages: Unknown role: tool" in found["odd", 0].error
    assert found["odd", 0].error_kind == "permanent"
    assert sum(result.error is None for result in found.values()) == len(ANSWERS)


def test_requests_are_read_no_further_than_the_window(model):
    read = []

    def asked():
        for one in requests():
            read.append(one.id)
            yield one

    with reward.open_engine(TransformersEngine(batch_size=3, window=1), model) as engine:
        next(engine.generate(asked()))
    assert len(read) == 3


def test_too_little_memory_is_a_sentence(model, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(LlamaForSequenceClassification, "forward", full)
    expected = r"engine\.batch_size: out of memory with a batch of 8 conversations"
    with pytest.raises(EngineError, match=expected):
        results(model, requests())


def test_a_reward_model_is_one(model):
    reward.check_reward_model(model)


def test_a_model_that_writes_is_refused(tmp_path):
    model = make_reward_model(tmp_path, LlamaForCausalLM)
    with pytest.raises(ModelError, match="LlamaForCausalLM, but a reward model must be"):
        reward.check_reward_model(model)


def test_a_model_with_several_labels_is_refused(tmp_path):
    for labels in (2, 3):  # transformers omits the default, two labels, from config.json
        model = make_reward_model(tmp_path / str(labels), num_labels=labels)
        with pytest.raises(
            ModelError, match=f"has {labels} labels, but a reward model must have exactly one"
        ):
            reward.check_reward_model(model)


def test_a_model_whose_last_layer_would_be_random_is_refused(tmp_path):
    model = make_reward_model(tmp_path, LlamaForCausalLM)
    said = json.loads((tmp_path / "config.json").read_text())
    said["architectures"] = ["LlamaForSequenceClassification"]
    (tmp_path / "config.json").write_text(json.dumps(said))
    with pytest.raises(ModelError, match="lacks the weights of the last layer"):
        reward.check_reward_model(model)


def test_weights_that_lack_more_than_the_last_layer_are_refused_when_they_are_loaded(tmp_path):
    make_reward_model(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**said, "num_hidden_layers": 3}))
    with pytest.raises(ModelError, match=r"lacks the weights of model\.layers\.2"):
        results(Checkpoint("judge", tmp_path, "digest", "float32"), requests())


def test_an_adapter_is_refused(model):
    with pytest.raises(ModelError, match="has an adapter, but a reward model needs merged weights"):
        reward.check_reward_model(dataclasses.replace(model, adapter=model.path))


def test_checking_imports_no_engine():
    code = "import sys, factory.engines.reward; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
