"""Render the Jinja templates for dataset cards and trainer config files."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, StrictUndefined

_ENVIRONMENT = Environment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
)


def render_template(text: str, values: Mapping[str, Any]) -> str:
    """Render a Jinja template with the given values.

    Raises jinja2.UndefinedError if the template uses a variable that is not in `values`.
    """
    return _ENVIRONMENT.from_string(text).render(values)
