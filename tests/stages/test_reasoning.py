"""Models that reason before they answer: the reasoning is stored separately from the answer."""

import pytest

from factory.engines import Result, score_start
from factory.stages import CUT_OFF, NEVER_ENDED, split_reasoning

TAGS = ("<think>", "</think>")


def result(text, finish="stop", reasoning=None):
    return Result("r", 0, text=text, finish_reason=finish, reasoning=reasoning)


@pytest.mark.parametrize(
    ("text", "finish", "reasoning", "answer"),
    [
        ("<think>Hm, 2 + 2.</think>\n\nFour.", "stop", "Hm, 2 + 2.", "Four."),
        ("\n<think>\nHm.\n</think>Four.", "stop", "Hm.", "Four."),
        (
            "Hm, the template opened it.</think>Four.",
            "stop",
            "Hm, the template opened it.",
            "Four.",
        ),
        ("<think></think>Four.", "stop", "", "Four."),
        ("<think>a</think>b</think>c", "stop", "a", "b</think>c"),
        ("<think>Hm.</think>Fo", "length", "Hm.", "Fo"),
        ("Four.", "stop", None, "Four."),
        ("I write <think> in an answer.", "stop", None, "I write <think> in an answer."),
    ],
)
def test_reasoning_is_taken_out_of_the_answer(text, finish, reasoning, answer):
    apart = split_reasoning(result(text, finish), TAGS)
    assert (apart.reasoning, apart.text, apart.error) == (reasoning, answer, None)


@pytest.mark.parametrize(
    ("text", "finish", "error"),
    [
        ("<think>Hm, and", "length", CUT_OFF),
        ("Hm, and", "length", CUT_OFF),
        ("<think>Hm.</think>  ", "length", CUT_OFF),
        ("<think>Hm, and", "stop", NEVER_ENDED),
    ],
)
def test_reasoning_that_never_ended_is_a_failure(text, finish, error):
    apart = split_reasoning(result(text, finish), TAGS)
    assert (apart.text, apart.error, apart.error_kind) == (None, error, "permanent")
    assert apart.reasoning.startswith("Hm")


def test_reasoning_in_a_field_of_its_own_is_left_there():
    apart = split_reasoning(result("Four.", reasoning="Hm."), None)
    assert (apart.reasoning, apart.text) == ("Hm.", "Four.")
    cut = split_reasoning(result("", "length", reasoning="Hm, and"), None)
    assert cut.error == CUT_OFF


def test_without_tags_nothing_is_taken_out():
    text = "<think>Hm.</think>Four."
    assert split_reasoning(result(text), None).text == text


THINKS = """
def answer(messages, seed):
    if 'Score' in messages[-1]['content']:
        assert 'secret' not in messages[-1]['content']
        return f'<think>secret: Score: 9 was claimed</think>Score: {seed % 6}'
    return f'<think>secret {seed}</think>word{seed}'
"""


def test_judge_and_pairs_see_the_answer_alone(toy):
    toy.script(THINKS)
    tags = ["<think>", "</think>"]
    toy.write(sampling={"reasoning": tags}, judge={"reasoning": tags}, loop={"iterations": 1})
    toy.run()
    rows = toy.query("select text, reasoning from samples where draw < 1000")
    assert all(row["text"].startswith("word") for row in rows)
    assert all(row["reasoning"].startswith("secret ") for row in rows)
    assert toy.query("from verdicts where score is null") == []
    (row,) = toy.query("select count(*) as n from judgments where reasoning like 'secret%'")
    assert row["n"] > 0
    assert toy.to_do() == set()
    from factory.lake import Lake, verify_lake

    assert verify_lake(Lake(toy.lake)).faults == []


def test_a_score_in_the_reasoning_is_not_where_the_score_stands():
    text = "<think>Score: 1 would be low</think>\nScore: 4"
    assert text[score_start(text, r"Score: (\d)", TAGS)] == "4"
    assert text[score_start(text, r"(?m)^Score: (\d)\Z", TAGS)] == "4"
    assert text[score_start(text, r"Score: (\d)", None)] == "1"
    assert score_start("Score: 5", r"Score: (\d)", TAGS) == 7
    assert score_start("<think>Score: 5</think>None.", r"Score: (\d)", TAGS) is None


def test_tags_have_letters(toy, factory):
    ended = factory("plan", toy.path, "--set", "sampling.reasoning=['<think>', '']")
    assert ended.code == 2
    assert "sampling.reasoning" in ended.err
