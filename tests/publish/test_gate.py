"""Tests of the pre-publish checks: each check finds only the row that was planted for it."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toys import publishable, write_published

from factory.errors import PublishError, Refused
from factory.publish import CHECKS, PERSONAL, SECRETS, check_names, examine, open_views, pass_gate

KEYS = {
    "private key": "-----BEGIN RSA PRIVATE KEY-----",
    "Hugging Face token": "hf_" + "aB" * 17,
    "AWS access key": "AKIA" + "A1" * 8,
    "GitHub token": "ghp_" + "a1" * 18,
    "GitLab token": "glpat-" + "a1" * 10,
    "Slack token": "xoxb-1234567890-abcdef",
    "Google API key": "AIza" + "a1_-x" * 7,
    "OpenAI or Anthropic key": "sk-proj-" + "a1" * 20,
    "Stripe key": "sk_live_" + "a1" * 10,
    "JSON web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlc2lnbmF0dXJl",
    "password in an address": "postgres://somebody:hunter2@localhost/x",
    "e-mail address": "write to some.body@example.org, please",
    "IBAN": "GB82 WEST 1234 5698 7654 32",
    "card number": "4111 1111 1111 1111",
    "US social security number": "078-05-1120",
}
"""One example of each format: made up, or from the documentation of the issuer."""


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


@pytest.mark.parametrize("kind", {**SECRETS, **PERSONAL})
@pytest.mark.parametrize("place", ["candidates", "judgments", "tables"])
def test_secrets_and_personal_data_are_found_wherever_they_stand(folder, kind, place):
    def change(row):
        if place == "tables":
            row["reference"] = f"so: {KEYS[kind]} ."
        else:
            row["text"] = f"so: {KEYS[kind]} ."

    name = "tables/prompts-00.parquet" if place == "tables" else f"{place}/train-00.parquet"
    plant(folder, name, change)
    found = bad(folder)
    assert list(found) == ["secrets" if kind in SECRETS else "personal"]
    ((row,),) = [finding.rows for finding in found.values()]
    assert row["what"] == kind
    assert KEYS[kind] not in json.dumps(row)


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
