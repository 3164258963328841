"""The role `reference`: the prompts' own answers as samples that no model wrote (SPIN)."""

import json

import pytest

from factory.lake import Lake, verify_lake
from factory.models import text_counter
from factory.plan import steps

JUDGED = (
    "def answer(messages, seed):\n"
    "    text = messages[-1]['content']\n"
    "    if 'Judge:' not in text: return f'word {seed % 7}'\n"
    "    return f\"Score: {2 if 'word' in text else 5}\"\n"
)
RUBRIC = "---\nscale: [0, 5]\nparser: 'Score: (\\d)'\n---\nJudge: {prompt} {answer}"


@pytest.fixture
def spin(toy):
    """A judge that always prefers the reference."""
    toy.script(JUDGED)
    (toy.folder / "rubric.md").write_text(RUBRIC)
    toy.write(judge={"rubric": "rubric.md"}, loop={"policy": "spin"})
    return toy


def edit(toy, **fields):
    """Change fields of the first prompt. A value of None removes the field."""
    lines = [json.loads(line) for line in toy.prompts.read_text().splitlines()]
    lines[0] = {name: value for name, value in {**lines[0], **fields}.items() if value is not None}
    toy.prompts.write_text("\n".join(map(json.dumps, lines)))


def test_references_are_samples_judged_like_all_others(spin):
    spin.finish()
    survey = spin.look()
    rows = spin.query(
        "select candidates.text, prompts.reference, candidates.draw, model, engine, name, score, "
        "n_judgments from candidates join prompts using (prompt_id) where role = 'reference'"
    )
    assert len(rows) == 12
    for row in rows:
        assert row["text"] == row["reference"]
        assert (row["draw"], row["model"], row["engine"]) == (0, "reference", "reference")
        assert (row["name"], row["score"], row["n_judgments"]) == ("reference", 5.0, 2)
    kept = spin.query("from pairs where outcome = 'kept'")
    assert len(kept) == 12
    assert {(row["chosen_role"], row["rejected_role"]) for row in kept} == {
        ("reference", "current")
    }
    assert {row["rejected_id"] for row in kept} == {
        row["sample_id"]
        for row in spin.query("from candidates where role = 'current' and draw = 0")
    }
    for found in survey.steps.values():
        assert found.wanted == found.answered + found.failed + found.filtered
    assert verify_lake(Lake(spin.lake)).faults == []
    assert spin.to_do() == set()


@pytest.mark.slow
def test_no_model_is_loaded_or_paid_for_the_references(spin, factory):
    planned = factory("plan", spin.path, "--lake", spin.lake, "--json").json()
    # M_0 samples and judges, and so does M_1: the references need no extra load.
    assert planned["totals"]["loads"] == 2
    assert planned["totals"]["requests"] == 12 * 3 + 12 * (3 + 1) * 2
    (row, _) = [row for row in planned["steps"] if row["model"] == "reference"][::3]
    assert (row["step"], row["missing"]) == ("samples of the references", row["wanted"])
    assert row["expected_tokens"] == 0
    shown = factory("plan", spin.path, "--lake", spin.lake).out
    assert "samples references" in shown
    assert "judgments references by M_0" in shown
    needed = {step.loads for step in steps(spin.recipe()) if step.loads}
    assert needed == {"M_0", "M_1"}

    spin.finish()
    told = factory("status", spin.path, "--lake", spin.lake, "--json").json()
    given = [row for row in told["steps"] if row["step"] == "samples of the references"]
    assert [row["tokens"] for row in given] == [0, 0]
    assert sum(row["answered"] for row in given) == 12


@pytest.mark.slow
def test_another_reference_is_another_sample_and_the_old_one_plays_no_role(spin):
    spin.finish()
    old = spin.query("select sample_id, text from candidates where role = 'reference'")
    edit(spin, reference="another")
    missing = {
        (step.stage, step.role): found.missing
        for step, found in spin.look().steps.items()
        if found.missing and not found.waits_for and step.stage in ("samples", "judgments")
    }
    assert missing == {("samples", "reference"): 1, ("judgments", "reference"): 2}
    spin.run()
    new = spin.query("select sample_id, text from candidates where role = 'reference'")
    assert len(new) == 12
    assert len({row["sample_id"] for row in new} - {row["sample_id"] for row in old}) == 1
    assert "another" in {row["text"] for row in new}
    chosen = {row["chosen_id"] for row in spin.query("from pairs")}
    assert chosen == {row["sample_id"] for row in new}


@pytest.mark.parametrize("reference", [None, "", "  \n"])
def test_a_prompt_without_a_reference_is_refused_before_any_generation(spin, factory, reference):
    edit(spin, reference=reference)
    ended = factory("run", spin.path, "--lake", spin.lake)
    assert ended.code == 2
    assert (
        "prompts.files: 1 of 12 prompts have no reference (for example, Say number 0.), but the "
        "policy spin uses the reference as one side of each pair: add a reference to every prompt, "
        "or choose another loop.policy"
    ) in ended.err
    assert not spin.shards("samples")
    none_needed = ("--set", "loop.policy=self_rewarding")
    assert factory("preview", spin.path, "--lake", spin.lake, *none_needed).code == 0


@pytest.mark.slow
def test_the_probe_needs_no_reference(spin):
    spin.add_probe()
    lines = [json.loads(line) for line in (spin.folder / "probe.jsonl").read_text().splitlines()]
    for line in lines:
        del line["reference"]
    (spin.folder / "probe.jsonl").write_text("\n".join(map(json.dumps, lines)))
    spin.run()
    assert len(spin.query("from candidates where role = 'probe'")) == 3 * 4
    assert len(spin.query("from candidates where role = 'reference'")) == 12


@pytest.mark.slow
def test_more_prompts_and_other_draws_make_only_what_is_missing(spin):
    spin.finish()
    before = set(spin.shards("samples"))
    spin.write_prompts(14)
    spin.run("sampling.draws=4")
    assert before < set(spin.shards("samples"))
    assert len(spin.query("from candidates where role = 'reference'")) == 14
    keys = {row["sampling_key"] for row in spin.query("from samples where model = 'reference'")}
    assert len(keys) == 1


def test_references_are_the_same_under_another_temperature(spin):
    spin.run("loop.iterations=1", "loop.chunks=2")
    change = ("loop.iterations=1", "loop.chunks=2", "sampling.temperature=0.5", "seed=3")
    done = {step.role for step, found in spin.look(*change).steps.items() if found.done}
    assert done & {"reference", "current"} == {"reference"}


def test_a_preview_judges_the_references_too(spin, factory):
    shown = factory("preview", spin.path, "--lake", spin.lake, "--first", "2")
    assert shown.code == 0, shown.err
    assert shown.out.count("  reference 0  [5.00]") == 2
    assert shown.out.count("  current 0  [2.00]") == 2


def test_a_trace_says_that_a_side_is_the_reference(spin, factory):
    spin.finish()
    (pair, *_) = spin.query("from pairs where outcome = 'kept' order by pair_id")
    told = factory("trace", pair["pair_id"], "--lake", spin.lake).out
    assert f"Chosen {pair['chosen_id']}: draw 0 of reference\n  samples/" in told
    assert f"Rejected {pair['rejected_id']}: draw 0 of current\n  by model" in told


def test_a_build_from_a_loop_that_judged_no_reference_is_refused(toy, factory):
    toy.write(loop={"policy": "self_rewarding"})
    toy.finish()
    ended = factory(
        "pairs", toy.path, "--lake", toy.lake, "--name", "s", "--set", "loop.policy=spin"
    )
    assert ended.code == 2
    assert "the policy spin needs reference answers, but the loop's policy" in ended.err


def test_a_real_model_judges_references_and_counts_their_tokens(small):
    del small.fields["probe"]
    small.write(
        loop={"policy": "spin"},
        sampling={"draws": 1},
        judge={"draws": 1},
        train={"with": "scripted", "dpo": {}},  # M_1 is never sampled
    )
    survey = small.run()
    count = text_counter(survey.models["M_0"])
    rows = small.query("from candidates where role = 'reference'")
    assert len(rows) == 24
    assert all(row["n_tokens"] == count(row["text"]) for row in rows)
    # References end as M_0's answers do, so a correct answer of M_0 is equally long.
    same = small.query(
        "select a.n_tokens as given, b.n_tokens as written from candidates a join candidates b "
        "using (prompt_id, text) where a.role = 'reference' and b.role = 'current'"
    )
    assert same
    assert all(row["given"] == row["written"] for row in same)
    kept = small.query("from pairs where outcome = 'kept'")
    assert {(row["chosen_model"], row["chosen_role"]) for row in kept} == {
        ("reference", "reference")
    }
