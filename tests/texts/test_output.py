"""What is printed: lines, JSON, and outputs whose encoding is not UTF-8."""

import io
import json
import sys

import pytest
from nasty import HARMLESS, nasty_texts

from factory.progress import Bars, Lines
from factory.texts import json_text, replace_unencodable, say, say_code, say_json


def is_safe(printed):
    return not any(char != "\n" and char != "\t" and ord(char) < 0x20 for char in printed)


def test_json_has_the_original_text():
    for text in [*HARMLESS, *nasty_texts()]:
        printed = json_text({"text": text, text: [text]}, indent=1)
        assert is_safe(printed)
        printed.encode()
        assert "\x9b" not in printed
        assert "\u202e" not in printed
        # JSON joins the two halves of a character, which Python can keep apart.
        whole = json.loads(json.dumps(text))
        assert json.loads(printed) == {"text": whole, whole: [whole]}


def test_json_has_no_nan_and_no_secret(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "a1b2c3d4e5")
    value = [float("nan"), float("-inf"), 1.5, ("http://user:pw@host", "a1b2c3d4e5")]
    assert json_text(value) == '[null, null, 1.5, ["http://user:pw@host", "***"]]'


@pytest.mark.parametrize("text", ["\x1b[31mred\ud800", *HARMLESS])
def test_progress_displays_texts(text, monkeypatch):
    out = io.StringIO()
    Lines(out).say(text)
    with Lines(out).task(text, 1, "answers"):
        pass
    assert is_safe(out.getvalue())
    out.getvalue().encode()


def test_bars_display_texts_without_markup(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    bars = Bars()
    bars.say("[red]a[/red] :smile: \x1b[31m http://user:pw@host")
    with bars.task("[bold]b\x9b2J", 1, "answers") as task:
        task.advance()
    assert r"[red]a[/red] :smile: \x1b[31m http://user:***@host" in out.getvalue()
    assert r"[bold]b\x9b2J: 1 answer" in out.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_characters_that_an_output_lacks_are_replaced(monkeypatch, encoding):
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding=encoding))
    replace_unencodable()
    say("é 漢 ─ \ud800")
    say_code("漢,\udcff\n")
    say_json({"a": "é 漢"})
    first, second, *rest = content.getvalue().decode(encoding).splitlines()
    assert first.endswith(r" \ud800")
    assert second.startswith(("漢,", "?,"))
    assert json.loads("".join(rest)) == {"a": "é 漢"}
