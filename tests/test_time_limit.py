"""Code of a user that never ends: regular expressions, chat templates, and blocks in threads."""

import re
import signal
import threading

import pytest

from factory.errors import ModelError, RubricError
from factory.models import Conversation
from factory.models import templates as chat_templates
from factory.models.templates import ChatTemplates
from factory.run import tabular
from factory.time_limit import TooSlow, time_limit


def search():
    return re.search("(a+)+$", "a" * 40 + "b")


def test_a_regular_expression_that_never_ends_is_interrupted():
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TooSlow), time_limit(0.05):
        search()
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_another_thread_has_no_limit():
    ended = []

    def work():
        with time_limit(1e-6):
            ended.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended == [True]


def test_a_parser_that_never_ends_is_an_error_of_its_rubric(monkeypatch):
    monkeypatch.setattr(tabular, "PARSER_SECONDS", 0.05)
    with (
        pytest.raises(RubricError, match=r"the parser took longer than 0.05 s for 3 judgments"),
        tabular._parser_limit("rubric", 3),
    ):
        search()


def render(text):
    return ChatTemplates({"default": text}, False, "model").render(Conversation([]), {})


def test_a_template_that_never_ends_is_an_error_of_its_model(monkeypatch):
    monkeypatch.setattr(chat_templates, "time_limit", lambda: time_limit(0.05))
    with pytest.raises(ModelError, match="model: the chat template took longer than"):
        render("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")


LARGE = {
    "{% for a in range(99999) %}{{ messages|string * 1000 }}{% endfor %}": "wrote more than",
    "{{ 'x' * 10 ** 8 }}": "repeats a text 100000000 times",
    "{{ 10 ** 8 * ['x'] }}": "repeats a text 100000000 times",
    "{{ 10 ** 10000 }}": "a power with the exponent 10000",
}


@pytest.mark.parametrize("text", LARGE)
def test_a_template_with_a_huge_output_is_refused(text):
    from jinja2 import TemplateError

    with pytest.raises(TemplateError, match=LARGE[text]):
        render(text)
