"""Tests of datasets: `load_dataset` opens them, and a DPO trainer reads them unchanged."""

import json

import pytest

datasets = pytest.importorskip("datasets")

import pyarrow.parquet as pq  # noqa: E402

from factory.export import PAIR_COLUMNS, features, write_dataset  # noqa: E402

RESERVED = {
    "messages",
    "completion",
    "tools",
    "chat_template_kwargs",
    "image",
    "images",
    "prompt_ids",
    "chosen_ids",
    "rejected_ids",
    "ref_chosen_logps",
    "ref_rejected_logps",
}
"""Column names that TRL 1.16 interprets."""


@pytest.fixture
def dataset(toy, tmp_path):
    toy.write_prompts(40)
    toy.finish()
    folder = write_dataset(toy.look(), "toy")
    return folder, datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))


def test_it_opens_with_both_splits_and_every_kept_pair(toy, dataset):
    _, loaded = dataset
    kept = toy.query(
        "select split, count(*) as n from pairs where outcome = 'kept' and phase = 'D2' "
        "group by split"
    )
    assert {row["split"]: row["n"] for row in kept} == {
        split: len(rows) for split, rows in loaded.items()
    }
    assert set(loaded) == {"train", "test"}


def test_its_rows_are_canonical(dataset):
    _, loaded = dataset
    row = loaded["train"][0]
    assert [message["role"] for message in row["prompt"]] == ["user"]
    assert [message["role"] for message in row["chosen"]] == ["assistant"]
    assert set(row["rejected"][0]) == {"role", "content"}
    assert row["margin"] == row["score_chosen"] - row["score_rejected"] > 0
    assert row["chosen"] != row["rejected"]
    assert not RESERVED & set(row)


def test_a_prompt_never_crosses_the_splits(dataset):
    _, loaded = dataset
    assert not set(loaded["train"]["prompt_id"]) & set(loaded["test"]["prompt_id"])


def test_the_features_in_its_files_are_those_that_datasets_would_write(dataset):
    folder, loaded = dataset
    assert loaded["train"].features.to_dict() == features(PAIR_COLUMNS)
    file = next(folder.glob("data/*.parquet"))
    stored = json.loads(pq.read_schema(file).metadata[b"huggingface"])
    assert datasets.Features.from_dict(stored["info"]["features"]) == loaded["train"].features


@pytest.mark.slow
def test_an_empty_split_is_left_out(toy, tmp_path):
    toy.write(prompts={"test_fraction": 0})
    folder = write_dataset(toy.run(), "toy")
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train"}


@pytest.mark.slow
def test_the_same_builds_are_the_same_folder_and_others_another(toy):
    toy.finish()
    folder = write_dataset(toy.look(), "toy")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert write_dataset(toy.run(), "toy") == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert write_dataset(toy.run("sampling.draws=4"), "toy") != folder


def test_it_names_no_path_of_this_machine(dataset, toy):
    folder, _ = dataset
    for path in [*folder.rglob("*.*"), *toy.lake.glob("*/*/*.json*")]:
        assert str(toy.folder).encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_a_dpo_trainer_learns_from_it_as_it_is(small, tmp_path):
    trl = pytest.importorskip("trl")
    small.finish()
    folder = write_dataset(small.look(), "small")
    rows = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    trainer = trl.DPOTrainer(
        model=small.fields["model"],
        args=trl.DPOConfig(
            str(tmp_path / "out"), max_steps=2, report_to="none", bf16=False, use_cpu=True
        ),
        train_dataset=rows,
    )
    assert trainer.train().global_step == 2
