"""Views over shards: one row per draw, one score per sample, and no made-up numbers."""

import random

import pytest
from shards import HandWritten, judgment, role, sample, verdict

from factory.lake import Views, view_schema


@pytest.fixture
def lake(tmp_path):
    with Views() as views:
        yield HandWritten(views, tmp_path)


# scores


def test_a_score_is_the_mean_of_the_valid_verdicts(lake):
    lake.judged(verdict("s", 0, 1), verdict("s", 1, None), verdict("s", 2, 4))
    score = lake.scores()["s"]
    assert score["score"] == 2.5
    assert score["spread"] == 1.5
    assert (score["n_judgments"], score["n_unparsed"]) == (2, 1)


def test_zero_is_a_score(lake):
    lake.judged(verdict("s", 0, 0), verdict("s", 1, None))
    assert lake.scores()["s"]["score"] == 0


def test_without_a_valid_verdict_there_is_no_score(lake):
    lake.judged(verdict("s", 0, None), verdict("s", 1, None))
    score = lake.scores()["s"]
    assert score["score"] is None
    assert score["spread"] is None
    assert (score["n_judgments"], score["n_unparsed"]) == (0, 2)


def test_an_expected_score_counts_where_there_is_a_score(lake):
    of_a_quotation = {**verdict("s", 0, None), "expected_score": 5.0}
    lake.judged(of_a_quotation, {**verdict("s", 1, 2), "expected_score": 2.5})
    assert lake.scores()["s"]["expected_score"] == 2.5


def test_draws_beyond_those_of_the_recipe_are_not_counted(lake):
    lake.judged(*(verdict("s", draw, draw) for draw in range(5)), n_judge_draws=2)
    assert lake.scores()["s"]["score"] == 0.5
    assert lake.scores()["s"]["n_judgments"] == 2


def test_a_verdict_counts_once_however_many_roles_share_its_parser(lake):
    lake.judged(verdict("s", 0, 1), verdict("s", 1, 4))
    lake.roles(role("past"), role("current"), role("judge", parser=None))
    assert lake.scores()["s"]["n_judgments"] == 2


def test_scores_of_two_parsers_are_two_scores(lake):
    lake.judged(verdict("s", 0, 1), verdict("s", 0, 5, parser="other"))
    lake.roles(role("current"), role("probe", parser="other"))
    found = {row["parser_key"]: row["score"] for row in lake.rows("scores")}
    assert found == {"parser": 1, "other": 5}


def test_samples_keep_their_own_verdicts(lake):
    lake.judged(verdict("s", 0, 1), verdict("t", 0, 5), verdict("s", 1, 3))
    assert {name: row["score"] for name, row in lake.scores().items()} == {"s": 2, "t": 5}


def test_the_same_verdicts_in_another_order_are_the_same_score(lake):
    """Otherwise what is a tie, and the key of a build, would hang on the order of rows."""
    random_ = random.Random(1)
    scores = [round(random_.uniform(0, 5), 1) for _ in range(7)]
    rows = [
        verdict(f"s{number}", draw, score)
        for number in range(50)
        for draw, score in enumerate(random_.sample(scores, 7))
    ]
    lake.judged(*rows, n_judge_draws=7)
    (score,) = {row["score"] for row in lake.scores().values()}
    assert score == pytest.approx(sum(scores) / 7)


def test_scores_are_what_python_makes_of_random_verdicts(lake):
    random_ = random.Random(3)
    rows = [
        verdict(f"s{number}", draw, random_.choice([None, 0, 1, 2, 3, 4, 5]))
        for number in range(100)
        for draw in range(random_.randrange(1, 6))
    ]
    random_.shuffle(rows)
    lake.judged(*rows, n_judge_draws=3)
    expected = {}
    for row in rows:
        if row["draw"] < 3:
            expected.setdefault(row["sample_id"], []).append(row["score"])
    found = lake.scores()
    assert found.keys() == expected.keys()
    for name, scores in expected.items():
        valid = [score for score in scores if score is not None]
        mean = pytest.approx(sum(valid) / len(valid)) if valid else None
        assert found[name]["score"] == mean
        assert found[name]["n_judgments"] == len(valid)
        assert found[name]["n_unparsed"] == len(scores) - len(valid)


# duplicate rows


def test_a_sample_made_twice_is_that_of_the_first_shard_by_name(lake):
    lake.shards("samples", b=[sample("second")], a=[sample("first")], c=[sample("third")])
    assert [row["text"] for row in lake.rows("samples")] == ["first"]


def test_a_sample_made_twice_in_one_shard_is_the_first_row(lake):
    lake.shards("samples", a=[sample("first"), sample("second")])
    assert [row["text"] for row in lake.rows("samples")] == ["first"]


def test_the_view_has_the_columns_of_the_table_and_no_more(lake):
    lake.shards("samples", a=[sample("first")])
    assert list(lake.rows("samples")[0]) == view_schema("samples").names


def test_a_transient_failure_is_superseded_by_a_later_answer(lake):
    lake.shards("samples", a=[sample(None, "transient")], b=[sample("answer")])
    assert [row["text"] for row in lake.rows("samples")] == ["answer"]


def test_a_transient_failure_is_superseded_by_a_failure_for_good(lake):
    lake.shards("samples", a=[sample(None, "transient")], b=[sample(None, "permanent")])
    assert [row["error_kind"] for row in lake.rows("samples")] == ["permanent"]


def test_an_answer_is_not_superseded_by_a_transient_failure(lake):
    lake.shards("samples", a=[sample("answer")], b=[sample(None, "transient")])
    assert [row["text"] for row in lake.rows("samples")] == ["answer"]


def test_a_failure_alone_is_a_row(lake):
    lake.shards("samples", a=[sample(None, "transient")])
    assert [row["error_kind"] for row in lake.rows("samples")] == ["transient"]


def test_other_draws_requests_and_samplings_are_other_samples(lake):
    rows = [sample("a"), sample("b", draw=1), sample("c", request="q"), sample("d", sampling="t")]
    lake.shards("samples", a=rows)
    assert sorted(row["text"] for row in lake.rows("samples")) == ["a", "b", "c", "d"]


def test_judgments_made_twice_follow_the_same_rules(lake):
    lake.shards(
        "judgments",
        a=[judgment("x=1", None, "transient"), judgment("y=1", "kept")],
        b=[judgment("x=2", "kept"), judgment("y=2", "lost")],
        c=[judgment("y=1", "kept", judge="another")],
    )
    found = {(row["judge_key"], row["judgment_id"]) for row in lake.rows("judgments")}
    assert found == {("judge", "x=2"), ("judge", "y=1"), ("another", "y=1")}


# verdicts


def test_a_verdict_made_twice_is_that_of_the_first_shard_by_name(lake):
    lake.shards("judgments", a=[judgment("s.0")])
    lake.shards("verdicts", b=[verdict("s", 0, 5)], a=[verdict("s", 0, 2)])
    lake.roles(role("current"))
    assert [row["score"] for row in lake.rows("verdicts")] == [2]
    assert lake.scores()["s"]["n_judgments"] == 1


def test_a_verdict_of_a_judgment_that_vanished_is_not_counted(lake):
    lake.shards("judgments", a=[judgment("s.1")])
    lake.shards("verdicts", a=[verdict("s", 0, 5), verdict("s", 1, 1)])
    lake.roles(role("current"))
    assert [row["judgment_id"] for row in lake.rows("verdicts")] == ["s.1"]
    assert lake.scores()["s"]["score"] == 1


def test_a_verdict_of_a_judgment_that_was_superseded_is_not_counted(lake):
    lake.shards("judgments", a=[judgment("x=1")], b=[judgment("x=2")])
    of_second = {**verdict("s", 0, 5), "judgment_id": "x=2"}
    lake.shards("verdicts", a=[of_second])
    assert lake.rows("verdicts") == []


def test_a_sample_whose_judgments_all_vanished_has_no_score(lake):
    lake.shards("verdicts", a=[verdict("s", 0, 5)])
    lake.roles(role("current"))
    assert lake.scores() == {}
