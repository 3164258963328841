"""The published folder of a recipe with `loop.iterations: 0`, which trains no model."""

import json

import pytest
import yaml

datasets = pytest.importorskip("datasets")

import duckdb  # noqa: E402
from toys import publishable, write_published  # noqa: E402

from factory.lake import shipped_queries  # noqa: E402
from factory.plan import all_views  # noqa: E402

POLICIES = {
    "temporal": "D1",
    "future_guided": "D1",
    "anchored_rejection": "D2",
    "self_rewarding": "D2",
    "spin": "D2",
}
"""The phase of the pairs of each shipped policy that builds pairs."""


@pytest.fixture(
    scope="module",
    params=["temporal", *(pytest.param(name, marks=pytest.mark.slow) for name in [*POLICIES][1:])],
)
def made(request, tmp_path_factory):
    """Return a finished toy recipe, its published folder, and the phase of its pairs."""
    place = tmp_path_factory.mktemp(request.param)
    toy = publishable(place / "toy", 24)
    toy.fields["loop"] = {"policy": request.param, "iterations": 0}
    del toy.fields["train"]
    toy.write()
    toy.finish()
    return toy, write_published(toy, place / "folder"), POLICIES[request.param]


def test_the_default_configuration_has_all_pairs_and_there_is_no_other_one(made, tmp_path):
    toy, folder, phase = made
    names = datasets.get_dataset_config_names(str(folder))
    assert sorted(names) == ["candidates", "default", "judgments", "kto"]
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path))
    ids = {row["pair_id"] for rows in loaded.values() for row in rows}
    kept = toy.query("from pairs where outcome = 'kept'")
    assert ids == {row["pair_id"] for row in kept}
    assert {row["phase"] for row in kept} == {phase}
    labeled = datasets.load_dataset(str(folder), "kto", cache_dir=str(tmp_path))
    assert sum(map(len, labeled.values())) > len(kept)


def test_the_queries_that_travel_answer_as_the_lake_does(made, monkeypatch):
    toy, folder, _ = made
    lake_views = all_views(toy.look())
    ours = {name: lake_views.all(query.sql) for name, query in shipped_queries().items()}
    assert len(ours["pair_texts"]) == len(toy.query("from pairs where outcome = 'kept'"))
    for place, views in ((folder, "sql"), (toy.lake, "recipes/toy")):
        monkeypatch.chdir(place)
        with duckdb.connect() as con:
            con.execute((place / views / "views.sql").read_text())
            for name, query in shipped_queries().items():
                assert con.sql(query.sql).to_arrow_table().to_pylist() == ours[name], name


def test_the_card_says_that_nothing_was_trained(made):
    toy, folder, phase = made
    card = " ".join((folder / "README.md").read_text().split())
    assert "No model was trained: the recipe has `loop.iterations: 0`." in card
    assert "from answers of the model M_0. preference-factory" in card
    assert "The model itself (M_0) judged every answer twice" in card
    for word in ("anchored`", "M_i", "F_i", "D1 (", "D2 (", "training iteration", "learning rate"):
        assert word not in card, word
    assert ("Without a future model, it equals the policy" in card) == (phase == "D1")
    has_past = toy.fields["loop"]["policy"] in ("temporal", "anchored_rejection")
    assert ("the worst of 6 answers, while the chosen answer is the best of 3" in card) == has_past
    assert "{{" not in card


def test_the_metadata_has_no_training(made):
    _, folder, _ = made
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert recipe["loop"]["iterations"] == 0
    assert "train" not in recipe
    lineage = json.loads((folder / "lineage.json").read_text())
    assert [model["name"] for model in lineage["models"]] == ["M_0"]
    assert {step["stage"] for step in lineage["steps"]} == {
        *("prompts", "samples", "judgments", "verdicts", "pairs")
    }
    croissant = json.loads((folder / "croissant.json").read_text())
    assert croissant["description"].startswith("Preference pairs from answers of the model M_0 ")
    configs = {records["name"] for records in croissant["recordSet"]}
    assert configs == {"default", "kto", "candidates", "judgments"}
