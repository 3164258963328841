"""Tests of the loop with the zoo: sampling, judging, two training steps, and the next model."""

import json

import pytest

transformers = pytest.importorskip("transformers")
trl = pytest.importorskip("trl")
peft = pytest.importorskip("peft")

from toys import Toy  # noqa: E402
from zoo.build import DIGITS  # noqa: E402
from zoo.families import FAMILIES  # noqa: E402
from zoo.talk import FixedClock, conversations, prompt_ids  # noqa: E402

from factory.train import Job, run_job, training  # noqa: E402

pytestmark = pytest.mark.slow

STEPS = 2


@pytest.fixture(autouse=True)
def fixed_clock(monkeypatch):
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", FixedClock)
    monkeypatch.setattr("factory.models.tokens.datetime", FixedClock)


@pytest.fixture
def trained_rows(monkeypatch):
    """Train in the test's own process, and return the tokens of all rows that TRL trains on."""
    rows = []
    train = transformers.Trainer.train

    def watch(trainer, *args, **options):
        rows.extend(trainer.train_dataset)
        return train(trainer, *args, **options)

    def run_here(folder, *_):
        run_job(Job(**json.loads((folder / "job.json").read_text())), folder)

    monkeypatch.setattr(transformers.Trainer, "train", watch)
    monkeypatch.setattr(training, "run_trainer", run_here)
    return rows


def recipe(folder, family, model, **train):
    toy = Toy(folder / "toy")
    asked = conversations(family).values()
    toy.prompts.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in asked))
    (folder / "toy" / "probe.jsonl").write_text('{"prompt": "How many legs has a beetle?"}\n')
    reasons = family.name == "qwen3"
    toy.fields = {
        "name": family.name,
        "model": str(model),
        "prompts": {"files": ["prompts.jsonl"], "test_fraction": 0},
        "loop": {"iterations": 1},
        "sampling": {
            "draws": 3,
            "temperature": 1.0,
            "top_p": 1.0,
            "max_tokens": 12,
            **({"reasoning": ["<think>", "</think>"]} if reasons else {}),
        },
        "judge": {
            "rubric": "rating",
            "constrained": True,
            "expected_score": True,
            "draws": 1,
            "max_tokens": 8,
        },
        "probe": {"files": ["probe.jsonl"], "function": "gold.py:grade", "draws": 2},
        "train": {
            "dpo": {
                "max_steps": STEPS,
                "learning_rate": 1e-4,
                "per_device_train_batch_size": 2,
                "gradient_checkpointing": False,
                "dataloader_pin_memory": False,
            },
            **train,
        },
        "engine": {"name": "transformers"},
    }
    toy.write()
    return toy


@pytest.mark.parametrize("train", [{}, {"lora": {"r": 4}}], ids=["full", "lora"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_goes_through_every_stage(family, train, zoo, tmp_path, trained_rows):
    folder = zoo(family)
    toy = recipe(tmp_path, family, folder, **train)
    toy.run()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    check_answers(toy, tokenizer)
    check_judgments(toy)
    check_training(family, tokenizer, trained_rows)
    check_models(toy, adapters="lora" in train)


def check_answers(toy, tokenizer):
    """Check that the answers of all models are digits without any token of the template."""
    samples = toy.query("from samples")
    assert len(samples) > 0
    assert {row["error"] for row in samples} == {None}
    assert {row["finish_reason"] for row in samples} == {"stop"}
    assert {row["text"] for row in samples} <= set(DIGITS)
    lengths = {
        len(prompt_ids(tokenizer, json.loads(line)["messages"]))
        for line in toy.prompts.read_text().splitlines()
    }
    assert lengths <= {row["n_prompt_tokens"] for row in samples}


def check_judgments(toy):
    rows = toy.query("from verdicts")
    judged = [row for row in rows if row["judge_name"] == "judge"]
    assert judged
    assert all(1 <= row["expected_score"] <= 5 for row in judged)
    assert all(row["score"] in range(1, 6) for row in judged)


def check_training(family, tokenizer, rows):
    """Check that TRL trains on the prompts that the models answered, up to the end of the turn."""
    prompts = [prompt_ids(tokenizer, messages) for messages in conversations(family).values()]
    end = tokenizer.convert_tokens_to_ids(family.ends)
    assert rows
    for row in rows:
        assert row["prompt_ids"] in prompts
        for side in ("chosen_ids", "rejected_ids"):
            text = tokenizer.decode(row[side][: row[side].index(end)], skip_special_tokens=True)
            assert text.rpartition("</think>")[2].strip() in DIGITS
        if "{{- bos_token }}" in family.template_text and family.bos != family.eos:
            for side in ("chosen_ids", "rejected_ids"):
                assert [*row["prompt_ids"], *row[side]].count(tokenizer.bos_token_id) == 1


def check_models(toy, adapters):
    """Check that trained models are complete, and stop at the same tokens as M_0."""
    models = toy.look().models
    first = models["M_0"]
    answered = {row["model"] for row in toy.query("from samples")}
    for name in ("F_0", "M_1"):
        model = models[name]
        assert model.digest in answered
        assert model.stop_tokens == first.stop_tokens
        assert model.tokenizer_digest == first.tokenizer_digest
        if adapters:
            assert model.adapter is not None
            continue
        for token in ("bos_token_id", "eos_token_id", "pad_token_id"):
            assert model.config.get(token) == first.config.get(token)
        loaded, report = transformers.AutoModelForCausalLM.from_pretrained(
            model.path, output_loading_info=True
        )
        assert not any(report.values())
        own = transformers.AutoConfig.from_pretrained(first.path)
        assert loaded.config.tie_word_embeddings == own.tie_word_embeddings
