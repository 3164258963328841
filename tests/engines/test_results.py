"""The border between engines and the run: any result fits into a row."""

import random
from fractions import Fraction

import pyarrow as pa
import pytest
from nasty import HARMLESS, nasty_texts

from factory.engines import Result, checked_results
from factory.engines.results import check_result
from factory.lake import TABLES
from factory.stages.samples import row

ODD = [
    *(None, "", "text", "\ud800", b"bytes", 0, -1, 1.5, True, 2**31, 2**70, float("nan")),
    *([], ["a"], [{"label": "\udfff", "logprob": 1}], [{"label": 1}], {}, {"a": 1}, object()),
]

FIELDS = [name for name in Result.__dataclass_fields__ if name not in ("request_id", "draw")]


def stored(result):
    """A sample's row, as the lake would store it."""
    fields = {**row(result, "p", "m", "s"), "engine": "e", "engine_version": "1", "dtype": None}
    return pa.RecordBatch.from_pylist([fields], TABLES["samples"]).to_pylist()[0]


@pytest.mark.parametrize("text", HARMLESS)
def test_a_good_result_is_unchanged(text):
    good = Result(
        "r", 0, text, 0.5, text, "[]", 1, 0, 2, "stop", -1.5, [{"label": "1", "logprob": -1.0}]
    )
    assert check_result(good) == good
    failed = Result("r", 0, n_prompt_tokens=3, error="too long", error_kind="transient", cost=0.1)
    assert check_result(failed) == failed


@pytest.mark.parametrize("name", FIELDS)
def test_every_value_of_every_field_fits_into_a_row(name):
    for odd in ODD:
        for base in ({"text": "answer"}, {"error": "error", "error_kind": "permanent"}):
            stored(check_result(Result("r", 0, **{**base, name: odd})))


def test_random_results_fit_into_rows():
    draw = random.Random(0)
    for _ in range(300):
        odd = {name: draw.choice(ODD) for name in draw.sample(FIELDS, 5)}
        found = stored(check_result(Result("r", 0, **odd)))
        assert found["error"] is None or found["text"] is None
        assert found["error_kind"] in (None, "permanent", "transient")


@pytest.mark.parametrize("field", ["text", "reasoning", "tool_calls", "value"])
def test_a_result_with_an_unusable_type_fails_for_good(field):
    found = check_result(Result("r", 3, **{"text": "answer", field: ["a"]}, n_tokens=5))
    assert (found.request_id, found.draw, found.text, found.n_tokens) == ("r", 3, None, 5)
    assert found.error == f"the engine returned a result with unusable types ({field} is a list)"
    assert found.error_kind == "permanent"


def test_odd_usage_loses_no_answer():
    found = check_result(Result("r", 0, "answer", n_tokens="12", n_prompt_tokens=-1, cost="free"))
    assert found == Result("r", 0, "answer")
    assert check_result(Result("r", 0, value=Fraction(1, 2))).value == 0.5


def test_texts_and_errors_are_utf8(monkeypatch):
    for text in nasty_texts():
        monkeypatch.setenv("HF_TOKEN", "a1b2c3d4e5")
        answered = stored(check_result(Result("r", 0, text, reasoning=text, tool_calls=text)))
        assert answered["error"] is None
        assert len(answered["text"]) > 0
        failed = stored(
            check_result(Result("r", 0, error=f"{text} a1b2c3d4e5", error_kind="permanent"))
        )
        assert "a1b2c3d4e5" not in failed["error"]


def test_results_of_an_engine_are_checked():
    class Engine:
        def generate(self, requests):
            yield Result("r", 0, "\ud800")

    assert [result.text for result in checked_results(Engine(), [])] == ["\ufffd"]
