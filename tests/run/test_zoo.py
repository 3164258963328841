"""Tests of the loop with the zoo: sampling, judging, two training steps, and the next model."""

import json

import pytest

transformers = pytest.importorskip("transformers")
pytest.importorskip("trl")
pytest.importorskip("peft")

import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from toys import Toy  # noqa: E402
from zoo.build import DIGITS  # noqa: E402
from zoo.families import FAMILIES  # noqa: E402
from zoo.talk import ASK, FixedClock, conversations, prompt_ids  # noqa: E402

from factory.checks.preflight import check_before_run  # noqa: E402
from factory.engines import Request  # noqa: E402
from factory.engines.transformers import open_engine  # noqa: E402
from factory.models import Checkpoint, check_adapter  # noqa: E402
from factory.recipe import Generation, TransformersEngine  # noqa: E402
from factory.stages import LORA  # noqa: E402
from factory.train import Job, run_job, training  # noqa: E402

each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)

FIELDS = {
    "max_steps": 2,
    "learning_rate": 1e-4,
    "per_device_train_batch_size": 2,
    "gradient_checkpointing": False,
    "dataloader_pin_memory": False,
}


@pytest.fixture(autouse=True)
def fixed_clock(monkeypatch):
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", FixedClock)


@pytest.fixture
def trained_rows(monkeypatch):
    """Train in the test's own process, and return the rows that TRL trains on."""
    rows = []
    train = transformers.Trainer.train

    def watch(trainer, *args, **options):
        rows.extend(trainer.train_dataset)
        return train(trainer, *args, **options)

    def run_here(folder, *_, **__):
        run_job(Job(**json.loads((folder / "job.json").read_text())), folder)

    monkeypatch.setattr(transformers.Trainer, "train", watch)
    monkeypatch.setattr(training, "run_trainer", run_here)
    return rows


@pytest.fixture
def tokenizer(zoo, family):
    return transformers.AutoTokenizer.from_pretrained(zoo(family))


def prompts_of(family):
    questions = [[{"role": "user", "content": f"Who lives in cage {n}?"}] for n in range(4)]
    return [*conversations(family).values(), *questions]


def recipe(folder, family, model, policy="self_rewarding"):
    toy = Toy(folder / "toy")
    asked = prompts_of(family)
    toy.prompts.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in asked))
    toy.write(
        model=str(model),
        prompts={"test_fraction": 0},
        loop={"iterations": 1, "policy": policy},
        sampling={"draws": 5, "max_tokens": 12, "temperature": 1.0, "top_p": 1.0},
        judge={"rubric": "rating", "constrained": True, "draws": 1, "max_tokens": 8},
        train={"with": "trl", "dpo": FIELDS},
    )
    toy.fields["engine"] = {"name": "transformers"}
    toy.write()
    return toy


@each_family
def test_a_family_passes_the_checks_before_a_run(family, zoo, tmp_path):
    toy = recipe(tmp_path, family, zoo(family))
    toy.write(judge={"expected_score": True})
    check_before_run(toy.look(), [])


# The policy with the shortest loop, and for one family that of the method.
LOOPS = [(family, "self_rewarding") for family in FAMILIES] + [(FAMILIES[0], "temporal")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "policy"), LOOPS, ids=[f"{family.name}-{policy}" for family, policy in LOOPS]
)
def test_a_family_goes_through_the_loop(family, policy, zoo, tokenizer, tmp_path, trained_rows):
    toy = recipe(tmp_path, family, zoo(family), policy)
    toy.run()
    samples, verdicts = toy.query("from samples"), toy.query("from verdicts")
    assert {row["error"] for row in samples} == {None}
    assert {row["finish_reason"] for row in samples} == {"stop"}
    assert {row["text"] for row in samples} <= set(DIGITS)
    lengths = {len(prompt_ids(tokenizer, messages)) for messages in prompts_of(family)}
    assert {row["n_prompt_tokens"] for row in samples} == lengths
    assert {row["score"] for row in verdicts} <= {1, 2, 3, 4, 5}
    check_rows(family, tokenizer, trained_rows)
    models = toy.look().models
    for name in models.keys() - {"M_0"}:
        check_trained(models[name], models["M_0"])
        assert answer(models[name]).text in DIGITS


@pytest.mark.slow
@each_family
def test_an_adapter_of_a_family_trains_and_answers(family, zoo, tokenizer, tmp_path, trained_rows):
    rows = [
        {
            "prompt": messages,
            "chosen": [{"role": "assistant", "content": "5"}],
            "rejected": [{"role": "assistant", "content": "1"}],
        }
        for messages in prompts_of(family)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    base = Checkpoint("M_0", zoo(family), "digest", family.dtype or "float32")
    fields = {**FIELDS, "learning_rate": 1e-2, "logging_steps": 1}
    run_job(Job("dpo", str(base.path), base.dtype, fields, 600, LORA), tmp_path)
    check_rows(family, tokenizer, trained_rows)
    check_adapter(tmp_path / "model", base.path, "model.adapter", "model.path")
    adapted = Checkpoint("M_1", base.path, "other", base.dtype, tmp_path / "model")
    before, after = answer(base), answer(adapted)
    assert after.text in DIGITS
    assert before.cumulative_logprob != after.cumulative_logprob


def check_rows(family, tokenizer, rows):
    """Check that TRL trains on the prompts that the models answered, up to the end of the turn."""
    prompts = [prompt_ids(tokenizer, messages) for messages in prompts_of(family)]
    end = tokenizer.convert_tokens_to_ids(family.ends)
    assert rows
    for row in rows:
        assert row["prompt_ids"] in prompts
        for side in ("chosen", "rejected"):
            answer = row[f"{side}_ids"][: row[f"{side}_ids"].index(end)]
            text = tokenizer.decode(answer, skip_special_tokens=True)
            assert text.rpartition("</think>")[2].strip() == row[side][0]["content"]
            whole = tokenizer.apply_chat_template(row["prompt"] + row[side])["input_ids"]
            assert row["prompt_ids"] + row[f"{side}_ids"] == whole


def check_trained(model, first):
    """Check that a trained model is complete, and keeps the tokens and settings of M_0."""
    assert model.stop_tokens == first.stop_tokens
    assert model.tokenizer_digest == first.tokenizer_digest
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(
        model.path, output_loading_info=True
    )
    assert not any(report.values())
    own = transformers.AutoConfig.from_pretrained(first.path)
    for name in ("tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(loaded.config, name) == getattr(own, name)


def answer(model):
    generation = Generation(temperature=0, max_tokens=12)
    with open_engine(TransformersEngine(), [model]) as engine:
        (result,) = engine.generate([Request("a", ASK, (0,), 0, generation, None)])
    assert result.finish_reason == "stop"
    return result
