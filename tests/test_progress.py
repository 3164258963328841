"""Progress: rates, the time remaining, and how each kind shows them."""

import io
import sys
import types

import pytest

from factory import progress
from factory.progress import Bars, Lines, Meter, NotebookBars, Silent, format_rate, open_progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves: clock[0] is the time in seconds."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_time_remaining_is_not_extrapolated_from_the_first_answer(clock):
    meter = Meter(total=200)
    clock[0] = 98.0  # the engine started
    meter.advance()
    assert meter.describe("answers") == "1 of 200 answers"
    clock[0] = 101.0
    meter.advance(3)
    assert meter.describe("answers") == "4 of 200 answers, 1.0/s"
    clock[0] = 108.0
    meter.advance(7)
    assert meter.describe("answers") == "11 of 200 answers, 1.0/s, 3 min 09 s left"


def test_a_short_task_has_an_estimate_after_a_part_of_it(clock):
    meter = Meter(total=20)
    clock[0] = 10.0
    meter.advance()
    clock[0] = 20.0
    meter.advance()
    assert meter.seconds_left == pytest.approx(180)


def test_answers_that_come_in_batches_are_counted_from_the_first_batch(clock):
    meter = Meter(total=1000)
    clock[0] = 60.0
    meter.advance(250)
    assert meter.rate is None
    clock[0] = 110.0
    meter.advance(250)
    assert meter.rate == 5
    assert meter.seconds_left == 100


@pytest.mark.parametrize(
    ("rate", "text"),
    [(1240.4, "1,240"), (12.3, "12"), (9.96, "10"), (3.14, "3.1"), (0.4, "0.4"), (0.021, "0.02")],
)
def test_a_slow_rate_has_a_digit_that_is_not_zero(rate, text):
    assert format_rate(rate) == text


def test_lines_are_written_every_few_seconds_and_at_the_end(clock):
    out = io.StringIO()
    with Lines(out, every=10).task("samples", 3, "answers") as task:
        for clock[0] in (1.0, 12.0, 13.0):
            task.advance(1, tokens=5)
    assert out.getvalue() == (
        "  samples: 2 of 3 answers, 0.09/s, 11 s left\n  samples: 3 answers in 13 s, 1.2 tokens/s\n"
    )


def test_bars_end_with_the_same_line(capsys):
    with Bars().task("samples", 3, "answers") as task:
        task.at(3, 3)
    assert capsys.readouterr().err.strip().startswith("samples: 3 answers in 0.0 s")


def test_a_notebook_gets_html_that_is_replaced(monkeypatch, clock):
    shown = []
    ipython = types.ModuleType("IPython.display")
    ipython.HTML = ipython.Pretty = str

    def display(first, display_id):
        shown.append(first)
        return types.SimpleNamespace(update=shown.append)

    ipython.display = display
    monkeypatch.setitem(sys.modules, "IPython.display", ipython)
    with NotebookBars().task("a < b", 4, "answers") as task:
        clock[0] = 1.0
        task.advance(2)
    assert shown == [
        "a &lt; b",
        '<progress value="2" max="4"></progress> a &lt; b: 2 of 4 answers',
        "a < b: 2 answers in 1.0 s",
    ]


def test_progress_is_silent_in_a_pipe_unless_it_is_asked_for():
    assert isinstance(open_progress(), Silent)
    assert isinstance(open_progress(True), Lines)
    assert isinstance(open_progress(False), Silent)
