"""What a report shows next to the score gap: figures, remarks, tables, and the picture."""

import re
from xml.etree import ElementTree

import duckdb
import pyarrow as pa
import pytest
from toys import publishable, write_published

from factory.api import open as open_recipe
from factory.errors import FactoryError
from factory.lake import Views, shipped_queries
from factory.pairs import make_choice, shipped_policies
from factory.pairs.policy import load_policy
from factory.recipe import Recipe
from factory.report import (
    draw_picture,
    iteration_tables,
    quality,
    remarks,
    text_table,
    truncation,
)

GOLD = """
def grade(rows):
    return [float(len(row['answer']) % 6) for row in rows]

def short(rows):
    return [-float(len(row['answer'])) for row in rows]
"""

# the score that ranks the pairs

PLACED = {"iteration": 0, "role": "current", "name": "M_0"}

SCORES = pa.Table.from_pylist(
    [
        {**PLACED, "sample_id": "s", "score": 4.0, "expected_score": 3.5, "n_tokens": 10},
        {**PLACED, "sample_id": "t", "score": None, "expected_score": None, "n_tokens": 0},
        {**PLACED, "role": "probe", "sample_id": "u", "score": 1.0, "expected_score": None,
         "n_tokens": 5},
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("score", "found", "ranks_by"),
    [
        ("mean", [4.0, None, 1.0], "score"),
        ("expected", [3.5, None, 1.0], "expected_score"),
        ("judge + short", [6.0, None, 1.0], "score"),
        ("judge_expected * 2", [7.0, None, 1.0], "expected_score"),
        ("judge_expected + judge", [7.5, None, 1.0], "score"),
        ("expected_score - n_tokens", [-6.5, None, 1.0], "expected_score"),
        ("judge / n_tokens - n_tokens", [-9.6, None, 1.0], "score"),
        ("coalesce(judge, 1) / n_tokens", [0.4, None, 1.0], "score"),  # not infinite
    ],
)
def test_pair_score_is_the_score_that_ranks_the_pairs(score, found, ranks_by):
    recipe = Recipe.model_validate(
        {
            "name": "r",
            "model": "m",
            "prompts": {"files": ["p"]},
            "pairs": {"score": score},
            "judge": {"expected_score": True},
            "judges": {"short": {"function": "gold.py:short"}},
        }
    )
    choice = make_choice(recipe, load_policy(recipe))
    assert choice.ranks_by("judge") == ranks_by
    assert choice.ranks_by("short") == ("score" if "short" in score else None)
    assert choice.ranks_by("probe") is None
    with Views() as views:
        for name in ("placed", "scores", "judge_scores"):
            views.con.execute(f"drop view {name}")
        views.register("scored", SCORES)
        place = "select *, 'p' as parser_key, 1 as n_judge_draws from scored"
        views.define("placed", f"select * exclude (score, expected_score) from ({place})")
        values = "0.0 as spread, 1 as n_judgments, 0 as n_unparsed"
        views.define(
            "scores",
            f"select sample_id, parser_key, n_judge_draws, score, expected_score, {values} "
            f"from ({place})",
        )
        views.define(
            "judge_scores",
            "select *, 1 as n_judgments, 'judge' as judge_name from scored union all "
            "select * replace (if(score is null, null, 2.0) as score), 1, 'short' from scored",
        )
        views.define("candidates", choice.candidates)
        rows = views.all("select sample_id, pair_score from candidates order by sample_id")
    assert [row["pair_score"] for row in rows] == pytest.approx(found)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a finished toy whose pairs rank by an expression."""
    toy = publishable(tmp_path_factory.mktemp("quality") / "toy", 24)
    toy.write(pairs={"score": "judge - n_tokens / 10"})
    toy.finish()
    return toy


PAIR_SCORES = """
    select distinct pair_id, score_chosen = chosen.pair_score as same_chosen,
        score_rejected = rejected.pair_score as same_rejected
    from pairs
    join candidates as chosen on chosen.sample_id = chosen_id
    join candidates as rejected on rejected.sample_id = rejected_id
"""


@pytest.mark.slow
def test_pairs_have_the_pair_scores_of_their_answers(made, tmp_path, monkeypatch):
    ours = made.query(PAIR_SCORES)
    assert len(ours) > 10
    assert all(row["same_chosen"] and row["same_rejected"] for row in ours)
    folder = write_published(made, tmp_path / "folder")
    for place, script in (
        (made.lake, made.lake / "recipes" / "toy" / "views.sql"),
        (folder, folder / "sql" / "views.sql"),
    ):
        monkeypatch.chdir(place)
        with duckdb.connect() as con:
            con.execute(script.read_text())
            rows = con.sql(PAIR_SCORES).to_arrow_table().to_pylist()
        assert rows
        assert all(row["same_chosen"] and row["same_rejected"] for row in rows)


def test_the_future_wins_by_the_score_that_ranks_the_pairs(made):
    (wins,) = made.query(
        "select count(*) filter (future > now) / count(*) as share from ("
        "select max(pair_score) filter (role = 'future') as future, "
        "max(pair_score) filter (role = 'current') as now from candidates group by prompt_id) "
        "where future is not null and now is not null"
    )
    rows = made.query(shipped_queries()["pair_quality"].sql)
    assert [row["future_won"] for row in rows] == [None, round(wins["share"], 3)]
    (role,) = [
        row for row in made.query(shipped_queries()["role_wins"].sql) if row["role"] == "future"
    ]
    assert role["win_share"] == rows[1]["future_won"]
    assert rows[1]["rejudged"] == rows[1]["answers"]


@pytest.mark.slow
def test_the_figures_are_cached_until_the_rows_change(toy, monkeypatch):
    toy.write(loop={"iterations": 1})
    toy.finish()
    first = quality(toy.look())
    monkeypatch.setattr("factory.report.pair_quality.all_views", None)
    assert quality(toy.look()) == first
    monkeypatch.undo()
    toy.run("sampling.draws=4")
    (*_, row) = quality(toy.look("sampling.draws=4"))
    assert row["answers"] == first[-1]["answers"] * 4 / 3


@pytest.mark.slow
def test_another_set_of_pairs_ranks_by_its_own_score(made):
    opened = open_recipe(made.path, made.lake)
    wide = opened.pairs("mean", set={"pairs.score": "mean"})
    (by_mean,) = made.query(
        "select round(stddev_pop(score), 3) as sd from candidates where role != 'probe'"
    )
    assert [row["score_sd"] for row in wide.quality] == [by_mean["sd"]]
    assert wide.quality.rows[0]["score_sd"] != opened.status().quality.rows[-1]["score_sd"]


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(policy, marks=[] if policy == "temporal" else pytest.mark.slow)
        for policy in shipped_policies()
    ],
)
def test_every_policy_has_figures(toy, policy):
    toy.write(loop={"policy": policy, "iterations": 1})
    toy.finish()
    result = open_recipe(toy.path, toy.lake).status()
    places = [(row["iteration"], row["phase"]) for row in result.gaps]
    assert [(row["iteration"], row["phase"]) for row in result.quality] == places != []
    assert "gap/sd" in repr(result)
    has_future = any(row["future_won"] is not None for row in result.quality)
    assert has_future == (policy in ("temporal", "future_guided"))
    assert ("won" in repr(result)) == has_future


# tables

FIGURES = {
    "iteration": 10,
    "phase": "D2",
    "gap": 10.123,
    "score_sd": 0.41,
    "gap_in_sd": 10.732,
    "lowest_score": 1.0,
    "highest_score": 2.5,
    "future_won": 1.0,
    "chosen_longer": 1.0,
    "answers": 320,
    "truncated": 145,
    "truncated_share": 0.453,
    "failed": 0,
    "prompts": 40,
    "same_text": 40,
    "same_text_share": 1.0,
    "rejudged": 300,
    "consistency": 0.456,
}

GAP = {
    "iteration": 10,
    "phase": "D2",
    "prompts": 14_456,
    "kept": 10_000,
    "ties": 1_000,
    "identical": 1_000,
    "unscored": 2_000,
    "filtered": 456,
    "gap": 10.123,
    "score_chosen": -10.001,
    "score_rejected": -20.124,
    "chosen_from_future": 5_000,
    "rejected_from_past": 5_000,
}


def shown(gaps, quality):
    return "\n".join(
        f"{title}\n{text_table(rows)}" for title, rows in iteration_tables(gaps, quality)
    )


def test_the_tables_fit_80_columns_and_explain_every_figure():
    text = shown([GAP], [FIGURES])
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    for name in ("identical", "unscored", "filtered", "future", "past", "won", "same", "agree"):
        assert f"{name}: " in words
    for figure in ("10,000", "2,000", "456", "10.73", "100%", "45%", "0.46"):
        assert figure in words
    assert "failed" not in words


def test_columns_without_figures_are_left_out_with_their_explanation():
    none = dict.fromkeys(("identical", "unscored", "filtered"), 0)
    unknown = dict.fromkeys(("future_won", "consistency"))
    text = shown([{**GAP, **none}], [{**FIGURES, **unknown, "truncated_share": 0.0}])
    assert not re.search(r"identical|unscored|filtered|won|agree", text)
    assert re.search(r"cut off .*\n.*\n.* 0%", text)


def test_before_there_are_pairs_there_are_no_tables():
    assert iteration_tables([], []) == []


# remarks


def remark(toy, *rows, overrides=()):
    return "\n".join(remarks(toy.look(*overrides), [{**FIGURES, **row} for row in rows]))


@pytest.mark.slow
def test_the_scores_have_a_scale(toy):
    assert remark(toy, {"lowest_score": 0.0}, {}).startswith(
        "The scores range from 1 to 2.5 on the rubric's scale of 0 to 5, with a standard "
        "deviation of 0.41."
    )
    (toy.folder / "gold.py").write_text(GOLD)
    toy.write(judges={"short": {"function": "gold.py:short"}})
    combined = remark(toy, {}, overrides=["pairs.score=judge + short"])
    assert combined.startswith("The scores range from 1 to 2.5, with a standard deviation of 0.41.")
    assert "range" not in remark(toy, {"score_sd": None})


def test_truncation_names_the_limit_and_the_remedy(toy):
    worst = {"truncated": 300, "truncated_share": 0.9375}
    told = remark(toy, {**worst, "iteration": 9}, {"phase": "D1", "truncated_share": 1.0}, {})
    assert (
        "300 of 320 answers (94%) were cut off by sampling.max_tokens (64): raise it, or set "
        "pairs.drop_truncated to true."
    ) in told
    dropped = remark(toy, worst, overrides=["pairs.drop_truncated=true"])
    assert "(64): raise it." in dropped


@pytest.mark.parametrize(("n", "told"), [(0, 0), (4, 0), (5, 1), (100, 1)])
def test_truncation_is_told_from_the_limit_of_the_check(toy, n, told):
    assert len(list(truncation(n, 100, toy.recipe()))) == told
    assert list(truncation(0, 0, toy.recipe())) == []


def test_equal_texts_and_failures_are_told(toy):
    told = remark(toy, {"same_text": 4, "same_text_share": 0.1, "failed": 3})
    assert "All answers to 4 of 40 prompts have the same text: raise sampling.temperature" in told
    assert "3 answers failed and are in no pair" in told
    quiet = remark(toy, {"same_text": 3, "same_text_share": 0.075})
    assert "same text" not in quiet
    assert "failed" not in quiet


@pytest.mark.parametrize(
    ("judge", "told"),
    [
        ({"draws": 1}, "each answer was judged once: set judge.draws to 2 or more."),
        ({"draws": 1, "temperature": 0}, "each answer was judged once."),
        (
            {"draws": 1, "constrained": True, "expected_score": True, "rubric": "rating"},
            "each answer was judged once: set judge.draws",
        ),
        ({"rubric": "pairwise", "draws": 2}, "it compares answers: run the named query"),
    ],
)
def test_a_consistency_that_was_not_measured_says_why(toy, judge, told):
    toy.write(judge=judge)
    row = {"rejudged": 0, "consistency": None}
    assert f"was not measured, because {told}" in remark(toy, row)
    assert "consistency" not in remark(toy, row, {})


def test_draws_that_cannot_differ_need_no_remedy(toy):
    toy.write(judge={"draws": 1, "constrained": True, "expected_score": True, "rubric": "rating"})
    told = remark(toy, {"rejudged": 0}, overrides=["pairs.score=expected"])
    assert told.endswith("because each answer was judged once.")


def test_a_function_judges_once_without_a_remedy(toy):
    toy.fields["judge"] = {"function": "gold.py:grade"}
    toy.write()
    assert remark(toy, {"rejudged": 0}).endswith("because each answer was judged once.")


def test_without_pairs_there_are_no_remarks(toy):
    assert remarks(toy.look(), []) == []


# commands


def test_run_and_status_show_the_figures_and_the_remarks(toy, factory):
    toy.write(judge={"draws": 1}, loop={"iterations": 1})
    toy.finish()
    args = (toy.path, "--lake", toy.lake)
    ran, status = factory("run", *args), factory("status", *args)
    told = factory("status", *args, "--json").json()
    assert len(told["quality"]) == len(told["gaps"]) == 2
    assert len(told["remarks"]) >= 2
    for printed in (ran.out, status.out):
        tables = printed.partition("Pairs (")[2].partition("Work of")[0]
        lines = [line for line in tables.splitlines() if line not in told["remarks"]]
        assert len(lines) > 10
        assert max(map(len, lines)) <= 80
        for remark in told["remarks"]:
            assert f"\n{remark}\n" in printed
    for row in told["quality"]:
        assert f"{row['gap_in_sd']:.2f}".rstrip("0") in ran.out


def test_status_of_a_recipe_that_never_ran_has_no_figures(toy, factory):
    told = factory("status", toy.path, "--lake", toy.lake, "--json").json()
    assert told["quality"] == told["remarks"] == []
    assert factory("status", toy.path, "--lake", toy.lake).out.endswith("has not run yet.\n")


@pytest.mark.slow
def test_status_with_other_settings_says_that_the_lake_has_none_of_their_rows(toy, factory):
    toy.finish()
    args = ("status", toy.path, "--lake", toy.lake)
    assert "The lake stores rows of other recipes" in factory(*args, "--set", "seed=5").out
    assert "other recipes" not in factory(*args).out


@pytest.mark.slow
def test_a_preview_tells_truncated_answers(small, factory):
    args = ("preview", small.path, "--lake", small.lake, "--set", "sampling.max_tokens=1")
    shown = factory(*args).out
    assert ", cut off]" in shown
    assert re.search(
        r"\d+ of \d+ answers \(\d+%\) were cut off by sampling.max_tokens \(1\)", shown
    )


# the picture and the card


def test_the_picture_has_the_figures_of_each_gap(made):
    svg = open_recipe(made.path, made.lake).picture().svg
    words = [part.text for part in ElementTree.fromstring(svg).iter() if part.tag.endswith("text")]
    (row,) = [
        row for row in open_recipe(made.path, made.lake).status().quality if row["future_won"]
    ]
    at = words.index("it 0, D2")
    assert words[at + 1 : at + 4] == [
        f"{row['gap']:.2f}",
        f"{row['gap_in_sd']:.2f}",
        f"{row['future_won']:.0%}",
    ]


def test_a_figure_that_is_unknown_is_a_dash_in_the_picture():
    unknown = {**FIGURES, "future_won": None, "rejudged": 0, "consistency": None}
    bins = [{"iteration": 10, "role": "past", "from_score": 1, "to_score": 2, "share": 1.0}]
    svg = draw_picture([GAP], [unknown], bins)
    words = [part.text for part in ElementTree.fromstring(svg).iter() if part.tag.endswith("text")]
    at = words.index("it 10, D2")
    assert words[at:-1] == [
        *("it 10, D2", "10.12", "10.73", "–", "7%", "100%", "45%", "100%", "not measured")
    ]


@pytest.mark.slow
def test_the_card_has_the_figures(made, tmp_path):
    card = (write_published(made, tmp_path / "folder") / "README.md").read_text()
    _, row = open_recipe(made.path, made.lake).status().quality
    assert f"| 0 | D2 | {row['gap']:g} | {row['gap_in_sd']:g} | {row['future_won']:.0%} |" in card
    assert f"{row['truncated']} of {row['answers']} answers were cut off" in card
    assert f"a standard\n  deviation of {row['score_sd']:g}" in card


@pytest.mark.slow
def test_the_figures_of_pairs_that_were_not_made_yet_are_not_kept(toy):
    toy.write(train={"with": "manual"}, judge={"function": "gold.py:grade"})

    def run():
        with pytest.raises(FactoryError, match="F_0"):
            toy.run()

    run()
    toy.write(pairs={"min_margin": 1})
    assert quality(toy.look()) == []
    run()
    assert [row["phase"] for row in quality(toy.look())] == ["D1"]


def test_a_policy_without_rejected_answers_has_a_picture(toy):
    toy.write(loop={"policy": "rejection_sampling", "iterations": 1})
    toy.finish()
    ElementTree.fromstring(open_recipe(toy.path, lake=toy.lake).picture().svg)
