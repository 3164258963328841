"""Read the JSON files of a model's folder."""

import json
from pathlib import Path
from typing import Any

from factory.errors import ModelError


def read_json(path: Path, field: str) -> dict[str, Any]:
    """Return the object in a model's JSON file; an empty one if there is no such file.

    Raises ModelError with `field`, the recipe field that names the model, if it is not JSON.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(
            field, f"{path.name} cannot be read as JSON ({error})", "download or save it again"
        ) from None
    return content if isinstance(content, dict) else {}


def declared_dtype(path: Path, field: str) -> str:
    """Return the dtype that a model's config.json names; float32 if it names none."""
    config = read_json(path / "config.json", field)
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")
