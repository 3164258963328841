"""Jinja templates of cards and of trainers' configs."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, StrictUndefined

_ENVIRONMENT = Environment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
)


def render_template(text: str, values: Mapping[str, Any]) -> str:
    """Fill a template. A variable that `values` does not have is an error."""
    return _ENVIRONMENT.from_string(text).render(values)
