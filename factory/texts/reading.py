"""Read texts that other people wrote, which may contain halves of surrogate pairs or wrong bytes.

A surrogate is half of a character, and no UTF-8 text contains one. JSON and YAML escapes, servers,
and Python functions can produce it. NUL and other control characters are kept: DuckDB, Parquet, and
tokenizers accept them.
"""

import re

from factory.texts.display import shorten
from factory.texts.secrets import mask_secrets

LONGEST_ERROR = 2000
"""Maximum length of a stored error in characters (our choice)."""

_HALF = re.compile("[\ud800-\udfff]")


class Undecodable(ValueError):
    """A file that is not UTF-8. The message names the line."""


def has_half_pair(text: str) -> bool:
    """Return whether a text contains half of a surrogate pair."""
    return bool(_HALF.search(join_pairs(text)))


def join_pairs(text: str) -> str:
    """Join each complete surrogate pair in a text to the character that it stands for."""
    if not _HALF.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def clean_text(text: str) -> str:
    """Return a text that can be stored: join surrogate pairs, and replace halves by U+FFFD.

    Returns a text without surrogates unchanged.
    """
    return _HALF.sub("\ufffd", join_pairs(text))


def describe_error(error: BaseException) -> str:
    """Return the type and the message of an exception, even if formatting the message fails."""
    try:
        message = str(error)
    except Exception:
        message = "its message cannot be shown"
    return error_message(f"{type(error).__name__}: {message}".removesuffix(": "))


def error_message(text: str) -> str:
    """Return an error that can be stored: without surrogates and secrets, and shortened."""
    # A message may have megabytes. The part that is searched is longer than the part that is kept,
    # so that no secret is cut in two.
    return shorten(mask_secrets(clean_text(text[: 2 * LONGEST_ERROR])), LONGEST_ERROR)


def decode_text(content: bytes) -> str:
    """Return the text of a UTF-8 file without its byte order mark, with `\n` as line breaks.

    Raises Undecodable if the file is not UTF-8.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise Undecodable("it is UTF-16, not UTF-8 text") from None
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise Undecodable(f"line {line} is not UTF-8 text: byte 0x{byte:02x}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
