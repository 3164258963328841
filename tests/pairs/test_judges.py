"""Recipes with several judges: score expressions, conditions, the previous model as judge,
comparisons of two answers, and a judge on a server."""

import json

import pytest

from factory.errors import ModelError, RecipeError, RubricError
from factory.lake import shipped_queries
from factory.models import control_tokens
from factory.pairs import load_policy, make_choice, named_columns
from factory.plan import loads, steps
from factory.recipe import Judge, Recipe
from factory.report import generation_lines
from factory.stages import load_rubric, parse_preference

JUDGES = {
    "short": {"function": "gold.py:short"},
    "even": {"function": "gold.py:even"},
}

GOLD = """
def grade(rows):
    return [float(len(row['answer']) % 6) for row in rows]

def short(rows):
    return [-float(len(row['answer'])) for row in rows]

def even(rows):
    return [float(len(row['answer']) % 2 == 0) for row in rows]
"""


@pytest.fixture
def judged(toy):
    """Return a toy whose judge is a model, with two functions as further judges."""
    (toy.folder / "gold.py").write_text(GOLD)
    toy.write(judges=JUDGES, loop={"policy": "self_rewarding", "iterations": 1})
    return toy


def sides(toy, *overrides):
    """Return the kept pairs with the scores that the functions give to both answers."""
    return toy.query(
        "select pairs.*, chosen.text as chosen, rejected.text as rejected from pairs "
        "join samples as chosen on chosen.sample_id = chosen_id "
        "join samples as rejected on rejected.sample_id = rejected_id where outcome = 'kept'",
        *overrides,
    )


def refused(toy, *overrides):
    with pytest.raises(RecipeError) as caught:
        toy.look(*overrides)
    return str(caught.value)


# several judges


def test_every_judge_judges_every_answer(judged):
    judged.finish()
    rows = judged.query(
        "select judge_name, role, count(*) as n, count(score) as scored from judge_scores "
        "group by all order by all"
    )
    assert [tuple(row.values()) for row in rows] == [
        (name, "current", 36, 36) for name in ("even", "judge", "short")
    ]
    assert judged.to_do() == set()
    # A judge that `pairs` does not use changes no pair.
    with_others = judged.query("select pair_id, outcome from pairs order by all")
    judged.fields.pop("judges")
    judged.write()
    assert judged.query("select pair_id, outcome from pairs order by all") == with_others
    assert judged.to_do() == set()


def test_a_judge_more_asks_only_what_it_judges(judged):
    judged.finish()
    more = "judges={short: {function: 'gold.py:short'}, long: {function: 'gold.py:grade'}}"
    found = judged.look(more).steps
    to_do = {(step.stage, step.judge_name) for step, at in found.items() if not at.done}
    assert to_do == {("judgments", "long"), ("verdicts", "long")}


@pytest.mark.slow
def test_an_expression_over_judges_decides(judged):
    judged.run("pairs.score=short + 100 * even")
    rows = sides(judged, "pairs.score=short + 100 * even")
    assert rows
    for row in rows:
        for side in ("chosen", "rejected"):
            length = len(row[side])
            assert row[f"score_{side}"] == 100 * (length % 2 == 0) - length
    (said,) = judged.query(
        "select distinct judge_model, n_judgments_chosen as n from pairs",
        "pairs.score=short + 100 * even",
    )
    digests = judged.look().opened.functions
    used = {digests[name].digest for name in ("short", "even")}
    assert set(said["judge_model"].split("+")) == used
    assert said["n"] == 1


@pytest.mark.slow
def test_conditions_are_gates(judged):
    gates = ("pairs.chosen_if=even = 1", "pairs.rejected_if=even = 0")
    judged.run(*gates)
    rows = sides(judged, *gates)
    assert rows
    assert all(len(row["chosen"]) % 2 == 0 and len(row["rejected"]) % 2 == 1 for row in rows)
    outcomes = judged.query("select outcome, count(*) as n from pairs group by all", *gates)
    assert sum(row["n"] for row in outcomes) == 12
    ruled_out = judged.query(
        "select chosen_id, rejected_id from pairs where outcome = 'ruled out'", *gates
    )
    assert all(None in row.values() for row in ruled_out)


def test_pairs_on_which_judges_disagree_are_counted_and_not_kept(judged):
    judged.finish()
    judged.run("pairs.agree=[judge, short]")
    for row in sides(judged, "pairs.agree=[judge, short]"):
        assert len(row["chosen"]) < len(row["rejected"])
    rows = judged.query(
        "select outcome, count(*) as n from pairs group by all", "pairs.agree=[judge, short]"
    )
    counted = {row["outcome"]: row["n"] for row in rows}
    assert counted["judges disagree"] > 0
    plain = judged.query("select outcome, count(*) as n from pairs group by all")
    assert {row["outcome"]: row["n"] for row in plain}["kept"] == (
        counted.get("kept", 0) + counted["judges disagree"]
    )


@pytest.mark.slow
def test_other_judges_of_a_pair_make_it_again_and_no_judgment(judged):
    judged.finish()
    for change in ("pairs.score=judge + short", "pairs.chosen_if=even = 1", "pairs.agree=[short]"):
        assert judged.to_do(change) == {"pairs", "train"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "rule", ["pairs.chosen_if=even = 1", "pairs.agree=[even]", "pairs.score=judge + even"]
)
def test_a_judge_that_judges_otherwise_makes_other_pairs(judged, rule):
    judged.run(rule)
    source = (judged.folder / "gold.py").read_text()
    (judged.folder / "gold.py").write_text(source.replace("% 2 == 0", "% 3 == 0"))
    judged.run(rule)
    rows = judged.query(
        "select chosen.text as chosen, score_chosen, judge_scores.score as even, pairs.outcome "
        "from pairs join samples as chosen on chosen.sample_id = chosen_id "
        "join judge_scores on judge_scores.sample_id = chosen_id "
        "where judge_name = 'even' and outcome = 'kept'",
        rule,
    )
    assert rows
    for row in rows:
        assert row["even"] == (len(row["chosen"]) % 3 == 0)
        if "chosen_if" in rule or "agree" in rule:
            assert row["even"] == 1


@pytest.mark.parametrize("policy", ["spin", "own.sql"])
@pytest.mark.slow
def test_conditions_hold_whatever_the_policy(judged, policy):
    own = (
        "-- Roles: current\nselect prompt_id, max_by(sample_id, score) as chosen_id, "
        "min_by(sample_id, score) as rejected_id from candidates group by prompt_id"
    )
    (judged.folder / "own.sql").write_text(own)
    lines = [{"prompt": f"Say {i}.", "reference": f"ten thousand {i:04}"} for i in range(12)]
    judged.prompts.write_text("\n".join(map(json.dumps, lines)))
    rule = "pairs.rejected_if=even = 0"
    judged.write(loop={"policy": policy}, judge={"function": "gold.py:grade"})
    judged.run(rule)
    rows = judged.query(
        "select rejected.text from pairs join samples as rejected on sample_id = rejected_id "
        "where outcome = 'kept'",
        rule,
    )
    assert rows
    assert all(len(row["text"]) % 2 == 1 for row in rows)


@pytest.mark.slow
def test_a_trace_shows_the_judgments_of_all_judges_that_decided(judged, factory):
    judged.run("pairs.score=judge + short")
    pair = sides(judged, "pairs.score=judge + short")[0]
    told = factory("trace", pair["pair_id"], "--lake", judged.lake, "--json").json()
    assert [judge["digest"] for judge in told["judges"]] == pair["judge_model"].split("+")
    assert len(told["chosen"]["judgments"]) == 3  # two of the model, one of the function


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("pairs.score=judge + nobody", "'judge + nobody': the query failed: "),
        ("pairs.score=1); drop table x; select (1", "the expression is invalid: syntax error"),
        (
            "pairs.score=40 + 2",
            "does not use any judge: set pairs.score to mean, expected, or a SQL expression",
        ),
        (
            "pairs.score=even = 1",
            "the result is of type BOOLEAN: write a SQL expression that returns a number",
        ),
        (
            "pairs.chosen_if=even",
            "DOUBLE: write a SQL expression that returns true or false and uses some of these",
        ),
        (
            "pairs.score=even_expected",
            "judges.even does not compute expected scores: set judges.even.",
        ),
        ("judges={a_expected: {}}", "judges: a judge cannot be named 'a_expected': use only"),
        ("judges={name: {}}", "judges: a judge cannot be named 'name': use only lowercase letters"),
        (
            "pairs.agree=[nobody]",
            "no judge is named 'nobody': use only these judge names: judge, even,",
        ),
        (
            "judges={Short: {}}",
            "judges: a judge cannot be named 'Short': use only lowercase letters",
        ),
        (
            "judges={score: {}}",
            "judges: a judge cannot be named 'score': use only lowercase letters",
        ),
        ("judges={a: {rubrik: x}}", "judges.a.rubrik: unknown field: did you mean judges.a.ru"),
        (
            "judges={a: {by: previous, function: 'gold.py:even'}}",
            "`by` cannot be previous if `function` is set",
        ),
        ("judges={a: {reward_model: m0, model: m0}}", "model and reward_model are both set"),
        (
            "judges={a: {declared: '1'}}",
            "judges.a.declared: a judge with a declared revision needs a separate openai engine",
        ),
        (
            "judges={a: {engine: {name: scripted}}}",
            "judges.a.engine: the judge has an engine but no separate model",
        ),
    ],
)
def test_bad_judges_are_refused(judged, change, sentence):
    assert sentence in refused(judged, change)


def test_a_build_s_expressions_are_checked_too(judged, factory):
    judged.finish()
    words = ("pairs", judged.path, "--lake", judged.lake, "--name", "other")
    ended = factory(*words, "--set", "pairs.score=judge + nobody")
    assert ended.code == 2
    assert "pairs.score: 'judge + nobody': the query failed: " in ended.err


def test_the_name_of_a_judge_in_a_string_does_not_count():
    recipe = Recipe.model_validate(
        {
            "name": "r",
            "model": "m",
            "prompts": {"files": ["p"]},
            "judges": {"older": {"by": "previous"}},
            "pairs": {"score": "if(name = 'older', judge, judge) -- older"},
        }
    )
    assert make_choice(recipe, load_policy(recipe)).judges == ("judge",)
    assert named_columns("older + judge_expected") == {"older", "judge_expected"}


def test_columns_by_a_pattern_may_be_any_judge():
    fields = {"name": "r", "model": "m", "prompts": {"files": ["p"]}}
    judges = {"right": {"by": "previous"}, "other": {"by": "previous", "draws": 2}}
    gate = "list_min([*columns('^(judge|right)$')]) >= 3"
    recipe = Recipe.model_validate({**fields, "judges": judges, "pairs": {"chosen_if": gate}})
    assert make_choice(recipe, load_policy(recipe)).judges == ("judge", "right", "other")


def test_a_judge_may_be_called_by_a_word_of_sql(judged):
    judged.write(judges={"check": {"function": "gold.py:even"}})
    judged.run("pairs.agree=[judge, check]")


def test_an_expression_that_fails_on_a_row_is_a_sentence(judged):
    with pytest.raises(RecipeError, match="pairs: a SQL expression failed: "):
        judged.run("pairs.chosen_if=text::int > 3")


def test_two_judges_that_differ_in_their_opponents_alone_are_refused(judged):
    comparing = {"rubric": "pairwise", "max_tokens": 64}
    judged.write(judges={"few": comparing, "many": {**comparing, "opponents": 3}})
    assert "the judges few and many differ only in the setting `opponents`" in refused(judged)


# the previous model as judge


@pytest.mark.slow
def test_the_older_judge_judges_again(toy):
    toy.write(judges={"older": {"by": "previous", "draws": 2, "max_tokens": 64}})
    toy.finish()
    survey = toy.look()
    rows = toy.query(
        "select iteration, judge_name, judge_model from panel where role = 'current' order by all"
    )
    digests = {name: survey.models[name].digest for name in ("M_0", "M_1")}
    assert [tuple(row.values()) for row in rows] == [
        (0, "judge", digests["M_0"]),
        (0, "older", digests["M_0"]),
        (1, "judge", digests["M_1"]),
        (1, "older", digests["M_0"]),
    ]
    # In iteration 0 both judges are M_0, so they share one folder of judgments.
    folders = toy.query("select distinct judge_key from panel where iteration = 0")
    assert len(folders) == 1
    views = toy.query("from judge_scores where judge_name = 'older' and score is null")
    assert views == []
    assert toy.to_do() == set()


def test_a_shared_model_is_loaded_once_for_two_judges(toy):
    (toy.folder / "big").mkdir()
    (toy.folder / "big" / "scripted.json").write_text('{"size": "big"}')
    toy.write(
        judge={"model": "big", "rubric": "aspect_honesty"},
        judges={"helpful": {"model": "big", "rubric": "aspect_helpfulness", "draws": 1}},
        loop={"iterations": 1, "policy": "self_rewarding"},
    )
    assert loads(toy.recipe(), steps(toy.recipe())) == 2
    survey = toy.run()
    assert sorted(survey.models) == ["M_0", "M_1", "judge"]
    assert len(list((toy.lake / "judgments").iterdir())) == 2


# comparing two answers

LONGER = """
import re

def answer(messages, seed):
    text = messages[-1]["content"]
    if "<answer_a>" not in text:
        return "word " * (1 + seed % 7)
    a, b = (re.search(f"<answer_{x}>(.*?)</answer_{x}>", text, re.DOTALL)[1] for x in "ab")
    if len(a) == len(b):
        return "The same.\\nBetter: tie"
    return "Longer.\\nBetter: " + ("A" if len(a) > len(b) else "B")
"""


@pytest.fixture
def compared(toy):
    """Return a toy whose judge prefers the longer of two answers."""
    toy.script(LONGER)
    toy.write(
        judge={"rubric": "pairwise", "draws": 1, "opponents": 2},
        loop={"iterations": 1},
        prompts={"test_fraction": 0.0},
    )
    return toy


@pytest.mark.slow
def test_answers_are_compared_with_the_same_rivals_in_both_orders(compared):
    compared.finish()
    rows = compared.query(
        "select role, sample_id, other_id, draw, text, verdicts.score, own.text as own, "
        "other.text as other from judgments "
        "join verdicts using (judgment_id, sample_id, draw) "
        "join placed using (sample_id) join samples as own using (sample_id) "
        "join samples as other on other.sample_id = other_id".replace("text, verdicts", "verdicts")
    )
    by_role = {role: sum(row["role"] == role for row in rows) for role in ("current", "past")}
    # 12 prompts, 3 answers, 2 rivals, 2 orders. A rival itself has only one other rival.
    assert by_role == {"current": 12 * (1 * 2 + 2 * 1) * 2, "past": 12 * 3 * 2 * 2}
    rivals = {row["other_id"] for row in rows}
    assert len(rivals) == 24
    for row in rows:
        own, other = len(row["own"]), len(row["other"])
        assert row["score"] == (0.5 if own == other else float(own > other))
    for row in compared.query("select prompt_id, score, text from candidates"):
        assert 0 <= row["score"] <= 1
    assert compared.to_do() == set()
    kept = sides(compared)
    assert kept
    assert all(len(row["chosen"]) > len(row["rejected"]) for row in kept)


@pytest.mark.slow
def test_fewer_opponents_read_fewer_comparisons_and_more_ask_for_them_alone(compared):
    compared.finish()

    def missing(n):
        found = compared.look(f"judge.opponents={n}").steps.items()
        return {step.role: at.missing for step, at in found if step.stage == "judgments"}

    assert (missing(1)["current"], missing(1)["past"]) == (0, 0)
    # The third rival adds two answers of its own role and three of the past, in both orders.
    assert (missing(3)["current"], missing(3)["past"]) == (12 * 2 * 2, 12 * 3 * 2)
    (row,) = compared.query("select max(n_judgments) as n from scores", "judge.opponents=1")
    assert row["n"] == 2


@pytest.mark.slow
def test_position_bias_is_seen(compared):
    compared.script(
        LONGER.replace("len(a) > len(b)", "len(a) > len(b) - 11").replace(
            "len(a) == len(b)", "False"
        )
    )
    compared.run()
    rows = asked(compared, "position_bias")
    assert {row["role"] for row in rows} == {"current", "past", "future"}
    for row in rows:
        assert row["ties"] == 0
        # If the orders disagree, both verdicts prefer the first answer. Otherwise one does.
        assert 0 < row["orders_agree"] < 1
        assert row["for_first"] == pytest.approx(1 - row["orders_agree"] / 2, abs=0.001)


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("Better: A", 1, 0),
        ("So\n**Better: B**", 0, 1),
        ("Better: tie", 0.5, 0.5),
        ("Better: A or B", None, None),
        ("Better: A\nThat is all.", None, None),
        ("", None, None),
    ],
)
def test_a_preference_is_read_from_the_last_line(tmp_path, text, first, second):
    pattern = load_rubric(Judge(rubric="pairwise"), tmp_path).pattern
    assert parse_preference(text, pattern, second=False).score == first
    assert parse_preference(text, pattern, second=True).score == second


@pytest.mark.parametrize(
    ("scale", "template", "sentence"),
    [
        ("[0, 1]", "{prompt} {answer_a}", "the placeholder {answer_b} is missing"),
        (
            "[0, 1]",
            "{prompt} {answer} {answer_a} {answer_b}",
            "the judge prompt contains both {answer} and {answer_a}",
        ),
        (
            "[0, 5]",
            "{prompt} {answer_a} {answer_b}",
            "a comparison needs the scale [0, 1] and the labels [A, B, tie",
        ),
    ],
)
def test_a_rubric_that_compares_names_both_answers(tmp_path, scale, template, sentence):
    header = f"scale: {scale}\nlabels: [A, B, tie]\nparser: '(A|B|tie)'"
    (tmp_path / "own.md").write_text(f"---\n{header}\n---\n{template}")
    with pytest.raises(RubricError) as caught:
        load_rubric(Judge(rubric="own.md"), tmp_path)
    assert sentence in str(caught.value)


# how well judges agree


def asked(toy, name, *overrides):
    return toy.query(shipped_queries()[name].sql, *overrides)


@pytest.mark.slow
def test_two_judges_are_compared(judged):
    (judged.folder / "gold.py").write_text(
        GOLD + "\ndef opposite(rows):\n    return [-value for value in short(rows)]\n"
    )
    more = {"long": {"function": "gold.py:opposite"}, "same": {"function": "gold.py:short"}}
    judged.write(judge={"function": "gold.py:short"}, judges=more)
    judged.finish()
    rows = {(row["judge"], row["other"]): row for row in asked(judged, "judge_pairs")}
    # `judge` and `same` are two names for the same judge.
    assert set(rows) == {("judge", "long"), ("judge", "even"), ("judge", "short")} - {
        ("judge", "short")
    } | {("even", "long"), ("even", "same"), ("even", "short"), ("long", "same")} | {
        ("long", "short")
    }
    opposite = rows["judge", "long"]
    assert (opposite["spearman"], opposite["kendall_tau"], opposite["same_order"]) == (-1, -1, 0)
    assert opposite["answers"] == 36
    confusion = [row for row in asked(judged, "judge_confusion") if row["other"] == "long"]
    assert sum(row["answers"] for row in confusion if row["judge"] == "judge") == 36
    assert all(row["score"] == -row["other_score"] for row in confusion if row["judge"] == "judge")


# a judge whose weights only a server has


@pytest.mark.slow
def test_a_declared_judge_is_told_by_its_name_and_revision(toy):
    engine = {"name": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "big"}
    toy.write(judge={"engine": engine, "declared": "2026-08"})
    survey = toy.look()
    judge = survey.models["judge"]
    assert judge.declared == "2026-08"
    assert control_tokens(judge) == ()
    assert any(
        "declared revision" in line and "cannot be verified" in line
        for line in generation_lines(survey)
    )
    keys = {
        toy.look(*change).models["judge"].digest
        for change in (
            (),
            ("judge.declared='2026-09'",),
            ("judge.engine.model=bigger",),
            ("judge.engine.base_url='http://127.0.0.1:8/v1'",),
        )
    }
    assert len(keys) == 3


# a reward model


def test_a_reward_model_scores_every_answer_once(toy):
    pytest.importorskip("torch")
    from reward_models import make_reward_model

    make_reward_model(toy.folder / "rm")
    toy.write(
        judge={"reward_model": "rm", "engine": {"device": "cpu", "batch_size": 8}},
        loop={"iterations": 1, "policy": "self_rewarding"},
    )
    survey = toy.run()
    rows = toy.query(
        "select text, value, n_prompt_tokens, draw, score from judgments "
        "join verdicts using (judgment_id, draw)"
    )
    assert len(rows) == 36
    for row in rows:
        assert row["score"] == row["value"] == float(row["text"])
        assert row["n_prompt_tokens"] > 0
        assert row["draw"] == 0
    assert len({row["score"] for row in rows}) > 30
    (said,) = toy.query("select distinct judge_model from pairs")
    assert said["judge_model"] == survey.models["judge"].digest
    assert toy.to_do() == set()


def test_a_model_that_is_no_reward_model_is_refused_before_anything_is_sampled(toy):
    pytest.importorskip("torch")
    from reward_models import make_reward_model

    make_reward_model(toy.folder / "rm", num_labels=2)
    toy.write(judges={"rewarded": {"reward_model": "rm"}})
    with pytest.raises(ModelError) as caught:
        toy.run()
    assert str(caught.value).startswith(
        "judges.rewarded.reward_model.path: rm has 2 labels, but a reward model"
    )
    assert toy.shards("samples") == []


@pytest.mark.slow
def test_criteria_of_the_prompt_reach_a_comparing_judge(compared):
    rubric = (
        "---\nscale: [0, 1]\nlabels: [A, B, tie]\nparser: '(?m)^Better: (A|B|tie)\\Z'\n---\n"
        "{prompt} by {criteria}\n<answer_a>{answer_a}</answer_a><answer_b>{answer_b}</answer_b>"
    )
    (compared.folder / "own.md").write_text(rubric)
    lines = [
        {"prompt": f"Say number {i}.", "criteria": f"criterion {i}", "reference": str(i)}
        for i in range(12)
    ]
    compared.prompts.write_text("\n".join(map(json.dumps, lines)))
    compared.script(
        "seen = []\n"
        + LONGER.replace(
            "    text = ",
            '    assert "criterion" in '
            'messages[-1]["content"] or "number" in messages[-1]["content"]\n    text = ',
        )
    )
    compared.run("judge.rubric=own.md")
    lines[0]["criteria"] = "another"
    compared.prompts.write_text("\n".join(map(json.dumps, lines)))
    found = compared.look("judge.rubric=own.md").steps
    missing = {step.role: at.missing for step, at in found.items() if step.stage == "judgments"}
    assert missing["past"] == 3 * 2 * 2
