"""Texts that enter: halves of characters, wrong bytes, and errors of any kind."""

import pytest
from nasty import HARMLESS, nasty_texts

from factory.texts import Undecodable, clean_text, decode_text, describe_error, error_message
from factory.texts.reading import LONGEST_ERROR, has_half_pair


@pytest.mark.parametrize("text", [*HARMLESS, "NUL \x00, escape \x1b, and \u202e are kept"])
def test_a_text_without_surrogates_is_unchanged(text):
    assert clean_text(text) is text
    assert not has_half_pair(text)


def test_a_clean_text_is_utf8():
    for text in nasty_texts():
        clean = clean_text(text)
        assert clean.encode().decode() == clean
        assert clean_text(clean) == clean
        assert len(clean) <= len(text)
        assert has_half_pair(text) == (clean.count("\ufffd") > text.count("\ufffd"))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\ud800b", "a\ufffdb"),
        ("\udcff", "\ufffd"),
        ("\ud83d\ude00", "😀"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83d😀", "\ufffd😀"),
    ],
)
def test_pairs_are_joined_and_halves_replaced(text, clean):
    assert clean_text(text) == clean


@pytest.mark.parametrize("content", [b"one\ntwo\n", b"\xef\xbb\xbfone\r\ntwo\n", b"one\rtwo\n"])
def test_a_file_is_read_without_its_mark_and_with_plain_line_breaks(content):
    assert decode_text(content) == "one\ntwo\n"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("one\nzwölf\n".encode("latin-1"), r"line 2 is not UTF-8 text: byte 0xf6"),
        (b"\xed\xa0\x80", r"line 1 is not UTF-8 text: byte 0xed"),
        ("one".encode("utf-16"), "UTF-16"),
        (b"a" * 5_000_000 + b"\n\xff" + b"a" * 5_000_000, r"line 2 is not UTF-8 text: byte 0xff"),
    ],
    ids=["latin-1", "encoded surrogate", "utf-16", "long lines"],
)
def test_a_file_that_is_not_utf8_is_refused_with_the_line(content, fault):
    with pytest.raises(Undecodable, match=fault) as caught:
        decode_text(content)
    assert len(str(caught.value)) < 100


class Silent(Exception):
    def __str__(self):
        raise ValueError


@pytest.mark.parametrize(
    ("error", "described"),
    [
        (ValueError("no \ud800"), "ValueError: no \ufffd"),
        (ValueError(), "ValueError"),
        (Silent(), "Silent: its message cannot be shown"),
        (ValueError("x" * 5_000_000), f"ValueError: {'x' * (LONGEST_ERROR - 13)}…"),
    ],
    ids=["surrogate", "empty", "raises", "long"],
)
def test_an_exception_is_described(error, described):
    assert describe_error(error) == described


def test_a_secret_at_the_end_of_a_long_error_is_not_cut_in_two(monkeypatch):
    secret = "s3cr3t-" * 3
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    for n in range(LONGEST_ERROR - 30, LONGEST_ERROR):
        assert "s3cr" not in error_message("x" * n + " " + secret + "y" * LONGEST_ERROR)
