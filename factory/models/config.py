"""Read the JSON files in a model folder."""

import json
from pathlib import Path
from typing import Any

from factory.errors import ModelError


def read_json(path: Path, field: str) -> dict[str, Any]:
    """Return the content of a JSON file in a model folder, or an empty dict if there is no such
    file.

    Raises ModelError if the file is not JSON. `field` is the recipe field that names the model.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(
            field, f"{path.name} cannot be read as JSON ({error})", "download the model again"
        ) from None
    return content if isinstance(content, dict) else {}


def declared_dtype(path: Path, field: str) -> str:
    """Return the dtype named in a model's `config.json`, or float32 if none is named."""
    config = read_json(path / "config.json", field)
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")
