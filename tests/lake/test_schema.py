"""The tables have all their columns, and the ids of rows never change between releases."""

import pyarrow as pa
import pytest

from factory.lake import BARE_MESSAGE, MESSAGE, ROW_ID, TABLES, answer_id, pair_id, prompt_id

QUESTION = [{"role": "user", "content": "What is 2 + 2?"}]

DESIGNED = {
    "prompts": "prompt_id messages reference tools template_kwargs criteria source license meta",
    "samples": "sample_id request_id model sampling prompt_id draw text reasoning tool_calls "
    "n_tokens finish_reason cumulative_logprob engine engine_version error error_kind",
    "judgments": "judgment_id request_id judge sample_id draw text score_logprobs error error_kind",
    "verdicts": "parser judgment_id score expected_score reason",
    "pairs": "pair_id build prompt_id chosen_id rejected_id outcome score_chosen score_rejected "
    "margin chosen_role rejected_role chosen_model rejected_model prompt_tokens chosen_tokens "
    "rejected_tokens",
    "models": "parent build_key settings digest",
    "roles": "recipe iteration role model sampling_key first_draw n_draws",
    "panel": "recipe iteration role name judge_name judge_key parser_key n_judge_draws",
}
"""The columns that DESIGN.md lists, the ids of each table's grain, and those of `panel`."""


def test_there_is_a_schema_for_every_table_of_the_design():
    assert set(TABLES) == set(DESIGNED)


@pytest.mark.parametrize("table", DESIGNED)
def test_a_table_carries_the_columns_of_the_design(table):
    assert set(DESIGNED[table].split()) <= set(TABLES[table].names)


@pytest.mark.parametrize("table", TABLES)
def test_a_table_names_no_column_twice(table):
    assert len(set(TABLES[table].names)) == len(TABLES[table].names)


def test_a_message_has_the_fields_of_the_design():
    names = ["role", "content", "reasoning", "tool_calls", "tool_call_id", "name"]
    assert [field.name for field in MESSAGE] == names
    assert [field.name for field in BARE_MESSAGE] == ["role", "content"]


def test_a_score_can_be_missing_and_a_row_with_an_error_fits():
    row = {"sample_id": "s", "error": "too long", "error_kind": "permanent"}
    (kept,) = pa.Table.from_pylist([row], TABLES["samples"]).to_pylist()
    assert kept["text"] is None
    assert kept["error"] == "too long"


def test_rows_are_told_apart_by_a_column_that_is_there():
    assert all(column in TABLES[table].names for table, column in ROW_ID.items())


def test_a_prompt_id_does_not_change_with_the_order_of_keys():
    turned = [{"content": "What is 2 + 2?", "role": "user"}]
    assert prompt_id(turned, None) == prompt_id(QUESTION, None)


def test_a_prompt_id_does_not_change_with_fields_that_are_none():
    spelled_out = [{**QUESTION[0], "name": None, "tool_calls": None}]
    assert prompt_id(spelled_out, None) == prompt_id(QUESTION, None)


def test_a_prompt_id_changes_with_what_is_asked():
    system = [{"role": "system", "content": "Be brief."}]
    ids = {
        prompt_id(QUESTION, None),
        prompt_id([{"role": "user", "content": "What is 2 + 3?"}], None),
        prompt_id([{"role": "tool", "content": "What is 2 + 2?"}], None),
        prompt_id(QUESTION, "[]"),
        prompt_id(system + QUESTION, None),
        prompt_id(QUESTION + system, None),
    }
    assert len(ids) == 6


def test_an_answer_id_changes_with_the_text_the_draw_the_request_and_what_is_beside_the_text():
    ids = {
        answer_id("request", 3, "four"),
        answer_id("request", 3, "five"),
        answer_id("request", 4, "four"),
        answer_id("another", 3, "four"),
        answer_id("request", 3, "four", "because", None),
        answer_id("request", 3, "four", None, "because"),
    }
    assert len(ids) == 6


def test_a_pair_id_knows_which_side_is_which():
    ids = {pair_id("p", "a", "b"), pair_id("p", "b", "a"), pair_id("q", "a", "b")}
    assert len(ids | {pair_id("p", "a", None), pair_id("p", None, "a")}) == 5


def test_ids_are_what_they_were():
    """A change of one of these orphans the rows of every lake there is."""
    assert prompt_id(QUESTION, None) == "d769cad12dfc5f0aa1c03016"
    assert prompt_id(QUESTION, "[]") == "763228d77afaa27acc01bd78"
    assert answer_id("request", 3, "four") == "f33d502ad1f6c7b2a1ed55bd"
    assert answer_id("request", 3, "four", None, "[]") == "fb604815720ab268382333b5"
    assert pair_id("p", "c", "r") == "8a23be1d383dd41140643f47"
    assert pair_id("p", None, None) == "996d31f2e908a9b5254c0711"
