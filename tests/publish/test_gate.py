"""Tests of the pre-publish checks: each check finds only the row that was planted for it."""

import json
import re
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planted import GITHUB, HERE, PASSWORD, PATHS, PERSONAL, SECRETS
from toys import publishable, write_published

from factory.errors import PublishError, Refused
from factory.lake import load_query
from factory.publish import CHECKS, check_names, examine, open_views, pass_gate
from factory.publish.gate import CONTROL_PATTERN
from factory.publish.texts import texts_in


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    place = tmp_path_factory.mktemp("gate")
    toy = publishable(place / "toy")
    toy.finish()
    return write_published(toy, place / "folder")


@pytest.fixture
def folder(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "copy")


def look(folder, tokens=(), evaluation=(), places=()):
    with open_views(folder) as views:
        found = examine(views, folder, tokens, evaluation, places)
    return {finding.name: finding for finding in found}


def bad(folder, *more, **options):
    return {name: finding for name, finding in look(folder, *more, **options).items() if finding.n}


def plant(folder, name, change, row=0):
    """Change a row in a file of the folder, and return the row."""
    file = folder / name
    table = pq.read_table(file)
    rows = table.to_pylist()
    change(rows[row])
    pq.write_table(pa.Table.from_pylist(rows, table.schema), file)
    return rows[row]


def say(side, text):
    def change(row):
        row[side][-1]["content"] = text

    return change


def test_a_clean_folder_passes(clean):
    found = look(clean)
    assert list(found) == [check.name for check in CHECKS]
    assert {finding.n for finding in found.values()} == {0}
    pass_gate(list(found.values()), [])


def both(row, chosen, rejected):
    say("chosen", chosen)(row)
    say("rejected", rejected)(row)


PAIRS = "data/train-00.parquet"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("identical", lambda row: say("rejected", row["chosen"][-1]["content"] + " \n")(row)),
        ("similar", lambda row: both(row, "One two. three", "one three Two.")),
        ("scores", lambda row: row.update(score_chosen=row["score_rejected"])),
        ("scores", lambda row: row.update(score_rejected=None)),
        ("scores", lambda row: row.update(score_chosen=row["score_rejected"] - 1)),
        ("empty", say("chosen", " \t ")),
        ("template", say("chosen", "Well.<|im_end|>")),
        ("template", say("prompt", "Hello [INST]")),
    ],
)  # fmt: skip
def test_a_planted_pair_is_found(folder, name, change):
    planted = plant(folder, PAIRS, change)
    found = bad(folder)
    assert list(found) == [name]
    assert found[name].n == 1
    assert found[name].is_bad
    assert [(row["config"], row["id"]) for row in found[name].rows] == [
        ("default", planted["pair_id"])
    ]


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_finite_number_is_found(folder, score):
    plant(folder, PAIRS, lambda row: row.update(score_chosen=score))
    assert list(bad(folder)) == ["scores"]


def test_pairs_that_contradict_each_other_are_found(folder):
    one = pq.read_table(folder / PAIRS).to_pylist()[0]

    def turn(row):
        row.update(prompt_id=one["prompt_id"], prompt=one["prompt"])
        row.update(chosen=one["rejected"], rejected=one["chosen"])

    planted = plant(folder, PAIRS, turn, row=1)
    found = bad(folder)
    assert list(found) == ["contradictions"]
    assert {row["id"] for row in found["contradictions"].rows} == {
        one["pair_id"],
        planted["pair_id"],
    }


def test_a_text_with_two_labels_is_found(folder):
    name = "kto/train-00.parquet"
    one = pq.read_table(folder / name).to_pylist()[0]

    def turn(row):
        row.update({**one, "sample_id": "other", "label": not one["label"]})

    plant(folder, name, turn, row=1)
    found = bad(folder)
    assert list(found) == ["contradictions"]
    assert {(row["config"], row["id"]) for row in found["contradictions"].rows} == {
        ("kto", one["sample_id"]),
        ("kto", "other"),
    }


def test_a_prompt_without_a_licence_is_found(folder):
    planted = plant(folder, "tables/prompts-00.parquet", lambda row: row.update(license=" "))
    found = bad(folder)
    assert list(found) == ["license"]
    assert [row["id"] for row in found["license"].rows] == [planted["prompt_id"]]


def test_the_models_own_control_tokens_are_looked_for_and_plain_words_are_not(folder):
    plant(folder, PAIRS, say("chosen", "this is <turn> plain"))
    assert bad(folder) == {}
    found = bad(folder, ["<turn>", "plain", "is"])
    assert [row["what"] for row in found["template"].rows] == ["<turn>"]


def test_anchored_pairs_are_looked_at_too(folder):
    planted = plant(folder, "anchored/test-00.parquet", say("rejected", ""))
    (row,) = bad(folder)["empty"].rows
    assert (row["config"], row["id"]) == ("anchored", planted["pair_id"])


def test_a_prompt_in_both_splits_is_found_by_its_words(folder):
    taken = pq.read_table(folder / PAIRS).to_pylist()[0]
    text = taken["prompt"][-1]["content"].upper() + " !"
    plant(folder, "data/test-00.parquet", say("prompt", text))
    found = bad(folder)
    assert list(found) == ["splits"]
    assert found["splits"].rows[0]["id"] == taken["prompt_id"]


def ask(*messages):
    """Replace the messages of a prompt."""

    def change(row):
        message = row["messages"][-1]
        row["messages"] = [{**message, "role": role, "content": text} for role, text in messages]

    return change


QUESTION = "Which river is the longest of all rivers?"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([("system", "Be brief."), ("user", "Hi!")], [("system", "Rhyme."), ("user", "Hi")]),
        ([("user", "Hi there!")], [("system", "Rhyme."), ("user", "Hi\u200b there")]),
        (
            [("user", QUESTION)],
            [("user", "Hi!"), ("assistant", "Hello."), ("user", QUESTION)],
        ),
        ([("user", "最长的河")], [("system", "写诗。"), ("user", "最长的河？")]),
    ],
)  # fmt: skip
def test_the_same_turn_under_another_system_message_is_in_both_splits(folder, one, other):
    file = "tables/prompts-00.parquet"
    splits = [row["split"] for row in pq.read_table(folder / file).to_pylist()]
    first = plant(folder, file, ask(*one), splits.index("train"))
    plant(folder, file, ask(*other), splits.index("test"))
    found = bad(folder)
    assert list(found) == ["splits"]
    assert [row["id"] for row in found["splits"].rows] == [first["prompt_id"]]


@pytest.mark.parametrize(
    ("prompt", "evaluation", "expected"),
    [
        ("Please help me. Who wrote Hamlet? Answer in one word.", "Who wrote Hamlet?", True),
        ("Please help me. Who wrote Macbeth? Answer in one word.", "Who wrote Hamlet?", False),
        ("Tell me: which river is\u200b the LONGEST of all rivers?", QUESTION, True),
        ("My city is Paris, and I like it.", "Paris", False),
        ("I live in New York City, and I like it.", "New York City", False),
        ("请用一句话回答：世界上最长的河流是哪一条？谢谢。", "世界上最长的河流是哪一条？", True),
        ("请问世界上最高的山峰是哪一座呢", "世界上最长的河流是哪一条？", False),
        (
            "次の質問に答えて。日本で一番高い山は何ですか。どうぞ。",
            "日本で一番高い山は何ですか",
            True,
        ),
        ("सवाल: भारत की राजधानी क्या है? बताइए।", "भारत की राजधानी क्या है?", True),
    ],
)
def test_a_short_question_inside_a_prompt_is_found(folder, tmp_path, prompt, evaluation, expected):
    plant(folder, "tables/prompts-00.parquet", ask(("user", prompt)))
    file = tmp_path / "evaluation.txt"
    file.write_text(evaluation)
    assert bool(bad(folder, evaluation=[file])) is expected


@pytest.mark.parametrize(
    "token",
    [
        "<|im_start|>", "<|start|>", "<|channel|>", "<|message|>", "<|return|>", "<|eom_id|>",
        "<|python_tag|>", "<|header_start|>", "<|START_OF_TURN_TOKEN|>", "<|im_middle|>",
        "<|observation|>", "<|endofprompt|>", "<|turn>", "<turn|>", "<｜User｜>",
        "<｜end▁of▁sentence｜>",
        "<|im\u200b_start|>", "[TOOL_CALLS]", "[SYSTEM_PROMPT]", "<start_of_turn>", "[|assistant|]",
    ],
)  # fmt: skip
def test_control_tokens_of_other_models_are_found(marked, token):
    assert marked[token] is True


@pytest.mark.parametrize(
    "text", ["x <| f |> g", "a <b> c", "if a<b|c>d", "[1] and [INSTALL]", "<s>old</s> new"]
)
def test_ordinary_brackets_are_no_control_tokens(marked, text):
    assert marked[text] is False


@pytest.fixture(scope="module")
def marked(clean, tmp_path_factory):
    """Whether the check `template` finds something in a text, with the texts in one folder."""
    own = request_texts()
    folder = shutil.copytree(clean, tmp_path_factory.mktemp("marked") / "copy")
    ids = {}
    file = folder / PAIRS
    table = pq.read_table(file)
    rows = [dict(row) for row in table.to_pylist()]
    many = []
    for place, text in enumerate(own):
        row = json.loads(json.dumps(rows[0]))
        row["pair_id"] = f"{place:03}"
        row["chosen"][-1]["content"] = f"Well. {text} So."
        ids[text] = row["pair_id"]
        many.append(row)
    pq.write_table(pa.Table.from_pylist(many, table.schema), file)
    with open_views(folder) as views:
        examine(views, folder)
        found = views.all(load_query("publish/check_template"), control_pattern=CONTROL_PATTERN)
    bad_ids = {row["id"] for row in found}
    return {text: ids[text] in bad_ids for text in own}


def request_texts():
    listed = []
    for test in (
        test_control_tokens_of_other_models_are_found,
        test_ordinary_brackets_are_no_control_tokens,
    ):
        (mark,) = test.pytestmark
        listed += mark.args[1]
    return listed


def test_answers_that_were_cut_off_may_be_a_few(folder):
    def cut(row):
        row["finish_reason"] = "length"

    pairs = pq.read_table(folder / PAIRS).to_pylist()
    candidates = folder / "candidates" / "train-00.parquet"
    table = pq.read_table(candidates)
    rows = table.to_pylist()
    for n, expected in ((1, False), (len(pairs), True)):
        chosen = {pair["chosen_id"] for pair in pairs[:n]}
        for row in rows:
            if row["sample_id"] in chosen:
                cut(row)
        pq.write_table(pa.Table.from_pylist(rows, table.schema), candidates)
        found = look(folder)["truncated"]
        assert found.n >= n
        assert found.is_bad is expected


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "txt"])
def test_a_prompt_of_an_evaluation_set_is_found(folder, tmp_path, kind):
    words = "the quick brown fox jumps over the lazy dog while nobody at all is watching it"
    planted = plant(folder, PAIRS, say("prompt", f"Continue: {words.upper()}, then stop."))
    short = plant(folder, PAIRS, say("prompt", "What is 2 + 2?"), row=1)
    rows = [
        {"question": [{"content": f"He said that {words}."}]},
        {"question": [{"content": "what is 2 2"}]},
        {"question": [{"content": "Say number, a word or two"}]},
    ]
    file = tmp_path / f"evaluation.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif kind == "jsonl":
        file.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        file.write_text("\n".join(row["question"][0]["content"] for row in rows))
    found = bad(folder, evaluation=[file])
    assert list(found) == ["evaluation"]
    assert {row["id"] for row in found["evaluation"].rows} == {
        planted["prompt_id"],
        short["prompt_id"],
    }


def test_a_short_text_of_an_evaluation_set_is_found_behind_a_system_prompt(folder, tmp_path):
    def change(row):
        user = row["messages"][-1]
        system = {**user, "role": "system", "content": "You are a helpful assistant."}
        row["messages"] = [system, {**user, "content": "Which river is the longest of all?"}]

    planted = plant(folder, "tables/prompts-00.parquet", change)
    file = tmp_path / "evaluation.txt"
    file.write_text("which river is the longest of all")
    found = bad(folder, evaluation=[file])
    assert [row["id"] for row in found["evaluation"].rows] == [planted["prompt_id"]]


def test_without_an_evaluation_set_it_is_said_that_nothing_was_compared(clean):
    assert not look(clean)["evaluation"].looked


@pytest.mark.parametrize("content", ["{", None])
def test_an_evaluation_set_that_cannot_be_read_is_a_sentence(clean, tmp_path, content):
    file = tmp_path / "evaluation.jsonl"
    if content:
        file.write_text(content)
    with pytest.raises(PublishError, match=r"evaluation: cannot read .*evaluation.jsonl"):
        look(clean, evaluation=[file])


@pytest.mark.parametrize("content", ["", "\n\n", '{"n": 1}\n', '{"text": "?!"}\n', "[]", "null"])
def test_an_evaluation_set_without_words_did_not_pass(clean, tmp_path, content):
    file = tmp_path / "evaluation.jsonl"
    file.write_text(content)
    with pytest.raises(PublishError, match=r"evaluation\.jsonl contains no text"):
        look(clean, evaluation=[file])


PLANTED = {
    "secrets": SECRETS["password, YAML"],
    "personal": PERSONAL["phone, +44"],
    "paths": PATHS["folder, percent"],
}


def test_every_text_column_of_every_file_is_scanned(folder):
    """Plant a secret into each text of one row of each table, one after the other."""
    missed, planted = [], 0
    for file in sorted(folder.rglob("*.parquet")):
        table = pq.read_table(file)
        for column in table.schema:
            kind = str(column.type)
            if "string" not in kind or re.search(r"_(id|key)$|^digest$", column.name):
                continue
            value = SECRETS["npm"]
            if kind != "string":
                value = [dict.fromkeys(names(column.type), SECRETS["npm"])]
            rows = table.to_pylist()
            rows[-1][column.name] = value
            try:
                pq.write_table(pa.Table.from_pylist(rows, table.schema), file)
            except (pa.ArrowException, TypeError):
                continue
            planted += 1
            texts = [each.text for each in texts_in(file.parent, {})]
            if SECRETS["npm"] not in texts:
                missed.append(f"{file.name} {column.name}")
        pq.write_table(table, file)
    assert planted > 100
    assert missed == []


def names(kind):
    return [field.name for field in kind.value_type if str(field.type) == "string"]


@pytest.mark.parametrize("check", PLANTED)
def test_a_planted_text_is_found_and_never_shown(folder, check):
    planted = plant(
        folder, "candidates/train-00.parquet", lambda row: row.update(text=PLANTED[check])
    )
    found = bad(folder, places=[HERE])
    assert list(found) == [check]
    ((row,),) = [finding.rows for finding in found.values()]
    assert (row["config"], row["id"]) == ("candidates", planted["sample_id"])
    assert row["what"].startswith("text: ")
    for secret in (PASSWORD, "20 7946 0958", HERE):
        assert secret not in row["what"]


def test_no_other_check_shows_a_secret(folder):
    plant(folder, PAIRS, lambda row: both(row, f"Use {GITHUB}", f"Use {GITHUB}"))
    findings = list(look(folder).values())
    with pytest.raises(Refused) as refused:
        pass_gate(findings, [])
    said = str(refused.value)
    assert "identical: 1 pairs" in said
    assert "GitHub token: " in said
    assert GITHUB[:12] not in said
    assert GITHUB[4:12] not in said


DOCUMENTS = {
    "recipe.yaml": {"name": "x", "prompts": {"source": "{}"}},
    "lineage.json": {"folders": {"abc": {"settings": {"prompt": "Grade the answer. {}"}}}},
}


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("check", PLANTED)
def test_the_recipe_and_the_lineage_are_scanned(clean, name, check):
    text = json.dumps(DOCUMENTS[name]).replace("{}", PLANTED[check].replace('"', ""))
    documents = {name: json.loads(text)}
    with open_views(clean) as views:
        found = {
            each.name: each for each in examine(views, clean, (), (), [HERE], documents) if each.n
        }
    assert list(found) == [check]
    (row,) = found[check].rows
    assert row["config"] == name
    assert row["id"] in ("prompts.source", "folders.abc.settings.prompt")


def test_sql_files_are_scanned(folder):
    (folder / "sql" / "mine.sql").write_text(f"select '{GITHUB}'")
    (row,) = bad(folder)["secrets"].rows
    assert row["config"] == "sql/mine.sql"


@pytest.mark.parametrize(
    "text",
    ["vv+iy+yy-vv-hh-_1", "see https://example.org/a@b", "sk-short", "12345678901234567", "a@b"],
)
def test_ordinary_text_is_left_alone(folder, text):
    plant(folder, "candidates/train-00.parquet", lambda row: row.update(text=text))
    assert bad(folder) == {}


def test_a_folder_of_this_machine_is_found(folder):
    for place, text in enumerate(["see /somewhere/deep.", "see /somewhere/deeper"]):
        plant(folder, "candidates/train-00.parquet", lambda row, t=text: row.update(text=t), place)
    assert bad(folder) == {}
    found = bad(folder, places=["/somewhere/deep"])
    assert list(found) == ["paths"]
    assert found["paths"].n == 1


def test_what_is_found_is_listed_and_can_be_let_pass(folder):
    for place in range(7):
        plant(folder, PAIRS, say("chosen", ""), row=place)
    findings = list(look(folder).values())
    with pytest.raises(Refused) as refused:
        pass_gate(findings, [])
    said = str(refused.value)
    assert "empty: 7 pairs with an empty answer" in said
    assert "… and 2 more" in said
    assert "--allow empty" in said
    pass_gate(findings, ["empty"])


def test_a_check_that_there_is_none_of_is_a_sentence():
    with pytest.raises(PublishError, match="allow: got nothing: use one of identical, similar"):
        check_names(["nothing"])
