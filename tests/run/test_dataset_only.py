"""A recipe with `loop.iterations: 0`: a dataset from answers of M_0, and no training."""

import json
from collections import Counter

import pyarrow.parquet as pq
import pytest

from factory.errors import StepFailed
from factory.export import TRAINERS, write_dataset
from factory.pairs import load_policy, shipped_policies
from factory.plan import steps
from factory.recipe import Recipe

ANSWER = "def answer(messages, seed):\n    return f'{seed % 97}\\nScore: {seed % 6}'\n"

PHASES = {
    "temporal": "D1",
    "future_guided": "D1",
    "anchored_rejection": "D2",
    "self_rewarding": "D2",
    "spin": "D2",
    "rejection_sampling": "D2",
}
"""The phase of the pairs of each shipped policy."""

ROLES = {
    "temporal": {"past", "current"},
    "anchored_rejection": {"past", "current"},
    "spin": {"reference", "current"},
}


def test_every_shipped_policy_is_tested_here():
    assert sorted(PHASES) == shipped_policies()


@pytest.fixture
def toy(toy):
    """A toy recipe with 12 prompts, without a section `train`."""
    toy.script(ANSWER)
    del toy.fields["train"]
    toy.write(loop={"iterations": 0})
    return toy


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished toy recipe with the policy `temporal` and 40 prompts."""
    from toys import publishable

    toy = publishable(tmp_path_factory.mktemp("only") / "toy")
    toy.script(ANSWER)
    toy.fields["loop"] = {"iterations": 0}
    toy.write()
    toy.finish()
    return toy


def rows(folder):
    return [
        row for file in folder.glob("data/*.parquet") for row in pq.read_table(file).to_pylist()
    ]


def recipe_of(policy, iterations, **sections):
    fields = {"name": "r", "model": "m", "prompts": {"files": ["p"]}}
    loop = {"policy": policy, "iterations": iterations}
    return Recipe.model_validate({**fields, "loop": loop, **sections})


OPENAI = {"name": "openai", "base_url": "http://localhost/v1", "model": "m"}


@pytest.mark.parametrize("policy", PHASES)
@pytest.mark.parametrize("judge", [{}, {"by": "previous"}, {"model": "other"}])
@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_the_steps_are_the_first_ones_of_iteration_0(policy, judge, engine):
    sections = {"judge": judge, "engine": {"name": engine}}
    without = steps(recipe_of(policy, 0, **sections))
    whole = steps(recipe_of(policy, 1, **sections))
    assert without == whole[: len(without)]
    assert whole[len(without)].stage == "train"
    assert without[-1].stage == "pairs"
    assert without[-1].phase == PHASES[policy]
    assert load_policy(recipe_of(policy, 0)).final_phase == PHASES[policy]
    assert load_policy(recipe_of(policy, 1)).final_phase == "D2"


@pytest.mark.slow
def test_the_probe_measures_the_model_once(toy):
    toy.add_probe()
    state = toy.run()
    assert [step.name for step in state.steps if step.role == "probe" and step.name] == ["M_0"] * 3


@pytest.mark.parametrize(
    "train",
    [
        {"lora": {"r": 4}},
        {"dpo": {"no_such_field": 1}},
        {"with": "command", "command": "no-such-program {pairs} {parent} {out}"},
        {"with": "manual"},
    ],
)
@pytest.mark.parametrize("engine", [{"name": "vllm"}, OPENAI])
def test_the_section_train_changes_nothing(train, engine):
    with_it = recipe_of("temporal", 0, train=train, engine=engine)
    assert not with_it.one_engine
    assert steps(with_it) == steps(recipe_of("temporal", 0, engine=engine))


@pytest.mark.parametrize(
    "policy",
    ["temporal", *(pytest.param(name, marks=pytest.mark.slow) for name in [*PHASES][1:])],
)
def test_every_policy_makes_its_first_pairs_of_all_prompts(toy, policy):
    toy.write(loop={"policy": policy})
    state = toy.run()
    assert not list(toy.lake.glob("models/*"))
    assert toy.to_do() == set()
    gaps = toy.query("from gaps")
    assert [(row["iteration"], row["phase"], row["prompts"]) for row in gaps] == [
        (0, PHASES[policy], 12)
    ]
    found = rows(write_dataset(state, "toy"))
    assert len(found) == gaps[0]["kept"] > 0
    assert {row["iteration"] for row in found} == {0}
    roles = {row["role"] for row in toy.query("from candidates")}
    assert roles == ROLES.get(policy, {"current"})


def test_both_sides_come_from_different_draws_of_one_model(made):
    answers = made.query("from candidates")
    assert {row["name"] for row in answers} == {"M_0"}
    draws = {role: set() for role in ("past", "current")}
    for row in answers:
        draws[row["role"]].add(row["draw"])
    assert draws == {"past": {1024, 1025, 1026}, "current": {0, 1, 2}}
    scores = {}
    for row in answers:
        scores.setdefault((row["prompt_id"], row["role"]), []).append(row["score"])
    for pair in made.query("from final_pairs where outcome = 'kept'"):
        past, current = (scores[pair["prompt_id"], role] for role in ("past", "current"))
        assert pair["score_chosen"] == max(current)
        assert pair["score_rejected"] == min(past + current)


def test_chunks_choose_a_part_of_the_prompts(toy):
    toy.write(loop={"chunks": 3})
    toy.run()
    (counted,) = toy.query("select count(*) as n from prompts where iteration = 0")
    asked = {row["prompt_id"] for row in toy.query("from candidates")}
    assert 0 < len(asked) == counted["n"] < 12


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [None, 2])
def test_more_iterations_later_reuse_the_answers(toy, chunks):
    """The answers of M_0 are asked only once: those that it gave as current are its answers as
    past in the prompts' later iteration."""
    toy.write(loop={"chunks": chunks}, train={"with": "scripted"})
    before = toy.run()
    (build,) = toy.lake.glob("pairs/*")
    later = toy.look("loop.iterations=2")
    for step, found in later.steps.items():
        if step.stage == "samples" and step.name == "M_0":
            has_past = chunks is None or step.iteration == 0
            assert found.missing == (0 if has_past else found.wanted), step.label
        if step.stage in ("judgments", "verdicts") and step.iteration == 0 and step.name == "M_0":
            assert found.done, step.label
    toy.run("loop.iterations=2")
    first = next(step for step in later.steps if step.stage == "pairs")
    assert later.steps[first].done == (chunks == 2)
    assert (later.steps[first].folder.key == build.name) == (chunks == 2)
    asked = toy.query("select * from samples", "loop.iterations=2")
    assert len({row["sample_id"] for row in asked}) == len(asked)
    assert toy.to_do() == set()  # the dataset without training is still there
    assert before.steps.keys() == toy.look().steps.keys()


def test_a_dataset_without_a_pair_is_a_failure_and_stays_one(toy, factory):
    toy.script("def answer(messages, seed):\n    return f'word {seed}\\nScore: 3'\n")
    for _ in range(2):
        with pytest.raises(StepFailed, match=r"no pair was kept \(12 tie\), so the dataset would"):
            toy.run("stop_if.equal_scores=false")


def test_too_few_prompts_are_refused_before_any_generation(toy, factory):
    toy.write_prompts(2)
    toy.write(loop={"chunks": 50})
    ended = factory("run", toy.path, "--lake", toy.lake)
    assert ended.code == 2
    assert "add prompts, lower loop.chunks, or lower prompts.test_fraction" in ended.err
    assert not toy.lake.exists()


# Commands


def test_the_plan_has_no_training(toy, factory):
    plan = factory("plan", toy.path, "--lake", toy.lake, "--json").json()
    assert plan["totals"]["trainings"] == 0
    assert plan["totals"]["loads"] == 1
    assert {row["stage"] for row in plan["steps"]} == {
        *("prompts", "samples", "judgments", "verdicts", "pairs")
    }
    answers = 12 * 3 * 2
    assert plan["totals"]["requests"] == answers + answers * 2
    shown = factory("plan", toy.path, "--lake", toy.lake)
    assert " 0 trainings, " in shown.out


@pytest.mark.slow
def test_the_commands_after_a_run_find_its_pairs(made, factory, tmp_path):
    def call(command, *args):
        ended = factory(command, made.path, *args, "--lake", made.lake)
        assert ended.code == 0, ended.err
        return ended

    told = call("run", "--json").json()
    assert [(row["iteration"], row["phase"]) for row in told["gaps"]] == [(0, "D1")]
    assert sum(told["rows"].values()) == told["gaps"][0]["kept"] > 20
    status = call("status", "--json").json()
    assert {row["state"] for row in status["steps"]} == {"done"}
    shown = call("sql", "pair_texts", "--format", "json").json()
    assert len(shown) == told["gaps"][0]["kept"]
    (pair, *_) = shown
    traced = factory("trace", made.path, pair["pair_id"], "--lake", made.lake, "--json").json()
    assert traced["pair"]["phase"] == "D1"
    build = call("pairs", "--name", "plain", "--set", "loop.policy=self_rewarding", "--json").json()
    assert [row["phase"] for row in build["gaps"]] == ["D2"]
    assert build["inside_the_loop"]["trainings"] == 0
    wide = call("pairs", "--name", "wide", "--set", "pairs.min_margin=3", "--json").json()
    assert [row["phase"] for row in wide["gaps"]] == ["D1"]
    assert wide["inside_the_loop"]["trainings"] == 0
    diff = factory("diff", made.path, wide["dataset"], "--lake", made.lake, "--json").json()
    assert {row["status"] for row in diff["counts"]} == {"same", "lost"}


def test_another_policy_needs_only_the_roles_of_its_first_phase(toy, factory):
    toy.write(loop={"policy": "self_rewarding"})
    toy.run()
    command = ("pairs", toy.path, "--lake", toy.lake, "--name", "b", "--set")
    assert factory(*command, "loop.policy=future_guided").code == 0
    refused = factory(*command, "loop.policy=temporal")
    assert refused.code == 2
    assert "the policy temporal needs past answers" in refused.err


@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_trainer_gets_the_pairs(made, factory, tmp_path, trainer):
    out = tmp_path / "out"
    ended = factory(
        *("export", made.path, "--lake", made.lake, "--to", trainer, "--out", out, "--json")
    )
    assert ended.code == 0, ended.err
    assert ended.json()["rows"]["train"] > 10
    assert ended.json()["left_out"] == []


def test_the_answers_without_a_rejected_side_are_exported_to_sft(toy, factory, tmp_path):
    toy.write(loop={"policy": "rejection_sampling"})
    toy.run()
    command = ("export", toy.path, "--lake", toy.lake, "--to")
    assert factory(*command, "sft", "--out", tmp_path / "sft").code == 0
    refused = factory(*command, "trl", "--out", tmp_path / "trl")
    assert refused.code == 2
    assert "export the dataset to sft" in refused.err


def test_the_dataset_opens_and_says_where_it_comes_from(made, tmp_path):
    datasets = pytest.importorskip("datasets")
    folder = write_dataset(made.look(), "toy")
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path))
    counted = Counter(row["split"] for row in made.query("from pairs where outcome = 'kept'"))
    assert {split: len(found) for split, found in loaded.items()} == counted
    card = (folder / "README.md").read_text()
    assert "with the policy `temporal` from answers of M_0. " in card
    assert "The answers were scored by the model itself." in card


def test_no_model_can_be_adopted(toy, factory):
    toy.write(train={"with": "manual"})
    toy.run()
    ended = factory(
        *("adopt", toy.path, toy.folder / "m0", "--lake", toy.lake),
        *("--iteration", 0, "--role", "future"),
    )
    assert ended.code == 2
    assert "loop.iterations: got 0, so the loop trains no models" in ended.err


def test_fewer_than_no_iterations_are_refused(toy, factory):
    ended = factory("plan", toy.path, "--set", "loop.iterations=-1", "--json")
    assert ended.code == 2
    assert json.loads(ended.out)["field"] == "loop.iterations"
