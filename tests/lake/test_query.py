"""SQL files read exactly the inputs that their comments declare. A missing input is an error."""

import json
import re
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

import factory
from factory.lake import Query, Views, all_queries, load_query, statement_of
from factory.lake.sql_text import fill, literal, parameters_of

ROOT = Path(factory.__file__).parent
MACROS = {"lake/macros", "lake/made_once", "lake/labels"}
QUERIES = [
    query
    for package in sorted(path.name for path in ROOT.iterdir() if (path / "__init__.py").exists())
    for query in all_queries(package)
    if query.address not in MACROS
]


def relations(statement: str) -> set[str]:
    """Return the relations that a SQL statement reads, by DuckDB's parser. The result includes the
    shards that `made_once` names, but not the statement's CTEs."""
    with duckdb.connect() as con:
        ((text,),) = con.execute("select json_serialize_sql(?)", [statement]).fetchall()
    tree = json.loads(text)
    assert not tree["error"], tree
    tables, ctes = set(), set()

    def walk(node):
        if isinstance(node, dict):
            if node.get("type") == "BASE_TABLE":
                tables.add(node["table_name"])
            if node.get("function_name") == "made_once":
                tables.add(node["arguments"][0]["expression"]["literal"]["text"])
            ctes.update(entry["key"] for entry in node.get("cte_map", {"map": []})["map"])
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(tree)
    return tables - ctes


def test_there_are_queries_in_every_package_with_sql():
    packages = {query.address.partition("/")[0] for query in QUERIES}
    assert packages >= {"export", "lake", "pairs", "plan", "publish", "report", "run", "train"}
    assert len(QUERIES) > 80


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.address)
def test_a_query_declares_what_it_reads_and_its_parameters(query):
    assert query.parameters == parameters_of(query.statement)
    nothing = dict.fromkeys(query.parameters)
    assert query.reads == relations(fill(query.statement, nothing))


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.address)
def test_a_query_states_its_grain(query):
    if "/policies/" not in query.address:
        assert re.search(r"^-- Grain: ", query.text, re.MULTILINE)


def test_every_address_in_the_code_is_a_file_and_every_file_has_a_reader():
    code = "\n".join(path.read_text() for path in ROOT.rglob("*.py"))
    used = set(re.findall(r'load_query\(f?"([\w/{}.]+)"', code))
    addresses = {query.address for query in QUERIES} | MACROS
    for address in used:
        pattern = re.sub(r"\\\{[^}]*\}", r"\\w+", re.escape(address))
        assert any(re.fullmatch(pattern, each) for each in addresses), address


# inputs and parameters

NEEDS = Query(
    "test/needs",
    "-- Reads: rows_of_mine\n-- Parameters: least\nfrom rows_of_mine where n >= $least",
)


def rows(*values):
    return pa.table({"n": list(values)})


def test_a_query_runs_with_its_inputs_and_parameters():
    with Views() as views:
        views.register("rows_of_mine", rows(1, 2, 3))
        assert views.all(NEEDS, least=2) == [{"n": 2}, {"n": 3}]


def test_a_forgotten_input_is_an_error():
    with (
        Views() as views,
        pytest.raises(LookupError, match="test/needs reads the relation rows_of_mine"),
    ):
        views.all(NEEDS, least=2)


@pytest.mark.parametrize("values", [{}, {"least": 1, "most": 2}, {"most": 2}])
def test_a_forgotten_or_unknown_parameter_is_an_error(values):
    with Views() as views:
        views.register("rows_of_mine", rows(1))
        with pytest.raises(TypeError, match=r"expects the parameters \['least'\]"):
            views.all(NEEDS, **values)


def test_an_input_of_an_earlier_caller_does_not_count():
    with Views() as views:
        views.register("rows_of_mine", rows(1))
        renewed = views.renew()
        with pytest.raises(LookupError):
            renewed.all(NEEDS, least=1)
        with pytest.raises(RuntimeError, match="`renew` was called"):
            views.all(NEEDS, least=1)


def test_training_rows_without_their_texts_are_an_error_and_not_empty():
    with Views() as views:
        views.define("selected_pairs", "select 'p' as prompt_id limit 0")
        with pytest.raises(LookupError, match=r"reads the relation (prompts|texts)"):
            views.define("pair_rows", load_query("export/pair_rows"))


# SQL as text


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("-- why\nselect 1 -- one\n\n", "select 1"),
        ("select /* a\nb */ 1", "select  1"),
        ("select '-- no comment', \"--\"", "select '-- no comment', \"--\""),
        ("select $$ -- kept $$", "select $$ -- kept $$"),
        ("select 'it''s -- kept'", "select 'it''s -- kept'"),
        ("select 'a\n\nb'\n\n\n  from t", "select 'a\n\nb'\n  from t"),
    ],
)
def test_a_statement_is_its_text_without_comments(text, statement):
    assert statement_of(text) == statement


def test_parameters_inside_strings_are_text():
    assert (
        fill("select $a, '$a', \"$a\" -- $a", {"a": "it's"}) == "select 'it''s', '$a', \"$a\" -- $a"
    )
    assert parameters_of("select '$a', $b") == {"b"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (3, "3"),
        (0.1, "0.1"),
        (float("inf"), "'inf'::double"),
        ("a'b", "'a''b'"),
        (Path("x/y"), "'x/y'"),
    ],
)
def test_values_become_literals(value, text):
    assert literal(value) == text
