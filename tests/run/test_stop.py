"""`stop_if`: a run stops early, and its error names the limit and three examples."""

import pytest

from factory.engines import Result
from factory.errors import StepFailed
from factory.run.generate import _JudgmentMaker
from factory.run.stop import EARLY, FIRST

SCORED = "def answer(messages, seed):\n    return f'word{seed} Score: {seed % 6}'"
SILENT = """
def answer(messages, seed):
    if 'Score' in messages[-1]['content'] and seed % 2:
        return 'I would rather not say.'
    return f'word{seed} Score: {seed % 6}'
"""


def stopped(toy, *overrides):
    with pytest.raises(StepFailed) as said:
        toy.run(*overrides)
    return str(said.value)


@pytest.fixture
def judged(toy):
    toy.script(SCORED)
    toy.write(judge={"parser": "Score: (\\d)\\Z"}, loop={"iterations": 1})
    return toy


def test_too_many_judgments_without_a_score(judged):
    judged.script(SILENT)
    said = stopped(judged, "stop_if.unparsed=0.3")
    assert "verdicts on M_0 as past, iteration 0: " in said
    assert "judgments have no score" in said
    assert "more than stop_if.unparsed allows (0.3)" in said
    assert said.count("I would rather not say.") == 3
    assert not judged.shards("pairs")
    assert judged.run("stop_if.unparsed=0.9").models["M_1"]


def test_a_long_step_is_stopped_while_it_runs(judged):
    judged.script(SILENT)
    judged.write_prompts(100)
    said = stopped(judged, "stop_if.unparsed=0.3", "judge.draws=4")
    assert said.startswith("judgments of M_0 as ")
    (held,) = judged.query("select count(*) as n from judgments", "judge.draws=4")
    assert EARLY <= held["n"] < 100 * 3 * 4  # finished rows are saved


MUTE = """
def answer(messages, seed):
    if 'Score' in messages[-1]['content']:
        return 'I would rather not say.'
    return f'word{seed}'
"""


def test_a_judge_that_gives_no_score_is_stopped_after_its_first_judgments(judged):
    judged.script(MUTE)
    judged.write_prompts(30)
    said = stopped(judged)
    assert "64 of 64 judgments have no score (100%): use `rubric: rating`" in said
    assert said.count("I would rather not say.") == 3
    (held,) = judged.query("select count(*) as n from judgments")
    assert FIRST <= held["n"] < 2 * FIRST  # of two steps in one pass; finished rows are saved
    assert "64 of 64 judgments have no score" in stopped(judged)  # again, if it is repeated
    with pytest.raises(StepFailed, match="was kept"):
        judged.run("stop_if.unparsed=1")


def test_a_short_step_without_scores_is_stopped_when_it_ends(judged):
    judged.script(MUTE)
    judged.write_prompts(6)
    said = stopped(judged)
    assert "verdicts on M_0 as past, iteration 0: " in said
    assert "to continue anyway, set stop_if.unparsed to 1" in said
    assert not judged.shards("pairs")


CONSTANT = SCORED.replace("{seed % 6}", "5")


@pytest.mark.parametrize(
    ("prompts", "judgments"), [(40, f"the first {EARLY}"), (12, f"the {12 * 3 * 2}")]
)
def test_a_judge_whose_scores_are_equal_is_stopped(judged, prompts, judgments):
    judged.script(CONSTANT)
    judged.write_prompts(prompts)
    said = stopped(judged)
    assert f"each of {judgments} judgments has the score 5" in said
    assert "set stop_if.equal_scores to false" in said
    if prompts == 12:
        assert said == stopped(judged)  # again, if it is repeated
    with pytest.raises(StepFailed, match="was kept"):
        judged.run("stop_if.equal_scores=false")


@pytest.mark.slow
def test_only_a_judge_model_that_selects_pairs_is_checked(judged):
    (judged.folder / "gold.py").write_text("def grade(rows):\n    return [1.0] * len(rows)\n")
    (judged.folder / "nothing.md").write_text(
        "---\nscale: [0, 5]\nparser: 'Never: (\\d)'\n---\n{prompt} {answer}"
    )
    judged.add_probe()  # its function gives the same score to all answers
    judged.write(judges={"flat": {"function": "gold.py:grade"}, "mute": {"rubric": "nothing.md"}})
    assert judged.run().models["M_1"]


@pytest.mark.slow
def test_a_preview_of_a_judge_that_cannot_judge_ends(judged, factory):
    judged.script(MUTE)
    preview = ("preview", judged.path, "--lake", judged.lake)
    shown = factory(*preview)
    assert shown.code == 0
    assert "None of the 36 judgments has a score: use `rubric: rating`" in shown.out
    judged.script(CONSTANT)
    assert "Every answer has the score 5: use" in factory(*preview, "--set", "seed=7").out
    judged.script(SCORED)
    assert "use `rubric: rating`" not in factory(*preview, "--set", "seed=8").out


def test_too_many_truncated_answers(small):
    said = stopped(small, "sampling.max_tokens=2", "stop_if.truncated=0.5")
    assert "samples of M_0 as current, iteration 0: " in said
    assert (
        "answers were cut off by max_tokens (100%), more than stop_if.truncated allows (0.5)"
        in said
    )
    assert not small.shards("judgments")


def test_too_many_ties(judged):
    judged.script("def answer(messages, seed):\n    return f'word{seed} Score: 3'")
    said = stopped(judged, "stop_if.ties=0.2", "stop_if.equal_scores=false")
    assert said.startswith("pairs D1, iteration 0: 12 of 12 pairs are ties (100%)")
    assert said.count("both sides 3") == 3


@pytest.mark.slow
def test_a_probe_that_falls(judged):
    judged.write(loop={"iterations": 2})
    judged.add_probe()
    judged.run()
    scores = {row["name"]: row["score"] for row in probe(judged)}
    falls = [scores[f"M_{i}"] > scores[f"M_{i + 1}"] for i in range(2)]
    again = [stop for stop in (1, 2) if any(falls) and (stop == 1 or all(falls))]
    for times in (1, 2):
        if times in again:
            said = stopped(judged, f"stop_if.probe_falls={times}")
            assert "the probe's score fell" in said
        else:
            judged.run(f"stop_if.probe_falls={times}")


def probe(toy):
    return toy.query(
        "select name, avg(score) as score from candidates where role = 'probe' group by name"
    )


@pytest.mark.parametrize(
    ("scores", "times", "stops"),
    [
        ([3, 2, 1], 2, True),
        ([3, 2, 1], 1, True),
        ([3, 2, 2.5], 1, False),
        ([3, 1, 2], 2, False),
        ([1, 3, 2], 2, False),
        ([1, 3, 2], 1, True),
        ([2, 2, 2], 1, False),
    ],
)
def test_what_a_fall_of_the_probe_is(toy, scores, times, stops):
    """Let the probe's function score each model from a table. Answers differ by model."""
    from factory.plan import Step, StepState
    from factory.run.stop import check_limits

    survey = toy.look(f"stop_if.probe_falls={times}")
    rows = [{"name": f"M_{i}", "score": score} for i, score in enumerate(scores)]

    class Told:
        def all(self, query):
            assert query.address == "lake/probe_scores"
            return rows

    survey.views = lambda roles: Told()
    found = StepState(Step("verdicts", 2, "probe", "M_2"))
    if stops:
        with pytest.raises(StepFailed, match="the probe's score fell"):
            check_limits(survey, found)
    else:
        check_limits(survey, found)


def test_limits_that_are_not_reached_change_nothing(judged):
    survey = judged.run("stop_if={truncated: 1, unparsed: 1, ties: 1, probe_falls: 1}")
    assert survey.models["M_1"]
    assert judged.to_do() == set()


def test_what_a_step_held_before_counts_as_good():
    """After a kill or with a larger max_tokens, the difficult requests remain."""
    from factory.run.stop import ShareLimit

    fresh, resumed = (
        ShareLimit("s", "truncated", 0.3, earlier, is_own=True) for earlier in (0, 800)
    )
    for n in range(EARLY):
        resumed.see(n % 2 == 0, "x")
    for n in range(EARLY - 1):
        fresh.see(n % 2 == 0, "x")
    with pytest.raises(StepFailed, match="100 of 200"):
        fresh.see(False, "x")


def test_a_limit_of_zero_allows_no_judgment_without_a_score(judged):
    judged.script(SILENT)
    said = stopped(judged, "stop_if.unparsed=0")
    assert "more than stop_if.unparsed allows (0)" in said


@pytest.mark.parametrize(("score", "is_stopped"), [("mean", True), ("expected", False)])
def test_equal_scores_are_those_that_rank_the_pairs(judged, score, is_stopped):
    """The judge always writes 4, but the probabilities of its labels differ."""
    judged.write(judge={"rubric": "rating", "expected_score": True}, pairs={"score": score})
    judged.fields["judge"].pop("parser")
    judged.write()
    state = judged.look()
    step = next(step for step in state.steps if step.stage == "judgments")
    maker = _JudgmentMaker.__new__(_JudgmentMaker)
    maker._rubric, maker._scale = state.opened.reading(step)
    maker._ranks_by = state.opened.choice.ranks_by(step.judge_name)
    labels = [{"label": "4", "logprob": -0.1}, {"label": "5", "logprob": -3.0}]
    scores = {
        maker.assess(
            Result(
                "r",
                draw,
                text="4",
                finish_reason="stop",
                score_logprobs=[labels[0], {**labels[1], "logprob": -3.0 - draw}],
            )
        ).score
        for draw in range(5)
    }
    assert (len(scores) == 1) == is_stopped
