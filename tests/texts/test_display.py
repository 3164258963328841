"""Texts on a terminal: nothing moves the cursor, reorders a line, or hides."""

import sys
import unicodedata

import pytest
from nasty import HARMLESS, nasty_texts

from factory.texts import display_html, display_line, display_text, shorten
from factory.texts.display import escape_hidden

SIGNS = {
    *range(0x0600, 0x0606),
    *(0x06DD, 0x070F, 0x0890, 0x0891, 0x08E2, 0x110BD, 0x110CD),
    *range(0x13430, 0x13440),
}
"""Characters of the category Cf that have a glyph, or that arrange hieroglyphs."""


def hidden(text, kept="\n\t"):
    """The control and format characters in a text."""
    return [
        char
        for char in text
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in kept
    ]


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_texts_are_displayed_unchanged(text):
    assert display_text(text) == text
    assert display_line(text).replace("\\n", "\n") == text


def test_a_displayed_text_has_no_hidden_characters():
    for text in nasty_texts():
        shown = display_text(text)
        assert hidden(shown, kept="\n\t\u200c\u200d") == []
        shown.encode()  # no surrogates
        assert display_text(shown) == shown
        assert "\n" not in display_line(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x9b2J", r"\x9b2J"),
        ("good\rbad", r"good\rbad"),
        ("two\r\nlines", "two\nlines"),
        ("a\x00b\x7f", r"a\x00b\x7f"),
        ("user\u202egpj.exe", r"user\u202egpj.exe"),
        ("a\u2066b\u2069", r"a\u2066b\u2069"),
        ("pass\u200bword", r"pass\u200bword"),
        ("pass\u200dword", r"pass\u200dword"),
        ("\u200da", r"\u200da"),
        ("\ufeffa", r"\ufeffa"),
        ("a\ufe01b\ufe02", r"a\ufe01b\ufe02"),
        ("漢\U000e0100\U000e0101", "漢\U000e0100\\U000e0101"),
        ("🙂\U000e0041\U000e0042", r"🙂\U000e0041\U000e0042"),
        ("ه\u200d\u200d", "ه\u200d\\u200d"),
        ("\ud83d\ude00 \ud800", r"\ud83d\ude00 \ud800"),
        ("\u2028\u3164", r"\u2028\u3164"),
    ],
)
def test_a_hidden_character_is_written_as_python_writes_it(text, shown):
    assert display_text(text) == shown


def test_every_hidden_character_of_unicode_is_displayed():
    every = (chr(code) for code in range(sys.maxunicode + 1))
    for char in every:
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in "\n\t":
            is_sign = ord(char) in SIGNS
            assert (escape_hidden(char, lambda _: "?") == "?") is not is_sign, hex(ord(char))


def test_a_line_is_shortened_before_it_is_displayed():
    assert display_line("a\nb\x1bcdef", 5) == r"a\nb\x1b…"
    assert shorten("abc", 3) == "abc"


def test_html_displays_the_text():
    for text in nasty_texts():
        shown = display_html(text)
        assert hidden(shown, kept="\n\t\u200c\u200d") == []
        assert not {"<", ">", '"'} & {*shown}
