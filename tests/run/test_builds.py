"""Other sets of pairs from the samples and scores in a lake."""

import pyarrow.parquet as pq
import pytest

from factory.lake import Lake


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    from toys import Toy

    toy = Toy(tmp_path_factory.mktemp("builds") / "toy", n_prompts=30)
    toy.script("def answer(messages, seed):\n    return f'{seed % 97}\\nScore: {seed % 6}'")
    toy.finish()
    return toy


@pytest.fixture
def pairs(made, factory):
    def call(name, *changes, recipe=None):
        overrides = [word for change in changes for word in ("--set", change)]
        return factory("pairs", made.path, "--lake", made.lake, "--name", name, *overrides)

    return call


def rows(dataset):
    return [
        row for file in dataset.glob("data/*.parquet") for row in pq.read_table(file).to_pylist()
    ]


def dataset(toy, name):
    (found,) = toy.lake.glob(f"datasets/toy-{name}-*")
    return found


def test_a_build_lies_beside_the_loops_own_set(made, pairs):
    told = pairs("wide", "pairs.min_margin=3")
    assert told.code == 0, told.err
    own = rows(next(made.lake.glob("datasets/toy-????????"), None) or dataset_of(made))
    wide = rows(dataset(made, "wide"))
    assert {row["pair_id"] for row in wide} == {row["pair_id"] for row in own if row["margin"] >= 3}
    assert 0 < len(wide) < len(own)
    assert "small margin" in told.out
    assert "To train the loop on these pairs: " in told.out
    assert made.to_do() == set()


def dataset_of(toy):
    from factory.export import write_dataset

    return write_dataset(toy.look(), "toy")


def test_a_build_trains_and_asks_nothing(made, pairs):
    shards = {table: made.shards(table) for table in ("samples", "judgments", "verdicts")}
    models = sorted(made.lake.glob("models/*"))
    assert pairs("other", "pairs.per_prompt=2", "pairs.ties=shorter").code == 0
    assert {table: made.shards(table) for table in shards} == shards
    assert sorted(made.lake.glob("models/*")) == models


def test_the_same_build_again_makes_nothing(made, pairs):
    pairs("same", "pairs.min_margin=1")
    before = made.shards("pairs")
    again = pairs("same", "pairs.min_margin=1")
    assert made.shards("pairs") == before
    assert again.err == ""


def test_without_a_change_it_is_the_loops_own_set(made, pairs):
    told = pairs("plain")
    assert "The loop was trained on these pairs." in told.out
    assert rows(dataset(made, "plain")) == rows(dataset_of(made))


def test_another_policy_on_the_same_samples(made, pairs):
    assert pairs("plainer", "loop.policy=self_rewarding").code == 0
    roles = {(row["chosen_role"], row["rejected_role"]) for row in rows(dataset(made, "plainer"))}
    assert roles == {("current", "current")}


def test_as_json(made, pairs, factory):
    told = factory(
        "pairs",
        made.path,
        "--lake",
        made.lake,
        "--name",
        "j",
        "--set",
        "pairs.min_margin=1",
        "--json",
    ).json()
    assert set(told) == {"gaps", "quality", "remarks", "dataset", "rows", "inside_the_loop"}
    assert [row["phase"] for row in told["gaps"]] == ["D2", "D2"]
    assert told["inside_the_loop"]["trainings"] == 4


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("Wide", "pairs.min_margin=1", "--name: got Wide: start the name with a letter"),
        ("a/b", "pairs.min_margin=1", "--name: got a/b: start the name with"),
        (
            "w",
            "sampling.draws=2",
            "--set sampling.draws=2: `factory pairs` cannot change this field",
        ),
        ("w", "pairs.min_margin=-1", "pairs.min_margin: got -1"),
        ("w", "pairs.margin=1", "pairs.margin: unknown field"),
        ("w", "loop.policy=temporl", "loop.policy: got 'temporl'"),
    ],
)
def test_what_cannot_be_built_is_said_in_a_sentence(pairs, made, name, change, said):
    before = made.shards("pairs")
    ended = pairs(name, change)
    assert ended.code == 2
    assert said in ended.err
    assert made.shards("pairs") == before


def test_roles_that_were_never_sampled(toy, factory):
    toy.write(loop={"policy": "self_rewarding"})
    toy.finish()
    ended = factory(
        "pairs", toy.path, "--lake", toy.lake, "--name", "w", "--set", "loop.policy=temporal"
    )
    assert ended.code == 2
    said = "the policy temporal needs past and future answers, but the loop"
    assert said in ended.err
    assert "first run the recipe with loop.policy=temporal" in ended.err


def test_a_lake_that_holds_nothing(toy, factory):
    ended = factory("pairs", toy.path, "--lake", toy.lake, "--name", "w")
    assert ended.code == 2
    assert (
        f"no iteration in {toy.lake} is fully scored (the first iteration is waiting for"
        in ended.err
    )
    assert not Lake(toy.lake).folders("pairs")


def test_iterations_that_are_not_complete_are_left_out(toy, factory):
    toy.write(loop={"iterations": 1, "chunks": 2})
    toy.run()
    toy.write(loop={"iterations": 2})
    told = factory("pairs", toy.path, "--lake", toy.lake, "--name", "half")
    assert told.code == 0
    assert "pairs D2, iteration 1: skipped, waits for" in told.err
    assert {row["iteration"] for row in rows(dataset(toy, "half"))} == {0}
