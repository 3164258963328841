"""Tests of the published folder, read with load_dataset and DuckDB."""

import json

import pytest

datasets = pytest.importorskip("datasets")

import pyarrow.parquet as pq  # noqa: E402
from toys import publishable, write_published  # noqa: E402

from factory.errors import PublishError, StepFailed  # noqa: E402
from factory.export import features  # noqa: E402
from factory.lake import shipped_queries  # noqa: E402
from factory.plan import all_views  # noqa: E402
from factory.publish import CONFIGS, iterations, open_views  # noqa: E402


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a finished toy recipe and its published folder."""
    place = tmp_path_factory.mktemp("repository")
    toy = publishable(place / "toy")
    toy.finish()
    return toy, write_published(toy, place / "folder")


@pytest.fixture(scope="module")
def lake_views(made):
    toy, _ = made
    return all_views(toy.look())


def load(folder, name, cache):
    return datasets.load_dataset(str(folder), name, cache_dir=str(cache))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_every_configuration_opens_with_both_splits(made, tmp_path, config):
    _, folder = made
    loaded = load(folder, config.name, tmp_path)
    assert set(loaded) == {"train", "test"}
    for rows in loaded.values():
        assert len(rows) > 0
        assert rows.features.to_dict() == features(config.columns)
    assert not set(loaded["train"]["prompt_id"]) & set(loaded["test"]["prompt_id"])


def test_pairs_join_candidates_and_judgments(made, tmp_path):
    _, folder = made
    pairs, candidates, judgments = (
        load(folder, name, tmp_path)["train"] for name in ("default", "candidates", "judgments")
    )
    answers = {row["sample_id"]: row for row in candidates}
    judged = {}
    for row in judgments:
        judged.setdefault(row["sample_id"], []).append(row["score"])
    for pair in pairs:
        for side in ("chosen", "rejected"):
            answer = answers[pair[f"{side}_id"]]
            assert answer["text"] == pair[side][-1]["content"]
            assert answer["prompt"] == pair["prompt"]
            assert answer["score"] == pair[f"score_{side}"]
            scores = judged[answer["sample_id"]]
            assert sum(scores) / len(scores) == answer["score"]
    assert {row["source"] for row in pairs} == {"made up"}


def test_both_phases_are_published(made, tmp_path):
    toy, folder = made
    kept = toy.query(
        "select phase, split, count(*) as n from pairs where outcome = 'kept' group by all"
    )
    for phase, name in (("D1", "anchored"), ("D2", "default")):
        loaded = load(folder, name, tmp_path)
        counted = {split: len(rows) for split, rows in loaded.items()}
        assert counted == {row["split"]: row["n"] for row in kept if row["phase"] == phase}


@pytest.mark.parametrize("name", shipped_queries())
def test_the_views_that_travel_answer_as_the_lake_does(made, lake_views, name):
    _, folder = made
    query = (folder / "sql" / f"{name}.sql").read_text()
    with open_views(folder) as views:
        there = views.all(query)
    assert there == lake_views.all(shipped_queries()[name].sql)


def test_the_views_open_in_plain_duckdb_in_the_folder(made, monkeypatch):
    import duckdb

    _, folder = made
    monkeypatch.chdir(folder)
    with duckdb.connect() as con:
        con.execute((folder / "sql" / "views.sql").read_text())
        ((n,),) = con.sql("select count(*) from candidates").fetchall()
        gaps = con.sql("from gaps").fetchall()
    assert n == sum(pq.read_metadata(file).num_rows for file in folder.glob("candidates/*.parquet"))
    assert len(gaps) == 2


@pytest.mark.slow
def test_a_further_iteration_adds_files_and_rewrites_none(tmp_path):
    toy = publishable(tmp_path / "toy")
    toy.finish()
    first = write_published(toy, tmp_path / "first")
    toy.run("loop.iterations=2")
    second = write_published(toy, tmp_path / "second", "loop.iterations=2")
    before = {file.relative_to(first): file.read_bytes() for file in first.rglob("*.parquet")}
    after = {file.relative_to(second): file.read_bytes() for file in second.rglob("*.parquet")}
    assert before.items() <= after.items()
    assert {name.stem.rpartition("-")[2] for name in after.keys() - before.keys()} == {"01"}


def test_written_twice_it_is_the_same_bytes(made, tmp_path):
    toy, folder = made
    again = write_published(toy, tmp_path / "again")
    names = [file.relative_to(folder) for file in folder.rglob("*.*")]
    assert len(names) > 30
    assert {file.relative_to(again) for file in again.rglob("*.*")} == set(names)
    for name in names:
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name


def test_an_empty_split_and_an_empty_configuration_are_left_out(tmp_path):
    toy = publishable(tmp_path / "toy", 12)
    toy.write(prompts={"test_fraction": 0}, loop={"policy": "self_rewarding"})
    toy.run()
    folder = write_published(toy, tmp_path / "folder")
    assert set(load(folder, "default", tmp_path / "cache")) == {"train"}
    assert not (folder / "anchored").exists()
    assert "anchored" not in datasets.get_dataset_config_names(str(folder))


@pytest.mark.slow
def test_a_judge_that_is_a_function_is_published_as_one(tmp_path):
    toy = publishable(tmp_path / "toy", 12)
    toy.write(judge={"function": "gold.py:grade"})
    toy.run()
    folder = write_published(toy, tmp_path / "folder")
    rows = load(folder, "judgments", tmp_path / "cache")["train"]
    assert all(row["value"] == row["score"] for row in rows)
    assert (
        "The Python function `grade` scored each answer once" in (folder / "README.md").read_text()
    )


@pytest.mark.slow
def test_the_probe_stays_at_home(tmp_path):
    toy = publishable(tmp_path / "toy", 12)
    toy.add_probe()
    toy.finish()
    folder = write_published(toy, tmp_path / "folder")
    with open_views(folder) as views:
        assert views.all("from candidates where role = 'probe'") == []
        assert views.all("from prompts where split = 'probe'") == []
    card = (folder / "README.md").read_text()
    assert "| model | mean score | answers |" in card
    assert "| F_0 | " in card[card.index("| model | mean score | answers |") :]
    for file in folder.rglob("*.*"):
        assert b"Probe 1?" not in file.read_bytes(), file


def test_no_file_names_a_place_of_this_machine(made):
    toy, folder = made
    for file in folder.rglob("*.*"):
        assert str(toy.folder).encode() not in file.read_bytes(), file


@pytest.mark.slow
def test_a_prompt_that_names_a_place_of_this_machine_stops_it(tmp_path):
    toy = publishable(tmp_path / "toy", 12)
    toy.write(prompts={"source": f"{toy.folder}/prompts"})
    toy.run()
    with pytest.raises(PublishError, match="would contain the local path"):
        write_published(toy, tmp_path / "folder")


def test_the_recipe_that_is_shown_says_what_decides_the_data_and_no_more(made):
    import yaml

    _, folder = made
    shown = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert shown["sampling"]["draws"] == 3
    assert shown["loop"] == {"policy": "temporal", "iterations": 1, "chunks": 2}
    assert shown["prompts"]["files"] == ["prompts.jsonl"]
    assert "engine" not in shown
    assert "shards" not in shown


def test_lineage_leads_from_a_pair_to_what_made_it(made, tmp_path):
    _, folder = made
    told = json.loads((folder / "lineage.json").read_text())
    models = {model["digest"]: model for model in told["models"]}
    for row in load(folder, "default", tmp_path)["train"]:
        for side in ("chosen", "rejected"):
            assert models[row[f"{side}_model"]]["name"] in ("M_0", "F_0")
    for row in load(folder, "candidates", tmp_path)["train"].select(range(5)):
        assert told["folders"][row["sampling_key"]]["settings"]["temperature"] == 0.8
        parser = told["folders"][row["parser_key"]]
        judge = told["folders"][parser["settings"]["judge"]]
        assert "Score: N" in judge["settings"]["prompt"]


def test_croissant_names_the_files_the_columns_and_where_they_came_from(made):
    _, folder = made
    told = json.loads((folder / "croissant.json").read_text())
    ids = {part["@id"] for part in told["distribution"]}
    for records, config in zip(told["recordSet"], CONFIGS, strict=True):
        assert [field["source"]["extract"]["column"] for field in _leaves(records)] == [
            column.name for column in config.columns for _ in _parts(column.type)
        ]
        assert {field["source"]["fileSet"]["@id"] for field in _leaves(records)} <= ids
    for files in told["distribution"][1:]:
        assert all(any(folder.glob(glob)) for glob in files["includes"])
    models = {model["@id"] for model in told["prov:wasAttributedTo"]}
    lineage = json.loads((folder / "lineage.json").read_text())
    assert models == {f"model-{model['digest']}" for model in lineage["models"]}
    for step in told["prov:wasGeneratedBy"]:
        assert {agent["@id"] for agent in step.get("prov:wasAssociatedWith", [])} <= models
    assert told["prov:wasDerivedFrom"] == [
        {"@type": "prov:Entity", "name": "made up", "license": "Apache-2.0"}
    ]


def _leaves(records):
    for field in records["field"]:
        yield from field.get("subField", [field])


def _parts(kind):
    return list(kind.value_type) if hasattr(kind, "value_type") else [kind]


def test_a_recipe_that_was_never_run_is_a_sentence(tmp_path):
    toy = publishable(tmp_path / "toy", 12)
    with pytest.raises(PublishError, match="no finished iteration of the recipe toy"):
        iterations(toy.look())


def test_a_dataset_without_pairs_is_a_sentence(tmp_path):
    toy = publishable(tmp_path / "toy", 12)
    toy.write(pairs={"min_margin": 100}, loop={"policy": "self_rewarding"})
    with pytest.raises(StepFailed, match="was kept"):
        toy.run()
    with pytest.raises(PublishError, match="the recipe toy has no kept pairs"):
        write_published(toy, tmp_path / "folder")


MANY = """
def grade(rows):
    return [float(len(row["answer"]) % 6) for row in rows]

def even(rows):
    return [float(len(row["answer"]) % 2 == 0) for row in rows]
"""


@pytest.mark.slow
def test_several_judges_travel_with_the_dataset(tmp_path):
    toy = publishable(tmp_path / "toy", 16)
    (toy.folder / "gold.py").write_text(MANY)
    toy.write(
        judges={
            "even": {"function": "gold.py:even"},
            "older": {"by": "previous", "draws": 2, "max_tokens": 64},
            "versus": {"rubric": "pairwise", "draws": 1, "max_tokens": 64},
        },
        pairs={"score": "judge + even", "agree": ["even"]},
    )
    toy.run()
    folder = write_published(toy, tmp_path / "folder")
    with open_views(folder) as views:
        for name in ("judge_pairs", "judge_confusion", "judge_agreement", "parse_failures"):
            query = (folder / "sql" / f"{name}.sql").read_text()
            found = views.all(query)
            assert found == toy.query(shipped_queries()[name].sql), name
    card = (folder / "README.md").read_text()
    assert "`score: judge + even`, `agree: ['even']`" in card
    assert "Judge `older`:" in card
    told = json.loads((folder / "lineage.json").read_text())
    assert told["judges"]["even"] == {"kind": "function", "name": "even"}
    assert told["judges"]["older"]["kind"] == "the previous model"


def test_a_command_of_ones_own_is_published_without_its_places(tmp_path):
    from factory.publish import public_recipe, redact_paths

    toy = publishable(tmp_path / "toy", 12)
    (toy.folder / "mine.py").write_text("")
    command = f"{toy.folder}/mine.py --config=/mnt/somewhere/mine.yaml {{pairs}} {{parent}} {{out}}"
    toy.fields["train"] = {"with": "command", "command": command}
    toy.write()
    survey = toy.look()
    shown = public_recipe(survey)["train"]["command"]
    assert shown == "mine.py --config=mine.yaml {pairs} {parent} {out}"
    assert redact_paths({"/mnt/a/b.py": "x", "keep": "org/model"}, survey.recipe) == {
        "b.py": "x",
        "keep": "org/model",
    }
    toy.write(pairs={"score": f"judge / 2 + {'0 + ' * 80}1 / 3"})
    assert public_recipe(toy.look())["pairs"]["score"].startswith("judge / 2 + 0")


@pytest.mark.slow
def test_what_looks_like_a_key_in_the_recipe_stops_it(tmp_path):
    toy = publishable(tmp_path / "toy", 12)
    toy.write(prompts={"source": "s"})
    (toy.folder / "own.md").write_text(
        "---\nscale: [0, 5]\nparser: 'Score: (\\d)'\n---\nhf_" + "a" * 34 + " {prompt} {answer}"
    )
    toy.write(judge={"rubric": "own.md"})
    toy.run()
    with pytest.raises(PublishError, match=r"a possible secret \(Hugging Face token\)"):
        write_published(toy, tmp_path / "folder")
