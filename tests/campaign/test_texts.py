"""Bad prompt files, rubrics, policies, queries, and expressions over judges."""

import gzip
import io
import json

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import yaml
from campaign.case import (
    TEXTS,
    Case,
    Kind,
    change_json,
    copy_finished,
    dump,
    hostile,
    mangle,
    show,
)
from toys import QUICKSTART

from factory.pairs import shipped_policies
from factory.stages import shipped_rubrics

# prompt files

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"b": 1, "a": {"c": []}}}}
LINES = (
    {"prompt": "Say it.", "reference": "it", "source": "s", "license": "l"},
    {"prompt": "Say that.", "meta": {"a": 1, "b": [None]}, "criteria": "c"},
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."}]},
    {
        "messages": [
            {"role": "user", "content": "Call."},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {}}]},
            {"role": "tool", "content": "3", "tool_call_id": "1", "name": "f"},
        ],
        "tools": [TOOL],
        "template_kwargs": {"enable_thinking": False},
    },
)
RAW = (
    '{"prompt": "a", "prompt": "b"}',
    '{"prompt": "a", "meta": {"x": 1, "x": 2}}',
    '{"prompt": "a"} {"prompt": "b"}',
    '{"prompt": "a"},',
    "{'prompt': 'a'}",
    '{"prompt": "a" // comment\n}',
    '{"prompt": "\\ud83d"}',
    '{"prompt": "\\ud83d\\ude00"}',
    '{"prompt": "\\u0000"}',
    '{"prompt": NaN}',
    '{"prompt": "a", "meta": {"x": NaN}}',
    '{"prompt": "a", "meta": {"x": 1e999}}',
    '{"prompt": "a", "meta": {"x": ' + "9" * 5000 + "}}",
    '{"prompt": "a", "meta": {"x": 18446744073709551616}}',
    '{"prompt": "a", "meta": ' + '{"a":' * 900 + "1" + "}" * 900 + "}",
    '{"prompt": "a", "meta": ' + "[" * 50000 + "]" * 50000 + "}",
    '{"prompt": "a", "template_kwargs": {"messages": []}}',
    '{"prompt": "a", "template_kwargs": {"": 1}}',
    '{"prompt": "a", "tools": [{"a": {}}], "reference": ""}',
    '{"prompt": "a", "tools": []}',
    '{"prompt": "a", "messages": []}',
    '{"prompt": " "}',
    '{"prompt": "\\t\\n"}',
    '{"prompt": "\\u200b"}',
    '{"prompt": "\\u202eabc"}',
    '{"prompt": "\\u001b[31m"}',
    '{"prompt": "a"}\r',
    '\ufeff{"prompt": "a"}',
    '{"prompt": "a\u2028b"}',
    '{"prompt": "' + "long " * 200_000 + '"}',
    '{"' + "x" * 5000 + '": 1}',
    '{"prompt": ["a"]}',
    '{"prompt": {"text": "a"}}',
    '{"messages": {"role": "user", "content": "a"}}',
    '{"messages": [["user", "a"]]}',
    '{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}',
    '{"messages": [{"from": "human", "value": "a"}]}',
    '{"messages": [{"role": "User", "content": "a"}]}',
    '{"messages": [{"role": ["user"], "content": "a"}]}',
    '{"messages": [{"role": {"a": 1}, "content": "a"}]}',
    '{"messages": [{"role": null, "content": "a"}]}',
    '{"messages": [{"role": "assistant", "content": "a"}]}',
    '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}',
    '{"instruction": "a", "output": "b"}',
    '{"conversations": []}',
    "null",
    "[]",
    "3",
    '"a"',
    "{}",
    "",
    "prompt",
    "\x00",
)


def prompts(case: Case) -> None:
    lines = [json.dumps(line, ensure_ascii=False) for line in LINES]
    match case.rng.randrange(8):
        case 0 | 1:
            place = case.rng.randrange(len(LINES))
            lines[place] = json.dumps(change_json(case, LINES[place]))
        case 2 | 3:
            line = case.pick(RAW)
            case.note("line:", show(line))
            lines.insert(case.rng.randrange(len(lines) + 1), line)
        case 4:
            lines += [case.pick(lines), lines[0].replace(": ", ":")]
            case.note("duplicates")
        case 5:
            text = case.pick(TEXTS)
            field = case.pick(("prompt", "reference", "source", "license", "criteria"))
            lines.append(json.dumps({"prompt": "Odd.", field: text}))
            case.note(field, "=", show(text))
        case 6:
            lines = lines * case.pick((0, 1, 300))
            case.note(len(lines), "lines")
        case _:
            pass
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    if case.rng.random() < 0.3:
        way, data = mangle(case.rng, data)
        case.note("bytes:", way)
    name = "prompts.jsonl"
    if case.rng.random() < 0.15:
        name, data = _other_format(case)
    case.toy.prompts.unlink()
    case.write(name, data)
    case.toy.write(prompts={"files": [name]})
    if case.rng.random() < 0.3:
        case.toy.write(prompts={"on_error": "skip"})
    if case.rng.random() < 0.2:
        case.write("more.jsonl", data)
        case.toy.write(prompts={"files": [name, "more.jsonl"]})
    if case.rng.random() < 0.15:
        _real_model(case)


def _other_format(case: Case) -> tuple[str, bytes]:
    name = case.pick(("prompts.csv", "prompts.parquet", "prompts.jsonl.gz", "prompts.json", "p"))
    case.note("format:", name)
    table = pa.table({"prompt": ["a", "b"], "reference": ["c", None]})
    file = io.BytesIO()
    if name.endswith("csv"):
        pyarrow.csv.write_csv(table, file)
    elif name.endswith("parquet"):
        pyarrow.parquet.write_table(table, file)
    elif name.endswith("gz"):
        file.write(gzip.compress(json.dumps(LINES[0]).encode()))
    else:
        file.write(json.dumps(LINES[:2], indent=2).encode())
    case.must_fail = name != "p"
    return name, file.getvalue()


def _real_model(case: Case) -> None:
    """Count the tokens of the prompts with a real tokenizer."""
    case.toy.write(
        model=str(QUICKSTART / "m0"), engine={"name": "transformers"}, sampling={"max_tokens": 8}
    )
    case.runs = 0


# rubrics

RUBRIC = """---
scale: [0, 5]
parser: 'Score: (\\d)'
labels: [0, 1, 2, 3, 4, 5]
source: a test
description: grades
---
Grade this answer.

Question: {prompt}
Answer: {answer}
"""
HEADERS = ("scale", "parser", "labels", "source", "description")
PARSERS = (
    "(a+)+$",
    "((?:x+x+)+y)",
    r"(\d+",
    r"\d+",
    r"(\d)(\d)",
    "()",
    "(.*)",
    "(?i)(score)",
    r"(?P<score>\d)",
    r"(?<=a+)(b)",
    "(" * 200 + ")" * 200,
    r"(\1)",
    "(?s:.)(.{1000000})",
    "(é)",
    "[",
    "*(a)",
    "(a){1000000000}",
    r"Score: ([-\w]+)",
    r"(nan|inf|Score)",
    r"(\s)",
    "(?#comment)(.)",
)
SCALES = (
    [5, 0],
    [0, 0],
    [0],
    [0, 1, 2],
    ["0", "5"],
    [0, 1e308],
    [-1e308, 1e308],
    [0, float("inf")],
    [float("nan"), 1],
    [0, 10**30],
    [0, 10**400],
    [True, False],
    "0-5",
    {"low": 0, "high": 5},
    [0.5, 4.5],
    [-5, 5],
    [1, 1_000_000],
    None,
)
LABELS = (
    [],
    ["a", "a"],
    [1, "1"],
    [1, 1.0],
    [True, False],
    {"good": 5, "bad": -1},
    {"good": float("nan")},
    {"good": 10**400},
    {1: 1, "1": 2},
    {"": 1},
    [" a", "a"],
    ["\x00"],
    [None],
    [["a"]],
    list(range(1000)),
    ["é", "e\u0301"],
    "1-5",
    [10**30],
    ["a" * 10_000],
)


def rubrics(case: Case) -> None:

    _, header, body = RUBRIC.split("---\n")
    fields = yaml.safe_load(header)
    judge = {"rubric": "own.md"}
    text = None
    match case.rng.randrange(8):
        case 0 | 1:
            name = case.pick((*HEADERS, "unknown", "", 1))
            fields[name] = hostile(case.rng)
            case.note("header:", name, "=", show(fields[name]))
            case.must_fail = name not in HEADERS
        case 2:
            name, values = case.pick((("parser", PARSERS), ("scale", SCALES), ("labels", LABELS)))
            value = case.pick(values)
            case.note(name, "=", show(value))
            if name != "labels" and case.rng.random() < 0.5:
                judge[name] = value
            else:
                fields[name] = value
        case 3:
            name = case.pick(HEADERS)
            del fields[name]
            case.note("without", name)
        case 4:
            old, new = case.pick(
                (
                    ("{prompt}", ""),
                    ("{answer}", ""),
                    ("{answer}", "{answer_a}"),
                    ("{answer}", "{answer_a} {answer_b}"),
                    ("{answer}", "{answer} {answer}"),
                    ("{answer}", "{ answer }"),
                    ("{answer}", "{{answer}}"),
                    ("{answer}", "{answer} {unknown}"),
                    ("{answer}", "{answer} {criteria} {reference}"),
                    ("{answer}", "{answer!r} {answer:>10} {0} {}"),
                    ("{answer}", "<answer>{answer}</answer></(a+)+>"),
                    ("{answer}", "{answer}" + "x" * 500_000),
                    ("Grade", "\x1b[31mGrade\u202e"),
                )
            )
            body = body.replace(old, new)
            case.note("body:", old, "→", show(new))
        case 5:
            way, text = mangle(case.rng, RUBRIC.encode())
            case.note("bytes:", way)
        case 6:
            judge["rubric"] = case.pick([*TEXTS, "unknown", "additive.md", "Additive", "gold.py"])
            case.note("name:", show(judge["rubric"]))
        case _:
            judge["rubric"] = case.pick(shipped_rubrics())
            case.note("shipped:", judge["rubric"])
    if text is None:
        text = f"---\n{dump(fields)}---\n{body}".encode("utf-8", "surrogatepass")
    case.write("own.md", text)
    for name in ("constrained", "expected_score"):
        if case.rng.random() < 0.1:
            judge[name] = True
            case.note(name)
    case.toy.fields["judge"].update(judge)
    case.write_recipe()
    case.may_stop = True  # judgments without a score may leave no pairs


# policies

RIGHT = (
    "select prompt_id, best_current.id as chosen_id, worst_current.id as rejected_id from extremes"
)
QUERIES = (
    "select 1",
    "",
    ";",
    "-- nothing",
    "select prompt_id, chosen_id from extremes",
    "select prompt_id, chosen_id, rejected_id, 1 as more from extremes",
    "select 1 as prompt_id, 2 as chosen_id, 3 as rejected_id from extremes",
    "select prompt_id, null as chosen_id, null as rejected_id from extremes",
    "select prompt_id, best_current.id as chosen_id, best_current.id as rejected_id from extremes",
    "select prompt_id, 'x' as chosen_id, 'y' as rejected_id from extremes",
    f"{RIGHT} union all {RIGHT}",
    "select prompt_id, worst_current.id as chosen_id, best_current.id as rejected_id from extremes",
    f"{RIGHT} order by random() limit 2",
    "select prompt_id, min(sample_id) as chosen_id, 'x' as rejected_id from candidates group by 1",
    "select prompt_id, best_current.id as chosen_id, best_past.id as rejected_id from extremes",
    "from extremes",
    "select * from nothing",
    "select prompt_id, chosen_id, rejected_id from pairs",
    "select * from read_csv('/etc/passwd')",
    "select * from '../prompts.jsonl'",
    "copy (select 1) to 'stolen.csv'",
    "select 1; copy (select 1) to 'stolen.csv'",
    "create table t as select 1",
    "attach 'other.db'",
    "install httpfs",
    "load httpfs",
    "set memory_limit = '1GB'",
    "pragma database_list",
    "call pragma_version()",
    "explain select 1",
    "with recursive r as (select 1 as n union all select n + 1 from r) select n from r",
    "select count(*) as prompt_id, 1 as chosen_id, 2 as rejected_id from range(100000000000)",
    "select getenv('HOME') as prompt_id, 1 as chosen_id, 2 as rejected_id",
    "select prompt_id, $name as chosen_id, ? as rejected_id from extremes",
    "select prompt_id, unnest([1, 2]) as chosen_id, 3 as rejected_id from extremes",
    "select (((((((((1)))))))))" + " + 1" * 5000,
    RIGHT.replace("prompt_id", "PROMPT_ID").replace("chosen_id", "Chosen_ID"),
    "describe extremes",
    "show tables",
    "vacuum",
    "select error('stop') as prompt_id, 1 as chosen_id, 2 as rejected_id",
    RIGHT.replace("best_current.id", "best_current.id::int"),
    "values ('a', 'b', 'c')",
)
ROLES = (
    "past, current",
    "current",
    "past, current, future",
    "current, reference",
    "past",
    "",
    "Current",
    "current current",
    "current,",
    "current, current",
    "judge",
    "current; past",
    "x" * 10_000,
)
POLICY = """-- Pairs of the current model.
-- Roles: {roles}
{trains}{query}
"""


def policies(case: Case) -> None:
    roles, query, trains, name = "past, current", RIGHT, "", "own.sql"
    match case.rng.randrange(7):
        case 0 | 1 | 2:
            query = case.pick(QUERIES)
            case.note("query:", show(query))
        case 3:
            roles = case.pick(ROLES)
            case.note("roles:", show(roles))
        case 4:
            method = case.pick(("sft", "dpo", "SFT", "", "kto", "dpo, sft"))
            trains = f"-- Trains: {method}\n"
            case.note("trains:", method)
        case 5:
            name = case.pick((*(f"{text}.sql" for text in TEXTS), *TEXTS, *shipped_policies()))
            case.note("name:", show(name))
        case _:
            pass
    text = POLICY.format(roles=roles, trains=trains, query=query).encode()
    if case.rng.random() < 0.25:
        way, text = mangle(case.rng, text)
        case.note("bytes:", way)
    case.write("own.sql", text)
    case.set(["loop", "policy"], name)
    case.write_recipe()
    case.may_stop = True  # a valid policy may find no pairs


# expressions over judges, and queries

EXPRESSIONS = (
    "judge",
    "mean",
    "expected",
    "-judge",
    "judge + other",
    "judge_expected",
    "judge + unknown",
    "'judge'",
    '"judge"',
    "judge -- comment",
    "judge /* comment",
    "judge) + (1",
    "judge, other",
    "judge; drop table pairs",
    "judge as x",
    "*",
    "random()",
    "now()",
    "current_date",
    "uuid()",
    "hash(text)",
    "length(text)",
    "rank() over (order by judge)",
    "avg(judge)",
    "unnest([judge, 1])",
    "(select 1)",
    "(select max(judge) from candidates)",
    "exists (select 1)",
    "getenv('HOME')",
    "read_text('/etc/passwd')",
    "nextval('s')",
    "current_setting('threads')",
    "null",
    "null::double",
    "0",
    "1 / 0",
    "'nan'::double",
    "'inf'::double",
    "1e308 * 10",
    "text",
    "judge > 3",
    "judge = 1 or true",
    "true",
    "'yes'",
    "[judge]",
    "{'a': judge}",
    "judge::decimal(38, 10)",
    "judge::hugeint",
    "interval 1 day",
    "date '2025-01-01'",
    "case when judge > 1 then 1 end",
    "case when judge > 1 then 'a' else 2 end",
    "regexp_matches(text, '(a+)+$')",
    "repeat(text, 1000000)",
    "list_sum(range(1000000000))",
    "error('x')",
    "judge" + " + 1" * 3000,
    "(" * 300 + "judge" + ")" * 300,
    "judge\x00",
    "é",
    "",
    " ",
    "judge COLLATE nocase",
    "$1",
    "?",
    "try(1 / judge)",
    "coalesce(judge, 0)",
    "columns('judge')",
    "candidates.judge",
    "main.candidates.judge",
    "prompt_id",
    "getvariable('x')",
    "list_transform([1], x -> x + judge)[1]",
    "printf('%d', judge)",
)


def scores(case: Case) -> None:
    case.toy.write(
        judges={"other": {"function": "gold.py:grade"}} if case.rng.random() < 0.3 else {}
    )
    field = case.pick(("score", "score", "chosen_if", "rejected_if", "agree"))
    value = case.pick([*EXPRESSIONS, *TEXTS])
    case.note(f"pairs.{field} =", show(value))
    case.set(["pairs", field], [value] if field == "agree" else value)
    case.write_recipe()
    case.may_stop = True  # a valid expression may leave no pairs
    case.runs = 0.4


VIEWS = ("prompts", "samples", "judgments", "verdicts", "pairs", "candidates", "gaps", "scores")


def queries(case: Case) -> None:
    copy_finished(case)
    query = case.pick(
        (
            *QUERIES,
            *TEXTS,
            *(f"select {expression} from candidates" for expression in EXPRESSIONS),
            *(f"from {view}" for view in VIEWS),
            *(f"summarize {view}" for view in VIEWS),
            "from pairs limit 0",
            "select 1 as a, 2 as a",
            "select {'a': [1, null]} as nested, 'x'::blob as bytes, interval 1 day as time",
            "select '\x1b[31m' as red, chr(0) as zero, chr(8238) as turned",
            "select repeat('x', 100000)",
            "select * from range(100000)",
            "select 170141183460469231731687303715884105727 as huge, 'nan'::double as nan",
            "select '2025-01-01'::timestamptz as time, {'a': 1} as a, map {1: 2} as b",
            "explain analyze copy (select 1) to 'stolen.csv'",
            "explain analyze insert into pairs select * from pairs",
            "insert into pairs select * from pairs",
            "delete from pairs",
            "drop view pairs",
            "begin",
            "from glob('/etc/*')",
            "from read_blob('/etc/hostname')",
            "select content from read_text('recipe.yaml')",
            "select * from 'lake/pairs/*/*.parquet'",
            "from sniff_csv('prompts.jsonl')",
            "copy pairs to 'stolen.parquet'",
            "export database 'stolen'",
            "pivot pairs on outcome using count(*)",
        )
    ).replace("\x00", " ")
    case.must_fail = any(word in query for word in ("stolen", "/etc/", "insert into"))
    command = ["sql", str(case.toy.path), query, "--lake", str(case.lake)]
    if case.rng.random() < 0.6:
        command += ["--format", case.pick(("json", "csv", "parquet", "table", "yaml", ""))]
    case.commands = [[word.encode("utf-8", "replace").decode() for word in command]]
    case.note("factory sql", show(query), *command[5:])


KINDS = {
    "prompts": Kind(prompts, 36, runs=0.15),
    "rubrics": Kind(rubrics, 18, runs=0.15),
    "policies": Kind(policies, 8, runs=0.3),
    "scores": Kind(scores, 14),
    "queries": Kind(queries, 14),
}


def test_an_input_is_refused_or_works(verdict):
    assert verdict.is_right, verdict
