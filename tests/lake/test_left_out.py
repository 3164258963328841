"""Rows that the views of a lake leave out, with and without the quick check, and the memory use of
the views.
"""

import pyarrow.parquet as pq
import pytest
from shards import HandWritten, judgment, role, sample, verdict

from factory.errors import QueryError
from factory.lake import Lake, Views, load_query
from factory.lake.views import _spill_folder

COUNTS = """
select
    (select count(*) from samples) as samples,
    (select count(*) from judgments) as judgments,
    (select count(*) from verdicts) as verdicts,
    (select sum(n_judgments) from scores) as scored
"""


def folder_of(toy, table):
    shard = toy.shards(table)[0]
    return Lake(toy.lake).folder(table, shard.parent.name), shard


@pytest.mark.parametrize("table", ["samples", "judgments", "verdicts"])
def test_rows_of_a_lake_that_are_made_twice_later_count_once(toy, table):
    toy.finish()
    before = toy.query(COUNTS)
    folder, shard = folder_of(toy, table)
    folder.append(pq.read_table(shard).slice(0, 2))
    assert toy.query(COUNTS) == before
    assert toy.to_do() == set()


def test_verdicts_of_judgments_that_are_lost_later_do_not_count(toy):
    toy.finish()
    (before,) = toy.query(COUNTS)
    _, shard = folder_of(toy, "judgments")
    lost = pq.read_metadata(shard).num_rows
    shard.unlink()
    (after,) = toy.query(COUNTS)
    assert after["judgments"] == before["judgments"] - lost
    assert after["verdicts"] == before["verdicts"] - lost


@pytest.mark.slow
def test_a_lake_with_nothing_left_out_is_looked_through_once(toy, monkeypatch):
    toy.run()
    asked = []
    one = Views.one
    monkeypatch.setattr(
        Views, "one", lambda views, query: asked.append(query.name) or one(views, query)
    )
    toy.look()
    assert not [name for name in asked if name.startswith("whole_")]


def test_the_plain_shards_are_what_the_views_would_leave(toy):
    toy.finish()
    survey = toy.look()
    views = survey.views(survey.everything)
    plain = views.con.sql(COUNTS).fetchall()
    views.define_tables([])
    assert views.con.sql(COUNTS).fetchall() == plain


# the quick check


@pytest.fixture
def given(tmp_path):
    with Views() as views:
        yield HandWritten(views, tmp_path)


def is_whole(given, table):
    return bool(given.views.one(load_query(f"lake/whole_{table}"))["is_whole"])


def test_other_draws_requests_and_samplings_are_whole(given):
    rows = [sample("a"), sample("b", draw=1), sample("c", request="q"), sample("d", sampling="t")]
    given.shards("samples", a=rows)
    assert is_whole(given, "samples")


def test_a_sample_made_twice_is_seen(given):
    given.shards("samples", a=[sample("a")], b=[sample("b")])
    assert not is_whole(given, "samples")


@pytest.mark.parametrize(
    "second", [judgment("x=2"), {**judgment("y=1"), "context": "of a reference"}]
)
def test_judgments_made_twice_or_with_a_context_are_seen(given, second):
    given.shards("judgments", a=[judgment("x=1")], b=[second])
    given.shards("verdicts", a=[{**verdict("s", 0, 1), "judgment_id": "x=1"}])
    assert not is_whole(given, "judgments")
    assert not is_whole(given, "verdicts")


def test_verdicts_are_whole_beside_judgments_that_failed(given):
    failed = [judgment("s.1", None, "permanent"), judgment("s.2", None, "transient")]
    given.shards("judgments", a=[judgment("s.0"), *failed], b=[judgment("s.2", None, "transient")])
    given.shards("verdicts", a=[verdict("s", 0, 2)])
    given.roles(role("current"))
    assert is_whole(given, "verdicts")
    assert not is_whole(given, "judgments")
    assert [row["judgment_id"] for row in given.rows("verdicts")] == ["s.0"]


@pytest.mark.parametrize(
    "verdicts",
    [
        [verdict("s", 0, 2), verdict("s", 1, 2)],  # the judgment was deleted
        [verdict("s", 1, 2)],  # a different judgment
        [verdict("s", 0, 2), verdict("s", 0, 3)],  # a duplicate
    ],
)
def test_verdicts_that_the_view_leaves_out_are_seen(given, verdicts):
    given.shards("judgments", a=[judgment("s.0")])
    given.shards("verdicts", a=verdicts)
    assert not is_whole(given, "verdicts")


# memory


def spilled():
    return set(_spill_folder().iterdir())


def test_a_small_limit_goes_on_on_the_disk_and_leaves_nothing_there():
    before = spilled()
    with Views("60MB") as views:
        views.create_table("many", "select sha256(range::varchar) as name from range(1_000_000)")
        views.define("ordered_names", "select distinct name from many order by name")
        assert spilled() - before
        assert views.con.sql("select count(*) from ordered_names").fetchall() == [(1_000_000,)]
    assert not spilled() - before


def test_too_small_a_limit_is_a_sentence():
    with Views("2MB") as views, pytest.raises(QueryError, match="raise query_memory"):
        views.create_table(
            "many", "select list(sha256(range::varchar)) as names from range(1_000_000)"
        )


def test_a_run_with_little_memory_makes_the_same_pairs(toy):
    toy.finish()
    pairs = {path.name for path in toy.shards("pairs")}
    for path in toy.shards("pairs"):
        path.unlink()
    toy.run("query_memory=100MB")
    assert {path.name for path in toy.shards("pairs")} == pairs
