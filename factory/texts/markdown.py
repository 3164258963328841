"""Write texts that other people wrote into Markdown, where they display as plain text.

They cannot start a heading, list, table, image, HTML element, or code block.
"""

import re

from factory.texts.display import display_text


class Markdown(str):
    """Text that is Markdown already, so that templates insert it unchanged."""


# An underscore within a word has no meaning.
_MARKS = re.compile(r"[\\`*~$|\[\]]|(?<![^\W_])_|_(?![^\W_])")

_ENTITY = re.compile(r"&(?=#?\w+;)")

_BLOCK = re.compile(r"#|[-+=](?=[-+=\s]|$)|(?<=\d)[.)](?=\s|$)")
"""The beginning of a heading, a list, or a rule, after any digits."""


def markdown_text(text: str) -> Markdown:
    """Return Markdown that displays a text within a line or a table cell."""
    line = _MARKS.sub(lambda found: f"\\{found[0]}", _one_line(text))
    line = _ENTITY.sub("&amp;", line).replace("<", "&lt;").replace(">", "&gt;")
    start = len(line) - len(line.lstrip(" 0123456789"))
    if _BLOCK.match(line, start):
        line = f"{line[:start]}\\{line[start:]}"
    return Markdown(line)


def markdown_code(text: str, *, in_table: bool = False) -> Markdown:
    """Return Markdown that displays a text as code. In a table, `|` needs a backslash."""
    line = _one_line(text)
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    if in_table:
        line = line.replace("|", "\\|")
    return Markdown(f"{fence}{pad}{line}{pad}{fence}")


def _one_line(text: str) -> str:
    return re.sub(r"[ \t\n]+", " ", display_text(text))
