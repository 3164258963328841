"""How tables show a value, whether for a terminal or in Markdown."""

import json
from typing import Any


def format_cell(value: Any) -> str:
    """Return a value as a table's cell: nothing for None, thousands separated, JSON for lists."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
