"""Tests of traces, the histories of pairs."""

import json
from textwrap import indent

import pytest

from factory.export import write_dataset


@pytest.fixture
def traced(toy):
    """Return a finished toy run, one of its published pairs, and its dataset."""
    toy.write(loop={"iterations": 1})
    toy.finish()
    survey = toy.look()
    (pair, *_) = toy.query(
        "from pairs where outcome = 'kept' and phase = 'D2' and split = 'train' order by pair_id"
    )
    return toy, pair, write_dataset(survey, "toy")


def test_a_trace_leads_to_every_row_that_made_the_pair(traced, factory):
    toy, pair, _ = traced
    told = factory("trace", pair["pair_id"], "--lake", toy.lake, "--json").json()
    assert told["pair"]["chosen_id"] == pair["chosen_id"]
    assert told["build"]["phase"] == "D2"
    assert "best_future" in told["build"]["policy"]
    assert told["prompt"]["prompt_id"] == pair["prompt_id"]
    for side in ("chosen", "rejected"):
        sample = told[side]["sample"]
        assert sample["sample_id"] == pair[f"{side}_id"]
        scores = [row["score"] for row in told[side]["judgments"]]
        assert len(scores) == 2
        assert sum(scores) / 2 == pair[f"score_{side}"]
        assert told[side]["model"]["digest"] == pair[f"{side}_model"]
    assert [judge["digest"] for judge in told["judges"]] == [pair["judge_model"]]


def test_a_trace_is_read_by_people(traced, factory):
    toy, pair, _ = traced
    told = factory("trace", pair["pair_id"], "--lake", toy.lake).out
    assert told.startswith(f"Pair {pair['pair_id']}: kept, margin ")
    (sample,) = toy.query(f"from samples where sample_id = '{pair['chosen_id']}'")
    assert indent(sample["text"], "    ") in told
    (judgment, *_) = toy.query(
        f"from judgments where sample_id = '{pair['chosen_id']}' order by draw"
    )
    assert indent(judgment["text"], "    ") in told
    for key in (sample["sampling_key"], judgment["judge_key"], pair["build_key"]):
        assert key in told
    assert f"by model M_0, {pair['rejected_model']}, which was not trained in this lake" in told
    assert f"Judge M_0, {pair['judge_model']}, which was not trained in this lake" in told


def test_a_model_that_the_lake_trained_is_named_with_its_pairs(toy, factory):
    toy.finish()
    (pair, *_) = toy.query("from pairs where outcome = 'kept' and chosen_role = 'future'")
    told = factory("trace", pair["pair_id"], "--lake", toy.lake, "--json").json()
    model = told["chosen"]["model"]
    assert model["model_key"] in {folder.name for folder in (toy.lake / "models").iterdir()}
    assert model["n_pairs"] > 0


@pytest.mark.parametrize("iteration", [0, 1])
@pytest.mark.parametrize("role", ["current", "future"])
def test_models_have_their_names_in_the_loop(toy, factory, iteration, role):
    toy.finish()
    (pair, *_) = toy.query(
        f"from pairs where iteration = {iteration} and chosen_role = '{role}' and phase = 'D2' "
        "and outcome = 'kept' order by pair_id"
    )
    traced = factory("trace", pair["pair_id"], "--lake", toy.lake, "--json").json()
    rows = toy.query("select distinct role, name, model from roles")
    digests = {row["name"]: row["model"] for row in rows if row["role"] != "probe"}
    for model in (traced["chosen"]["model"], traced["rejected"]["model"], *traced["judges"]):
        if model["name"]:
            assert digests[model["name"]] == model["digest"]
        if model.get("parent_name"):
            assert digests[model["parent_name"]] == model["parent"]
    name = f"{'F' if role == 'future' else 'M'}_{iteration}"
    assert traced["chosen"]["model"]["name"] == name
    if role == "future":
        assert traced["judges"][0]["name"] == f"M_{iteration}"
        assert traced["chosen"]["model"]["parent_name"] == f"M_{iteration}"


def test_a_dataset_alone_says_what_it_holds(traced, factory):
    _, pair, dataset = traced
    told = factory("trace", pair["pair_id"], "--dataset", dataset)
    assert told.out.startswith(f"Pair {pair['pair_id']}: kept, margin ")
    row = json.loads(factory("trace", pair["pair_id"], "--dataset", dataset, "--json").out)
    assert row["margin"] == pair["margin"]
    assert indent(row["chosen"][-1]["content"], "    ") in told.out


def test_an_unknown_pair_is_said_in_a_sentence(traced, factory):
    toy, _, dataset = traced
    for place in (["--lake", toy.lake], ["--dataset", dataset]):
        ended = factory("trace", "nothing", *place)
        assert ended.code == 2
        assert "has no pair nothing" in ended.err
    assert factory("trace", "x", "--lake", toy.folder / "none").code == 2
    ended = factory("trace", "x", "--dataset", toy.folder)
    assert ended.code == 2
    assert "give a dataset folder" in ended.err


def test_a_pair_whose_sample_is_gone_says_so(traced, factory):
    toy, pair, _ = traced
    for shard in toy.shards("samples"):
        shard.unlink()
    told = factory("trace", pair["pair_id"], "--lake", toy.lake).out
    assert f"Chosen: {pair['chosen_id']} (not in this lake)" in told
