"""The full loop on a toy recipe: its results, and a second run that changes nothing."""

import json

import pyarrow.parquet as pq
import pytest

from factory.errors import LakeError, StepFailed
from factory.export import dataset_rows, write_dataset
from factory.lake import Lake
from factory.progress import Silent
from factory.run import run_recipe

OUTCOMES = ("kept", "ties", "identical", "unscored", "filtered")


def test_a_run_leaves_pairs_of_the_future_and_the_past(toy):
    toy.finish()
    gaps = toy.query("from gaps")
    assert [(row["iteration"], row["phase"]) for row in gaps] == [
        (0, "D1"),
        (0, "D2"),
        (1, "D1"),
        (1, "D2"),
    ]
    assert sum(row[name] for row in gaps for name in OUTCOMES) == 24
    assert sum(row["chosen_from_future"] for row in gaps if row["phase"] == "D1") == 0
    assert sum(row["chosen_from_future"] for row in gaps if row["phase"] == "D2") > 0
    assert sum(row["rejected_from_past"] for row in gaps) > 0
    assert all(row["score_chosen"] > row["score_rejected"] for row in gaps)


def test_running_again_does_nothing_and_changes_no_file(toy):
    toy.add_probe()
    toy.finish()
    before = tables(toy)
    toy.run()
    assert tables(toy) == before


def tables(toy):
    """Return every file of the lake's tables, models, and datasets."""
    return {
        path: path.stat().st_mtime_ns
        for path in toy.lake.glob("*/**/*")
        if path.is_file() and path.parent.name != "locks"
    }


@pytest.mark.slow
def test_every_step_accounts_for_all_it_wanted(toy):
    toy.add_probe()
    toy.finish()
    survey = toy.look()
    for found in survey.steps.values():
        assert found.wanted == found.answered + found.failed + found.filtered
    wanted = {step.label: found.wanted for step, found in survey.steps.items()}
    n = survey.count_prompts(next(s for s in survey.steps if s.stage == "pairs"), None)
    assert wanted["samples of M_0 as current, iteration 0"] == 3 * n
    assert wanted["judgments of F_0 as future by M_0, iteration 0"] == 2 * 3 * n


def test_past_and_current_are_different_draws_of_the_same_model(toy):
    toy.finish()
    rows = toy.query(
        "select role, min(draw) as first, max(draw) as last, count(distinct model) as models "
        "from candidates where iteration = 0 and role != 'future' group by role order by role"
    )
    assert rows == [
        {"role": "current", "first": 0, "last": 2, "models": 1},
        {"role": "past", "first": 1024, "last": 1026, "models": 1},
    ]


def test_models_do_not_share_noise(toy):
    toy.finish()
    (row,) = toy.query(
        "select count(*) filter (a.text = b.text) as same, count(*) as pairs from candidates a "
        "join candidates b using (iteration, prompt_id, draw) "
        "where a.role = 'current' and b.role = 'future'"
    )
    assert row["pairs"] > 0
    assert row["same"] == 0


@pytest.mark.slow
def test_test_prompts_are_paired_and_never_trained_on(toy):
    toy.write(prompts={"test_fraction": 0.5}, loop={"iterations": 1})
    survey = toy.run()
    splits = {row["split"] for row in toy.query("select distinct split from pairs")}
    assert splits == {"train", "test"}
    for step, found in survey.steps.items():
        if step.stage == "train":
            manifest = json.loads((found.folder.path / "manifest.json").read_text())
            (kept,) = toy.query(
                "select count(*) as n from pairs where outcome = 'kept' and split = 'train' "
                f"and iteration = {step.iteration} and phase = '{step.phase}'"
            )
            assert manifest["n_pairs"] == kept["n"]


@pytest.mark.slow
def test_iterations_share_no_prompt(toy):
    toy.write(loop={"iterations": 3})
    toy.write_prompts(40)
    toy.finish()
    (row,) = toy.query(
        "select count(*) as prompts, count(distinct prompt_id) as distinct_prompts from pairs "
        "where phase = 'D2'"
    )
    assert row["prompts"] == row["distinct_prompts"] == 40


def test_the_probe_is_asked_of_every_model_and_chooses_no_pair(toy):
    toy.add_probe()
    toy.finish()
    names = toy.query("select distinct name from candidates where role = 'probe' order by name")
    assert [row["name"] for row in names] == ["F_0", "F_1", "M_0", "M_1", "M_2"]
    (row,) = toy.query(
        "select count(*) as n from pairs join prompts using (prompt_id) where prompts.split = "
        "'probe'"
    )
    assert row["n"] == 0


def test_self_rewarding_takes_both_sides_from_the_current_model(toy):
    toy.write(loop={"policy": "self_rewarding"})
    toy.finish()
    survey = toy.look()
    assert {name[0] for name in survey.models} == {"M"}
    roles = toy.query("select distinct chosen_role, rejected_role from pairs")
    assert roles == [{"chosen_role": "current", "rejected_role": "current"}]
    assert {row["phase"] for row in toy.query("from gaps")} == {"D2"}


@pytest.mark.slow
def test_a_function_judge_scores_without_a_model(toy):
    toy.write(judge={"function": "gold.py:grade", "scale": [0, 5]}, loop={"iterations": 1})
    toy.run()
    assert toy.query("select distinct engine, dtype from judgments") == [
        {"engine": "function", "dtype": None}
    ]
    (row,) = toy.query("select count(*) as n from candidates where score != length(text) % 6")
    assert row["n"] == 0


def test_all_ties_stop_before_any_training_and_leave_the_pairs(toy):
    toy.script("def answer(messages, seed):\n    return f'word {seed}\\nScore: 3'\n")
    with pytest.raises(StepFailed, match=r"no pair in the train split was kept .* tie"):
        toy.run("stop_if.equal_scores=false")
    assert {row["outcome"] for row in toy.query("select distinct outcome from pairs")} == {"tie"}
    assert not list(toy.lake.glob("models/*/model"))


def test_judges_that_say_nothing_make_no_score(toy):
    said = ["nonsense", "", "Score: 1 or Score: 4", "Score: 77", "Score: -1"]
    toy.script(
        "def answer(messages, seed):\n"
        "    if 'grade one answer' not in messages[0]['content']:\n"
        "        return f'word {seed}'\n"
        f"    return {said!r}[seed % {len(said)}]\n"
    )
    with pytest.raises(StepFailed, match="unscored"):
        toy.run("stop_if.unparsed=1")
    assert toy.query("select count(*) as n from verdicts where score is not null") == [{"n": 0}]
    reasons = {row["reason"] for row in toy.query("select distinct reason from verdicts")}
    assert reasons == {
        "no score",
        "empty judgment",
        "out of scale: 77 is not in 0 to 5",
        "out of scale: -1 is not in 0 to 5",
    }


def test_a_build_without_kept_pairs_keeps_its_columns_and_is_an_empty_dataset(toy):
    toy.script("def answer(messages, seed):\n    return f'word {seed}\\nScore: 3'\n")
    with pytest.raises(StepFailed, match="F_0 cannot be trained"):
        toy.run("stop_if.equal_scores=false")
    folder = write_dataset(toy.look(), "toy")
    assert dataset_rows(folder) == {}
    (file,) = toy.shards("pairs")
    assert "chosen_id" in pq.read_schema(file).names


def test_an_iteration_without_prompts_is_refused_before_any_generation(toy, factory):
    toy.write_prompts(3)
    toy.write(loop={"iterations": 9})
    ended = factory("run", toy.path, "--lake", toy.lake)
    assert ended.code == 2
    assert "add prompts, lower loop.iterations" in ended.err
    assert not list(toy.lake.glob("samples/*"))


@pytest.mark.slow
def test_preview_keeps_its_rows_and_the_run_goes_on_from_them(toy, factory):
    shown = factory("preview", toy.path, "--lake", toy.lake, "--first", 2)
    assert shown.code == 0
    assert shown.out.count("Say number") == 2
    held = sum(found.answered for s, found in toy.look().steps.items() if s.stage == "samples")
    assert held == 2 * 3 * 2
    survey = toy.run()
    folders = {str(f.folder): f.folder for s, f in survey.steps.items() if s.stage == "samples"}
    events = [event for folder in folders.values() for event in folder.events()]
    (held,) = toy.query("select count(distinct (sampling_key, request_id, draw)) as n from samples")
    assert sum(event.get("answered", 0) for event in events) == held["n"]


# number of times that the state of a step is computed


@pytest.fixture
def counted(monkeypatch):
    """Collect the labels of the steps whose rows are counted, in order."""
    from factory.plan import inspect
    from factory.run import loop

    labels = []
    real = inspect.count_step

    def count_step(state, located, limit=None):
        labels.append(located.step.label)
        return real(state, located, limit)

    for module in (inspect, loop):
        monkeypatch.setattr(module, "count_step", count_step)
    return labels


@pytest.mark.slow
def test_a_run_counts_each_step_once_before_its_work_and_once_after(toy, counted):
    state = toy.run()
    assert len(state.steps) == 27
    worked = {label for label in counted if counted.count(label) == 2}
    assert all(counted.count(label) <= 2 for label in counted)
    # If steps share a folder, later ones may find their rows there.
    assert len(counted) == 27 + len(worked)


def test_an_up_to_date_run_counts_each_step_once(toy, counted):
    toy.finish()
    counted.clear()
    state = toy.run()
    assert sorted(counted) == sorted(step.label for step in state.steps)


def test_reading_the_state_counts_each_step_once(toy, counted):
    toy.finish()
    counted.clear()
    state = toy.look()
    assert len(counted) == len(state.steps) == 27


def test_an_up_to_date_run_needs_no_lock_that_another_run_holds(toy):
    """If all rows are stored, a run waits for no lock and writes nothing."""
    toy.finish()
    lake = Lake(toy.lake)
    (folder, *_) = lake.folders("samples")
    progress = Silent()
    told = []
    progress.say = told.append
    with folder.lock("a run that holds the samples"):
        run_recipe(toy.recipe(), Lake(toy.lake), progress)
    assert not any("waiting" in line for line in told)


@pytest.mark.slow
def test_finished_steps_are_checked_before_their_pass_does_more_work(toy, monkeypatch):
    """A finished step that exceeds a limit stops the run before more work."""
    from factory.run import loop

    toy.run("loop.iterations=1", "loop.chunks=2")
    events = []
    work, check = loop._Run._work, loop._Run.check

    def logged_work(run, to_do, lock):
        events.append(f"work on {to_do[0].step.label}")
        work(run, to_do, lock)

    def logged_check(run, step_state):
        events.append(f"check of {step_state.step.label}")
        check(run, step_state)

    monkeypatch.setattr(loop._Run, "_work", logged_work)
    monkeypatch.setattr(loop._Run, "check", logged_check)
    toy.run("loop.iterations=2")
    worked = events.index("work on samples of M_0 as past, iteration 1")
    assert "check of samples of M_0 as current, iteration 0" in events[:worked]


def test_an_up_to_date_run_works_although_its_locks_cannot_be_written(toy, monkeypatch):
    """A finished run writes nothing, so it also works on a full disk."""
    toy.finish()
    for _ in range(2):  # until the cache has exactly the counts of this recipe
        toy.run()

    def full(*_):
        raise LakeError("the disk of the lake", "is full")

    monkeypatch.setattr(Lake, "_sign", full)
    toy.run()
