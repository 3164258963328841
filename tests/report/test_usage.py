"""Tests of usage and estimates: manifests, status, plan, and the final table."""

import json

import pytest

from factory.errors import StepFailed
from factory.lake import TABLES, Lake
from factory.plan import read_state
from factory.recipe import load_recipe
from factory.report import (
    Usage,
    estimates,
    generation_lines,
    plan_rows,
    plan_totals,
    usage_by_stage,
    usage_of_step,
    work_rows,
)


def held(toy, table):
    """Return the numbers of rows, prompt tokens, and generated tokens in a table of the lake."""
    (row,) = toy.query(
        f"select count(*) as n, sum(n_prompt_tokens) as read, sum(n_tokens) as written from {table}"
    )
    return row["n"], row["read"], row["written"]


def test_the_work_of_a_run_is_what_its_rows_hold(toy):
    toy.finish()
    survey = toy.look()
    for stage in ("samples", "judgments"):
        spent = usage_by_stage(survey)[stage]
        assert (spent.answered, spent.prompt_tokens, spent.tokens) == held(toy, stage)
        assert spent.seconds > 0
        assert spent.cost is None
    rows = {row["stage"]: row for row in work_rows(survey)}
    assert set(rows) == {"samples", "judgments", "train"}
    assert rows["train"]["made"] == 4
    spent, rate = usage_by_stage(survey)["samples"], rows["samples"]["tokens_per_second"]
    assert rate == pytest.approx(spent.tokens / spent.seconds, abs=0.1)


def test_work_that_broke_off_is_counted(toy):
    toy.script(
        "def answer(messages, seed):\n    if seed % 5 == 0: raise ValueError\n    return 'x'"
    )
    with pytest.raises(StepFailed):
        toy.run("max_failed=0.01", "shards.seconds=0.01")
    spent = usage_by_stage(toy.look("max_failed=0.01"))["samples"]
    n_rows = sum(
        row["n"] for row in toy.query("select count(*) as n from samples where error is null")
    )
    assert spent.answered == n_rows > 0
    assert spent.seconds > 0


def test_a_second_run_adds_nothing(toy):
    toy.finish()
    first = usage_by_stage(toy.look())
    assert usage_by_stage(toy.run()) == first


def test_what_was_taken_over_is_no_work(toy):
    toy.finish()
    survey = toy.run("sampling.max_tokens=128")
    rows = {row["stage"]: row for row in work_rows(survey)}
    assert rows["samples"]["made"] > 0
    assert usage_by_stage(survey)["samples"] == Usage()


def test_costs_add_up():
    assert Usage(cost=None) + Usage(cost=None) == Usage()
    assert (Usage(cost=1.5) + Usage(cost=None) + Usage(cost=2.0)).cost == 3.5


def test_a_plan_takes_time_and_tokens_from_the_same_step(toy):
    toy.finish()
    toy.write_prompts(24)
    more = toy.look()
    rows = plan_rows(more)
    found = {
        step: about
        for step, about in estimates(more).items()
        if step.stage == "samples" and about.measured == step.label
    }
    assert found
    for step, about in found.items():
        spent, to_ask = usage_of_step(more.steps[step]), more.steps[step].missing
        assert about.tokens == pytest.approx(spent.tokens * to_ask / spent.answered, abs=1)
        assert about.seconds == pytest.approx(spent.seconds * to_ask / spent.answered)
    assert plan_totals(more, rows)["seconds"] > 0


def test_a_plan_of_another_recipe_takes_what_the_lake_knows(toy):
    toy.finish()
    other = toy.look("seed=9")
    assert all(not about.at_most for about in estimates(other).values())


def test_a_plan_without_experience_says_at_most_and_no_time(toy):
    survey = toy.look()
    rows = plan_rows(survey)
    totals = plan_totals(survey, rows)
    assert totals["seconds"] is None
    assert totals["cost"] is None
    assert {row["tokens_are"] for row in rows if row["expected_tokens"]} == {"at most"}


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.slow
def test_a_constrained_judge_is_estimated_at_the_length_of_its_labels(toy, is_known):
    if is_known:
        toy.finish()  # judgments of another judge, which are longer
    state = toy.look("judge.constrained=true", "judge.rubric=rating", "judge.max_tokens=1000")
    for step, estimate in estimates(state).items():
        if step.stage == "judgments" and (missing := state.steps[step].missing):
            assert estimate.tokens <= 2 * missing  # a digit, and the end of the text


def test_the_cost_is_told_where_the_manifests_have_one(toy, factory):
    toy.finish()
    for folder in Lake(toy.lake).folders("judgments"):
        labels = {event["step"] for event in folder.events() if "step" in event}
        folder.record({"step": max(labels), "cost": 0.25, "versions": {"scripted": "1"}})
    told = factory("status", toy.path, "--lake", toy.lake)
    header = next(line for line in told.out.splitlines() if "written/s" in line and "made" in line)
    assert header.split()[-1] == "cost"
    rows = factory("status", toy.path, "--lake", toy.lake, "--json").json()["work"]
    cost = {row["stage"]: row["cost"] for row in rows}
    assert cost["judgments"] == 0.25 * len(Lake(toy.lake).folders("judgments"))
    toy.write_prompts(24)
    planned = factory("plan", toy.path, "--lake", toy.lake, "--json").json()
    costs = [row["expected_cost"] for row in planned["steps"] if row["stage"] == "judgments"]
    assert any(costs)


def test_status_and_run_show_the_work(toy, factory):
    for verb in ("run", "status"):
        told = factory(verb, toy.path, "--lake", toy.lake).out
        assert "Work of all runs" in told
        (line,) = [line for line in told.splitlines() if line.startswith("judgments  ")]
        assert line.split()[1] == f"{len(toy.query('from judgments')):,}"


def test_what_the_models_generation_config_decides_is_shown(toy, factory):
    said = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "eos_token_id": 1}
    (toy.folder / "m0" / "generation_config.json").write_text(json.dumps(said))
    toy.write(judge={"top_k": 5})
    told = factory("plan", toy.path, "--lake", toy.lake).out
    assert (
        "sampling: temperature 0.8, top_p 0.95, top_k 20 (the model's generation_config), "
        "max_tokens 64; not used from the model's generation_config: temperature 0.6\n"
    ) in told
    assert "judge: temperature 0.8, top_p 0.95, top_k 5, max_tokens 64;" in told


def test_a_judge_that_is_a_function_draws_nothing(toy):
    toy.write(judge={"function": "gold.py:grade", "draws": 1})
    (line,) = generation_lines(read_state(load_recipe(toy.path), Lake(toy.lake)))
    assert line.startswith("sampling: ")


def test_nothing_of_the_accounts_is_in_the_rows():
    assert all("cost" not in schema.names for schema in TABLES.values())
