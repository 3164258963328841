"""SQL that a user wrote only reads, only the lake, and only as one query or one expression."""

import pytest

from factory.errors import QueryError
from factory.lake import Views, check_expression

WRITES = [
    "copy (select 1) to 'out.csv'",
    "explain analyze copy (select 1) to 'out.csv'",
    "EXPLAIN (format json) copy (select 1) to 'out.csv'",
    "explain /* select */ analyze copy (select 1) to 'out.csv'",
    "explain explain analyze copy (select 1) to 'out.csv'",
    "select 1; copy (select 1) to 'out.csv'",
    "attach 'out.csv' as other",
    "create table t as select 1",
    "export database 'out.csv'",
    "install httpfs",
    "load httpfs",
    "set threads = 1",
    "pragma database_list",
    "call pragma_version()",
    "begin",
    "",
    ";",
    "-- nothing",
]

READS = [
    "select 1 as a",
    "from (values (1)) as t(a)",
    "explain select 1",
    "explain analyze select 1",
    "explain (format json) select 1",
    "with x as (select 1 as a) from x",
    "describe select 1",
    "summarize select 1 as a",
    "-- a comment\nselect 1; -- another",
]

TWICE = [
    "select 1 as a, 2 as a",
    "select 1 as a, 2 as A",
    "from (select 1 as a) x, (select 2 as a) y",
]

FILES = [
    "from '{file}'",
    "from read_csv('{file}')",
    "from read_text('{file}')",
    "from read_blob('{file}')",
    "from glob('{folder}/*')",
    "from read_csv('{folder}/lake/../secret.csv')",
    "select (select count(*) from read_text('{file}'))",
    "from read_csv('https://localhost/file.csv')",
]

EXPRESSIONS = [
    "score",
    "score + 0.5 * length_score",
    "coalesce(score, 0)",
    "greatest(score, other)::integer",
    "case when score > 3 and other is not null then 1 else 0 end",
    "score between 1 and 3 or not score in (1, 2)",
    "round(score, 1) / nullif(other, 0)",
    "if(score > 1, other, null)",
    "list_avg([score, other])",
    "list_sum([columns(*)])",
    "try_cast(name as double)",
    "ln(1 + abs(score)) ** 2",
    "regexp_matches(name, 'a+')",
    "date_diff('day', date '2020-01-01', date '2020-01-02')",
]

NOT_EXPRESSIONS = [
    "random()",
    "score + random()",
    "uuid()",
    "now()",
    "current_timestamp",
    "current_date",
    "today()",
    "age(timestamp '2020-01-01')",
    "current_setting('threads')",
    "nextval('s')",
    "unnest([score, 1])",
    "(select max(score) from read_csv('file.csv'))",
    "(select 1)",
    "exists (select 1)",
    "score in (select 1)",
    "sum(score)",
    "max(score) over ()",
    "row_number() over ()",
    "score, other",
    "score as value, other",
    "1) from read_csv('file.csv'); select (1",
    "score) as value from other -- ",
    "score -- comment",
    "score from other",
    "score where true",
    "score order by 1",
    "score limit 1",
    "score; select 1",
    "$1",
    "?",
    "list_transform([score], x -> x + random())",
    "getenv('HOME')",
    "read_text('file.csv')",
    "no_such_function(score)",
    "version()",
    "list_sum(range(1000000000))",
    "length(repeat('a', 1000000000))",
    "score +",
    "",
]


@pytest.mark.parametrize("text", WRITES)
def test_only_one_query_that_reads_runs(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    with Views() as views, pytest.raises(QueryError):
        views.answer(text)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", READS)
def test_queries_run(text):
    with Views(readable=[]) as views:
        assert views.answer(text).num_rows > 0


@pytest.mark.parametrize("text", TWICE)
def test_a_query_with_two_columns_of_one_name_is_refused(text):
    with Views(readable=[]) as views, pytest.raises(QueryError, match="two columns have the name"):
        views.answer(text)


@pytest.mark.parametrize("text", FILES)
def test_a_query_reads_no_file_outside_the_lake(tmp_path, text):
    (tmp_path / "lake").mkdir()
    (tmp_path / "secret.csv").write_text("secret\n1\n")
    with (
        Views(readable=[tmp_path / "lake"]) as views,
        pytest.raises(QueryError, match=r"outside the lake|Extension") as raised,
    ):
        views.answer(text.format(file=tmp_path / "secret.csv", folder=tmp_path))
    assert "secret\n1" not in str(raised.value)


@pytest.mark.parametrize("change", ["set threads = 1", "set enable_external_access = true"])
def test_the_settings_are_locked(change):
    import duckdb

    with Views(readable=[]) as views, pytest.raises(duckdb.Error, match="lock"):
        views.con.execute(change)


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_expressions_over_a_row_are_accepted(text):
    check_expression(text)


@pytest.mark.parametrize("text", NOT_EXPRESSIONS)
def test_other_expressions_are_refused(text):
    with pytest.raises(QueryError):
        check_expression(text)
