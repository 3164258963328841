"""A run whose functions return texts that other people could write."""

import csv
import io

import pytest

from factory.lake import Lake, verify_lake

ANSWER = r"""
ODD = ["\ud800 half", "NUL \x00 NUL", "\x1b[31mred", "\u202eright", "a\r\nb", "😀\ud83d\ude00"]

def answer(messages, seed):
    return f"{ODD[seed % len(ODD)]} {seed}\nScore: {seed % 6}"
"""

GRADE = r"""
class Odd(Exception):
    def __str__(self):
        raise ValueError

def grade(rows):
    for row in rows:
        if "NUL" in row["answer"]:
            raise ValueError("\ud800 at http://user:pw@host, " + "x" * 5_000_000)
        if "red" in row["answer"]:
            raise Odd
    return [float(len(row["answer"]) % 6) for row in rows]
"""


@pytest.fixture
def ran(toy):
    toy.script(ANSWER)
    (toy.folder / "grade.py").write_text(GRADE)
    toy.write(
        judge={"function": "grade.py:grade", "draws": 1}, loop={"iterations": 1}, max_failed=0.9
    )
    toy.run()
    return toy


@pytest.mark.slow
def test_odd_answers_lose_no_row_and_odd_errors_are_stored(ran, factory):
    samples = ran.query("from samples")
    assert len(samples) == len({row["request_id"] + str(row["draw"]) for row in samples})
    assert all(row["error"] is None for row in samples)
    texts = " ".join(row["text"] for row in samples)
    for part in ("\ufffd half", "NUL \x00 NUL", "\x1b[31mred", "\u202eright", "a\r\nb", "😀😀"):
        assert part in texts
    errors = {row["error"] for row in ran.query("from judgments where error is not null")}
    nul, odd = sorted(errors, key=len, reverse=True)
    assert nul.startswith("the function raised ValueError: \ufffd at http://user:***@host, xxx")
    assert len(nul) <= 2000
    assert odd == "the function raised Odd: its message cannot be shown"
    assert verify_lake(Lake(ran.lake)).faults == []

    (pair, *_) = ran.query("from pairs where outcome = 'kept'")
    for command in (
        ("trace", pair["pair_id"]),
        ("sql", ran.path, "select text from samples order by all"),
        ("sql", ran.path, 'select 1 as "\x1b[31m[red]\nx"'),
        ("status", ran.path),
        ("preview", ran.path),
    ):
        shown = factory(*command, "--lake", ran.lake)
        assert shown.code == 0, shown.err
        printed = shown.out + shown.err
        assert not {"\x1b", "\x00", "\u202e", "\r"} & {*printed}
    query = ("sql", ran.path, "select text from samples", "--lake", ran.lake, "--format")
    as_json = factory(*query, "json")
    assert "\u202e" not in as_json.out
    assert {row["text"] for row in as_json.json()} == {row["text"] for row in samples}
    as_csv = csv.DictReader(io.StringIO(factory(*query, "csv").out, newline=""))
    assert {row["text"] for row in as_csv} == {row["text"] for row in samples}
