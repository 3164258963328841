"""Texts in Markdown, parsed as the Hub parses them."""

import pytest
from nasty import HARMLESS, nasty_texts

from factory.texts import display_text, markdown_code, markdown_text

markdown_it = pytest.importorskip("markdown_it")

PARSER = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"])


def parts(markdown):
    """The types of blocks in Markdown, and the inline parts of each."""
    return [
        (token.type, [child.type for child in token.children or ()])
        for token in PARSER.parse(markdown)
    ]


def shown(markdown):
    """The text that Markdown displays."""
    (inline,) = [token for token in PARSER.parse(markdown) if token.type == "inline"]
    return "".join(child.content for child in inline.children)


def as_displayed(text):
    return " ".join(display_text(text).split())


PLAIN = [("paragraph_open", []), ("inline", ["text"]), ("paragraph_close", [])]


def test_a_text_displays_as_itself():
    for text in [*HARMLESS, *nasty_texts()]:
        line = f"x {markdown_text(text)} x"
        paragraph, (_, inner), end = parts(line)
        assert (paragraph, end) == (PLAIN[0], PLAIN[2])
        assert {*inner} <= {"text", "text_special"}
        assert " ".join(shown(line).split()) == " ".join(f"x {as_displayed(text)} x".split())


def test_a_text_that_begins_a_line_begins_no_block():
    for text in nasty_texts():
        kinds = [kind for kind, _ in parts(f"{markdown_text(text)}")]
        assert kinds in ([], [kind for kind, _ in PLAIN]), text


def test_a_text_stays_within_its_heading_and_its_cell():
    for text in nasty_texts():
        head = parts(f"# {markdown_text(text)}\n\nbody")
        assert [kind for kind, _ in head].count("heading_open") == 1
        assert [kind for kind, _ in head][-3:] == [kind for kind, _ in PLAIN]
        cell, code = markdown_text(text), markdown_code(text, in_table=True)
        table = parts(f"| a | b |\n| --- | --- |\n| {cell} | {code} |\n\nbody")
        assert [kind for kind, _ in table].count("td_open") == 2
        assert [kind for kind, _ in table].count("tr_open") == 2
        assert not any("html" in kind or "image" in kind for _, inner in table for kind in inner)


def test_code_displays_as_itself():
    for text in [*HARMLESS, *nasty_texts()]:
        if as_displayed(text):
            line = f"x {markdown_code(text)} x"
            assert parts(line)[1][1] == ["text", "code_inline", "text"]
            assert " ".join(shown(line).split()) == f"x {as_displayed(text)} x"


@pytest.mark.parametrize(
    "text", ["Apache-2.0", "made up", "org/data_set", "M_0 and M_1", "1,234", "-1"]
)
def test_usual_values_are_unchanged(text):
    assert markdown_text(text) == text
    assert markdown_code(text) == f"`{text}`"
