"""Other readings of a text: without invisible characters, decoded, and with split words joined."""

import base64
import binascii
import html
import re
import unicodedata
from collections.abc import Callable, Iterator
from urllib.parse import unquote

_DECODES = 3
"""Number of encodings within one another that are decoded."""


class _Plain(dict[int, str | None]):
    """A table for `str.translate` from look-alikes of ASCII characters to these characters."""

    def __missing__(self, code: int) -> str | None:
        self[code] = plain = _plain(chr(code))
        return plain


def _plain(char: str) -> str | None:
    """Return the ASCII character that looks like a character, or the character itself.

    Returns None for characters that are not visible and for combining marks.
    """
    if char.isascii():
        return char if char.isprintable() or char in "\t\n\r" else None
    category = unicodedata.category(char)
    if category in ("Cf", "Mn", "Me", "Cc") or char in _BLANK:
        return None
    if category == "Nd":
        return str(unicodedata.digit(char))
    if category in ("Zs", "Zl", "Zp"):
        return " " if category == "Zs" else "\n"
    if category == "Pd" or char == "−":
        return "-"
    compatible = "".join(c for c in unicodedata.normalize("NFKD", char) if not _is_mark(c))
    return compatible if compatible.isascii() and compatible else _look_alike(char)


_BLANK = "\u115f\u1160\u3164\uffa0\u2800"
"""Letters and symbols that are drawn as nothing."""


def _is_mark(char: str) -> bool:
    return unicodedata.category(char).startswith("M")


def _look_alike(char: str) -> str:
    from confusable_homoglyphs.confusables import confusables_data

    for other in confusables_data.get(char, ()):
        if len(other["c"]) == 1 and other["c"].isascii() and other["c"].isalnum():
            return str(other["c"])
    return char


_PLAIN = _Plain()


def plain(text: str) -> str:
    """Return a text without invisible characters, and with ASCII in place of look-alikes."""
    is_plain = text.isascii() and not _CONTROL.search(text)
    return text if is_plain else text.translate(_PLAIN)


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


_ESCAPE = re.compile(
    r"\\(?:u\{([0-9a-fA-F]{1,6})\}|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})|(.))"
)
_ESCAPED = {"n": "\n", "r": "\n", "t": "\t"}


def _unescaped(found: re.Match[str]) -> str:
    code = found[1] or found[2] or found[3] or found[4]
    if code is None:
        return _ESCAPED.get(found[5], found[0] if found[5].isalnum() else found[5])
    value = int(code, 16)
    return chr(value) if value < 0x110000 and not 0xD800 <= value < 0xE000 else found[0]


def _decoded(text: str) -> str:
    if "\\" in text:
        text = _ESCAPE.sub(_unescaped, text)
    if "&" in text and ";" in text:
        text = html.unescape(text)
    return unquote(text, errors="ignore") if _PERCENT.search(text) else text


_PERCENT = re.compile(r"%[0-9a-fA-F]{2}")


def readings(text: str) -> Iterator[str]:
    """Yield a text and the different texts that a reader or a program could read in it.

    They are the text without invisible characters and look-alikes, and what is left after percent,
    HTML, and backslash escapes are decoded.
    """
    seen = {text}
    yield text
    for _ in range(_DECODES):
        text = plain(text)
        if text not in seen:
            seen.add(text)
            yield text
        text = _decoded(text)
        if text in seen:
            return
        seen.add(text)
        yield text


_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{24,}={0,2}(?![A-Za-z0-9+/_-])")
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:[2-7][0-9a-f]){12,}(?![0-9A-Za-z])", re.IGNORECASE)


def encoded(text: str) -> Iterator[str]:
    """Yield the printable texts that are in a text as Base64 or as hexadecimal bytes."""
    if max(map(len, text.split()), default=0) < 24:
        return
    for found in _BASE64.finditer(text):
        word = found[0].rstrip("=").translate(_URL_SAFE)
        yield from _printable(base64.b64decode, word + "=" * (-len(word) % 4))
    for found in _HEX.finditer(text):
        yield from _printable(bytes.fromhex, found[0])


_URL_SAFE = str.maketrans("-_", "+/")


def _printable(decode: Callable[[str], bytes], word: str) -> Iterator[str]:
    try:
        content = decode(word).decode()
    except (ValueError, binascii.Error):
        return
    if len(content) >= 8 and all(c.isprintable() or c in "\t\r\n" for c in content):
        yield content


_JOINTS = (
    re.compile(r"""["'`]\s*(?:\+|\.|,|&|\|\||\\)?\s*["'`]"""),  # "abc" + "def"
    re.compile(r"</?[A-Za-z][^<>]{0,60}>|<!--.{0,60}?-->|\*{2,3}|__|``?"),  # ab<b>cd</b>
    re.compile(r"\s*\\?\r?\n[>#|*/\s]*"),  # a line break
    re.compile(r"(?<=\b\w)[ \t](?=\w\b|[@.]\s)|(?<=\s[@.])[ \t](?=\w\b)"),  # a b c d
)


def joined(text: str) -> Iterator[str]:
    """Yield a text with words joined that quotes, markup, line breaks, or spaces split."""
    for joint in _JOINTS:
        whole = joint.sub("", text)
        if whole != text:
            yield whole
