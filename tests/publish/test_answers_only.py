"""The published folder of a policy without rejected answers, which trains by SFT."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

datasets = pytest.importorskip("datasets")

import duckdb  # noqa: E402
from toys import QUICKSTART, publishable, write_published  # noqa: E402

from factory.export import features  # noqa: E402
from factory.lake import shipped_queries  # noqa: E402
from factory.plan import all_views  # noqa: E402
from factory.publish import examine, open_views  # noqa: E402
from factory.publish.repository import configs_of  # noqa: E402


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a finished toy recipe and its published folder."""
    place = tmp_path_factory.mktemp("answers")
    toy = publishable(place / "toy", 24)
    toy.write(loop={"policy": "rejection_sampling", "iterations": 1})
    toy.finish()
    return toy, write_published(toy, place / "folder")


def load(folder, name, cache):
    return datasets.load_dataset(str(folder), name, cache_dir=str(cache))


def test_the_configurations_open_and_have_what_the_policy_kept(made, tmp_path):
    toy, folder = made
    names = datasets.get_dataset_config_names(str(folder))
    assert sorted(names) == ["candidates", "default", "judgments"]
    kept = toy.query("from pairs where outcome = 'kept'")
    configs = {config.name: config for config in configs_of(toy.look().policy)}
    loaded = load(folder, "default", tmp_path)
    assert loaded["train"].features.to_dict() == features(configs["default"].columns)
    rows = [row for split in loaded.values() for row in split]
    assert {row["pair_id"] for row in rows} == {row["pair_id"] for row in kept}
    answers = {row["sample_id"]: row for row in load(folder, "candidates", tmp_path)["train"]}
    for row in loaded["train"]:
        answer = answers[row["sample_id"]]
        assert row["completion"] == [{"role": "assistant", "content": answer["text"]}]
        assert (row["prompt"], row["score"]) == (answer["prompt"], answer["score"])
        assert (row["source"], row["license"]) == ("made up", "Apache-2.0")


@pytest.mark.slow
def test_trl_trains_on_the_answers(made, tmp_path):
    trl = pytest.importorskip("trl")
    _, folder = made
    rows = load(folder, "default", tmp_path)["train"]
    options = {"max_steps": 1, "report_to": "none", "use_cpu": True, "bf16": False}
    trainer = trl.SFTTrainer(
        model=str(QUICKSTART / "m0"),
        args=trl.SFTConfig(output_dir=str(tmp_path / "model"), **options),
        train_dataset=rows,
    )
    read = trainer.processing_class.decode
    for row, prepared in zip(rows, trainer.train_dataset, strict=True):
        answer = [token for token in prepared["labels"] if token != -100]
        assert row["completion"][0]["content"] in read(answer)
        assert row["prompt"][-1]["content"] in read(prepared["input_ids"])
        assert row["prompt"][-1]["content"] not in read(answer)
    assert trainer.train().global_step == 1


def test_the_queries_that_travel_answer_as_the_lake_does(made, monkeypatch):
    toy, folder = made
    lake_views = all_views(toy.look())
    monkeypatch.chdir(folder)
    with duckdb.connect() as con:
        con.execute((folder / "sql" / "views.sql").read_text())
        for name, query in shipped_queries().items():
            told = con.sql(query.sql).to_arrow_table().to_pylist()
            assert told == lake_views.all(query.sql), name


def test_the_card_is_about_answers_and_not_about_pairs(made):
    _, folder = made
    card = (folder / "README.md").read_text()
    words = " ".join(card.split())
    assert "prompts with a selected answer, for supervised fine-tuning (SFT)" in words
    assert "| `prompt`, `completion` | lists of messages" in card
    assert "trl sft --dataset_name org/toy --dataset_config default" in card
    assert 'answers = load_dataset("org/toy", split="train")' in card
    assert "tags:\n- sft\n" in card
    assert "arXiv:2304.06767" in card
    for word in (
        "rejected",
        "margin",
        "gap",
        "kto",
        "KTO",
        "DPO",
        "dpo",
        "2508.06026",
        "{{",
        "None",
    ):
        assert word not in card, word
    for word in (" pair ", " pairs ", "identical", "future model", "anchored"):
        assert word not in words.partition("-->")[2], word
    assert "rejected" not in (folder / "scores.svg").read_text()


def test_the_metadata_is_about_answers(made):
    _, folder = made
    croissant = json.loads((folder / "croissant.json").read_text())
    assert croissant["description"].startswith("Prompts and selected answers from 1 iteration ")
    assert croissant["citeAs"] == "arXiv:2304.06767"
    assert croissant["rai:dataUseCases"].startswith("Supervised fine-tuning")
    assert "selected answers from the scored answers" in croissant["rai:dataCollection"]
    (records, *_) = croissant["recordSet"]
    assert {"default/prompt", "default/completion", "default/score"} <= {
        field["name"] for field in records["field"]
    }
    lineage = json.loads((folder / "lineage.json").read_text())
    assert lineage["card"]["configs"][0]["data_files"][0]["path"] == "data/train-*.parquet"
    assert {step["stage"] for step in lineage["steps"]} >= {"samples", "judgments", "pairs"}


PLANTED = {
    "scores": {"score": None},
    "empty": {"completion": [{"role": "assistant", "content": " \n"}]},
    "template": {"completion": [{"role": "assistant", "content": "Well.<|im_end|>"}]},
    "license": {"license": None},
}


def test_planted_answers_are_found(made, tmp_path):
    toy, clean = made
    folder = shutil.copytree(clean, tmp_path / "copy")
    file = folder / "data" / "train-00.parquet"
    table = pq.read_table(file)
    rows = table.to_pylist()
    for row, change in zip(rows, PLANTED.values(), strict=False):
        row.update(change)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), file)
    configs = configs_of(toy.look().policy)
    for place, expected in ((folder, dict.fromkeys(PLANTED, 1)), (clean, {})):
        with open_views(place) as views:
            found = examine(views, place, configs=configs)
        assert {finding.name: finding.n for finding in found if finding.n} == expected
        assert not {"identical", "similar"} & {finding.name for finding in found}
