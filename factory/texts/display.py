"""Display texts that other people wrote, so that no character can move the cursor, change colors,
reorder a line, or hide.

Such characters are written as Python writes them, for example `\\x1b` or `\\u202e`. Letters, marks,
and emoji of all scripts stay as they are.
"""

import html
import re
import unicodedata
from collections.abc import Callable

from factory.texts.secrets import mask_secrets

_MAY_HIDE = re.compile(
    # The flag of a region, such as Scotland, ends in tag characters. It is matched as a whole.
    "(?P<flag>\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{2,6}\U000e007f)"
    # Control characters, the soft hyphen, direction marks, and blanks
    "|[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufffb\ufffe\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
    + "".join(f"{chr(end - 2)}{chr(end - 1)}" for end in range(2 << 16, (17 << 16) + 1, 1 << 16))
    + "]"
)
"""Characters that have no glyph or that change how others look. Joiners and variation selectors are
among them, although some characters need them."""


def display_text(text: str) -> str:
    """Return a text as it is displayed, with masked secrets. Line breaks and tabs are kept."""
    text = mask_secrets(text).replace("\r\n", "\n")
    return escape_hidden(text, lambda char: char.encode("unicode_escape").decode())


def display_line(text: str, limit: int | None = None) -> str:
    """Return a text as one line, with line breaks written as `\\n`.

    `limit` is the maximum number of characters of the text.
    """
    if limit is not None:
        text = shorten(text, limit)
    return display_text(text.replace("\r", "\\r").replace("\n", "\\n"))


def display_html(text: str) -> str:
    """Return HTML that displays a text."""
    return html.escape(display_text(text))


def shorten(text: str, limit: int) -> str:
    """Shorten a text to `limit` characters. A shortened text ends with an ellipsis."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def escape_hidden(text: str, escape: Callable[[str], str]) -> str:
    """Replace each hidden character in a text by the result of `escape`."""
    if text.isascii() and text.isprintable():
        return text
    return _MAY_HIDE.sub(
        lambda found: found[0] if found["flag"] or _is_needed(found) else escape(found[0]), text
    )


def _is_needed(found: re.Match[str]) -> bool:
    """Return whether a character is a joiner or variation selector that its neighbors need."""
    code = ord(found[0])
    last, after = found.string[: found.start()][-1:], found.string[found.end() :][:1]
    if not last:
        return False
    if code == 0x200D and _is_emoji(after):
        # A variation selector or a skin tone may follow the first emoji.
        return last == "\ufe0f" or _is_emoji(last)
    if code in (0x200C, 0x200D):
        return _is_joined(last)
    kind = unicodedata.category(last)
    if code in (0xFE0E, 0xFE0F):
        return last in "#*0123456789" or (kind[0] in "SP" and not last.isascii())
    if 0xFE00 <= code < 0xFE0E:
        return kind in ("Lo", "Sm", "So") and not last.isascii()
    if 0xE0100 <= code < 0xE01F0:
        return kind == "Lo"
    return 0x180B <= code <= 0x180F and code != 0x180E and 0x1820 <= ord(last) < 0x18B0


def _is_emoji(char: str) -> bool:
    return char > "\u2100" and unicodedata.category(char) in ("So", "Sk", "Sm")


def _is_joined(char: str) -> bool:
    """Return whether a character is a letter or mark of a script that uses joiners, such as Arabic
    and Devanagari."""
    scripts = (
        *((0x0600, 0x1C00), (0xA800, 0xAC00), (0xFB50, 0xFE00)),
        *((0xFE70, 0xFF00), (0x10A00, 0x12000)),
    )
    is_of_script = any(first <= ord(char) < end for first, end in scripts)
    return is_of_script and unicodedata.category(char)[0] in "LM"
