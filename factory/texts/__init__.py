"""Texts that other people wrote: read them, display them, and keep secrets out of them.

Prompts, answers, errors, names, and server replies can contain any character. They enter through
`reading`, and leave through `output`, `display`, and `markdown`.
"""

from factory.texts.display import (
    display_html,
    display_line,
    display_text,
    shorten,
)
from factory.texts.markdown import Markdown, markdown_code, markdown_text
from factory.texts.output import (
    binary_output,
    is_terminal,
    json_text,
    replace_unencodable,
    say,
    say_code,
    say_json,
)
from factory.texts.reading import (
    Undecodable,
    clean_text,
    decode_text,
    describe_error,
    error_message,
    has_half_pair,
    join_pairs,
)
from factory.texts.secrets import hide_paths, keep_secret, mask_secrets, name_secret

__all__ = [
    "Markdown",
    "Undecodable",
    "binary_output",
    "clean_text",
    "decode_text",
    "describe_error",
    "display_html",
    "display_line",
    "display_text",
    "error_message",
    "has_half_pair",
    "hide_paths",
    "is_terminal",
    "join_pairs",
    "json_text",
    "keep_secret",
    "markdown_code",
    "markdown_text",
    "mask_secrets",
    "name_secret",
    "replace_unencodable",
    "say",
    "say_code",
    "say_json",
    "shorten",
]
