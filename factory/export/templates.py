"""Render the Jinja templates for dataset cards and trainer config files."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, StrictUndefined

from factory.texts import Markdown, markdown_code, markdown_text


def _environment(**options: Any) -> Environment:
    return Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )


def _as_text(value: Any) -> Any:
    is_text = isinstance(value, str) and not isinstance(value, Markdown)
    return markdown_text(value) if is_text else value


_CONFIGS, _CARDS = _environment(), _environment(finalize=_as_text)
_CARDS.filters |= {
    "markdown": Markdown,
    "code": markdown_code,
    "code_in_table": lambda text: markdown_code(text, in_table=True),
}


def render_template(text: str, values: Mapping[str, Any]) -> str:
    """Render the Jinja template of a config file with the given values.

    Raises jinja2.UndefinedError if the template uses a variable that is not in `values`.
    """
    return _CONFIGS.from_string(text).render(values)


def render_card_template(text: str, values: Mapping[str, Any]) -> str:
    """Render the Jinja template of a dataset card, in Markdown, with the given values.

    `{{ value }}` inserts a text that displays as it is, whatever Markdown or HTML it contains, and
    `{{ value | code }}` inserts it as code. The filter `markdown` marks text that is Markdown
    already. Raises jinja2.UndefinedError if the template uses a variable that is not in `values`.
    """
    return _CARDS.from_string(text).render(values)
