"""Tests of policies without a rejected side, which train by SFT on the best answers."""

import json

import pyarrow.parquet as pq
import pytest

from factory.export import COMPLETION_COLUMNS, write_dataset
from factory.lake import Lake, verify_lake
from factory.recipe import Train
from factory.stages import training_fields, training_settings


@pytest.fixture
def best(toy):
    toy.write(loop={"policy": "rejection_sampling"})
    return toy


# the loop


def test_the_best_answers_are_kept_and_learned_from(best):
    best.finish()
    survey = best.look()
    kept = best.query("from pairs where outcome = 'kept'")
    assert len(kept) == 12
    (worse,) = best.query(
        "select count(*) as n from pairs join candidates using (prompt_id) "
        "where role = 'current' and score > score_chosen"
    )
    assert worse["n"] == 0
    assert {row["rejected_id"] for row in kept} == {None}
    for name in ("M_1", "M_2"):
        step = next(step for step in survey.steps if step.name == name and step.stage == "train")
        folder = survey.steps[step].folder
        assert json.loads((folder.path / "manifest.json").read_text())["n_pairs"] > 0
        assert survey.steps[step].settings["method"] == "sft"
    assert verify_lake(Lake(best.lake)).faults == []
    assert best.to_do() == set()


@pytest.mark.slow
def test_its_tables_have_no_gap_and_no_ties(best, factory):
    ran = factory("run", best.path, "--lake", best.lake, "--set", "stop_if.ties=0")
    assert ran.code == 0, ran.err
    gaps = best.query("from gaps")
    others = ("ties", "identical", "unscored", "filtered")
    assert [(row["kept"], sum(row[name] for name in others), row["gap"]) for row in gaps] == [
        (row["prompts"], 0, None) for row in gaps
    ]
    assert all(row["score_chosen"] is not None for row in gaps)
    for verb in ("status", "plan"):
        assert factory(verb, best.path, "--lake", best.lake).code == 0
    for query in (
        "outcomes",
        "score_gap",
        "pair_lengths",
        "kto",
        "ties",
        "role_wins",
        "pair_quality",
    ):
        assert factory("sql", best.path, query, "--lake", best.lake).code == 0


@pytest.mark.slow
def test_a_trace_has_a_chosen_side_alone(best, factory):
    best.finish()
    folder = write_dataset(best.look(), "toy")
    (row, *_) = best.query("from pairs where outcome = 'kept' and split = 'train'")
    told = factory("trace", row["pair_id"], "--lake", best.lake)
    assert told.out.startswith(f"Pair {row['pair_id']}: kept; iteration ")
    assert "\nRejected: none\n" in told.out
    assert f"Chosen {row['chosen_id']}: draw " in told.out
    assert (
        factory("trace", row["pair_id"], "--lake", best.lake, "--json").json()["rejected"] is None
    )
    told = factory("trace", row["pair_id"], "--dataset", folder)
    assert told.out.startswith(f"Pair {row['pair_id']}: kept; iteration ")
    assert f"Chosen {row['chosen_id']}: of current" in told.out
    assert "Rejected" not in told.out


# the dataset


def test_the_dataset_has_the_answers_alone(best):
    best.write_prompts(40)
    folder = write_dataset(best.run(), "toy")
    rows = [
        row
        for file in sorted(folder.glob("data/*.parquet"))
        for row in pq.read_table(file).to_pylist()
    ]
    kept = {row["pair_id"]: row for row in best.query("from pairs where outcome = 'kept'")}
    assert {row["pair_id"] for row in rows} == set(kept)
    assert {path.name.split("-")[0] for path in folder.glob("data/*")} == {"train", "test"}
    texts = {row["sample_id"]: row["text"] for row in best.query("from samples")}
    for row in rows:
        pair = kept[row["pair_id"]]
        assert list(row) == COMPLETION_COLUMNS.names
        assert [message["role"] for message in row["prompt"]] == ["user"]
        assert row["completion"] == [{"role": "assistant", "content": texts[row["sample_id"]]}]
        assert (row["sample_id"], row["score"]) == (pair["chosen_id"], pair["score_chosen"])
        assert (row["role"], row["model"]) == ("current", pair["chosen_model"])
        assert row["completion_tokens"] == pair["chosen_tokens"]
    card = (folder / "README.md").read_text()
    assert "- sft\n" in card
    assert "dpo" not in card
    assert "`prompt` and `completion`" in card


def test_another_loop_s_lake_gives_the_best_answers_too(toy, factory):
    toy.write(loop={"policy": "self_rewarding"})
    toy.finish()
    before = len(toy.shards("samples"))
    best = ("--name", "best", "--set", "loop.policy=rejection_sampling")
    built = factory("pairs", toy.path, "--lake", toy.lake, *best, "--json")
    assert built.code == 0, built.err
    assert sum(built.json()["rows"].values()) == 12
    assert len(toy.shards("samples")) == before


# what is refused


@pytest.mark.parametrize(
    "field", ["min_margin=1", "min_margin_to_noise=1", "max_length_ratio=2", "max_similarity=0.5"]
)
def test_what_compares_two_sides_is_refused(best, factory, field):
    for verb in ("plan", "run"):
        ended = factory(verb, best.path, "--lake", best.lake, "--set", f"pairs.{field}")
        assert ended.code == 2
        name = field.partition("=")[0]
        assert (
            f"pairs.{name}: the field has no effect, because the policy rejection_sampling"
            in ended.err
        )
    assert not best.lake.exists()


def test_what_chooses_among_the_answers_is_not(best):
    best.run("pairs.per_prompt=2", "sampling.draws=4", "pairs.ties=shorter")
    (row,) = best.query(
        "select count(*) as n from pairs where outcome = 'kept'",
        "pairs.per_prompt=2",
        "sampling.draws=4",
        "pairs.ties=shorter",
    )
    assert row["n"] == 24


@pytest.mark.parametrize(
    ("field", "said"),
    [
        (
            "learning_rat=1",
            "train.sft.learning_rat: TRL's SFTConfig has no such field: did you mea",
        ),
        ("beta=0.1", "train.sft.beta: TRL's SFTConfig has no such field"),
        (
            "output_dir=there",
            "train.sft.output_dir: the factory sets this field: remove this field",
        ),
        (
            "lr_scheduler_type=staircase",
            "train.sft.lr_scheduler_type: got 'staircase': expected one of linear, cosine,",
        ),
    ],
)
def test_fields_that_sft_does_not_have_are_refused_before_any_generation(
    small, factory, field, said
):
    pytest.importorskip("trl")
    change = ("--set", "loop.policy=rejection_sampling", "--set", f"train.sft.{field}")
    ended = factory("run", small.path, "--lake", small.lake, *change)
    assert ended.code == 2
    assert said in ended.err
    assert not list(small.lake.glob("samples/*"))


# identity


def test_each_method_has_its_own_fields(best, toy):
    best.finish()
    assert best.to_do("train.sft.learning_rate=1e-5") >= {"train"}
    assert best.to_do("train.dpo.beta=0.2") == set()
    assert best.to_do("train.sft.logging_steps=3") == set()
    toy.write(loop={"policy": "self_rewarding"})
    toy.run()
    assert toy.to_do("train.sft.learning_rate=1e-5") == set()
    assert toy.to_do("train.dpo.beta=0.2") >= {"train"}


def test_what_decides_a_model_says_how_it_was_trained():
    train = Train(sft={"packing": True}, dpo={"beta": 0.5})
    said = training_settings(train, "sft", "parent", "rows", 0)
    assert said["method"] == "sft"
    assert said["settings"] == [
        ["learning_rate", 5.5e-6],
        ["num_train_epochs", 1],
        ["packing", True],
    ]
    assert training_fields(Train(lora={}), "sft")["learning_rate"] == 5.5e-5
    slow = Train(lora={}, sft={"learning_rate": 1e-6})
    assert training_fields(slow, "sft")["learning_rate"] == 1e-6


def test_golden_keys_of_trainings():
    """Pin the keys of SFT trainings, because a changed key trains the users' models again."""
    from factory.fingerprint import folder_key

    keys = [
        folder_key("train", 1, training_settings(Train(), method, "parent", "rows", 0))
        for method in ("dpo", "sft")
    ]
    assert keys == ["e1272b6c5e839f011a06eab3", "e1208204ac4e481f862a6d4f"]


# the real trainer


@pytest.mark.slow
def test_trl_learns_the_best_answers(small, tmp_path):
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    sft = {"learning_rate": 2e-3, "per_device_train_batch_size": 4, "gradient_checkpointing": False}
    del small.fields["probe"]
    small.write(loop={"policy": "rejection_sampling"}, train={"sft": sft})
    survey = small.run()
    parent, trained = survey.models["M_0"], survey.models["M_1"]
    assert trained.digest != parent.digest
    log = next(small.lake.glob("models/*/train.log")).read_text()
    assert "train_loss" in log

    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = write_dataset(survey, "small")
    rows = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    tokenizer = AutoTokenizer.from_pretrained(parent.path)

    def loss(path):
        """Return the mean loss of a model on the answers that it was trained on."""
        model = AutoModelForCausalLM.from_pretrained(path)
        losses = []
        for row in rows:
            asked, whole = (
                tokenizer.apply_chat_template(messages, return_tensors="pt", **more)["input_ids"]
                for messages, more in (
                    (row["prompt"], {"add_generation_prompt": True}),
                    (row["prompt"] + row["completion"], {}),
                )
            )
            labels = whole.clone()
            labels[:, : asked.shape[1]] = -100
            losses.append(model(whole, labels=labels).loss.item())
        return sum(losses) / len(losses)

    assert loss(trained.path) < loss(parent.path)

    options = {"max_steps": 2, "report_to": "none", "bf16": False, "use_cpu": True}
    trainer = trl.SFTTrainer(
        model=str(parent.path),
        args=trl.SFTConfig(str(tmp_path / "out"), **options),
        train_dataset=rows,
    )
    assert trainer.train().global_step == 2


@pytest.mark.slow
def test_adapters_are_trained_so_too(small):
    pytest.importorskip("peft")
    del small.fields["probe"]
    small.write(
        loop={"policy": "rejection_sampling"},
        sampling={"draws": 1},
        judge={"draws": 1},
        train={"sft": {"max_steps": 2, "gradient_checkpointing": False}, "lora": {"r": 4}},
    )
    survey = small.run()
    assert survey.models["M_1"].adapter is not None
    assert survey.models["M_1"].digest != survey.models["M_0"].digest
