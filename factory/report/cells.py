"""Format values as table cells for terminals and Markdown."""

import json
from typing import Any


def format_cell(value: Any) -> str:
    """Format a value as the text of a table cell.

    None is empty, integers have a comma between thousands, other numbers are rounded to six
    significant digits, and lists and mappings are JSON.
    """
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1e6 else f"{value:,.0f}"
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
