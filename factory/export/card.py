"""Write the dataset card (README.md) of a dataset folder.

The cards of published datasets use the same metadata functions.
"""

from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

import yaml

from factory.export.judge_kinds import JUDGE_NOUNS, judge_kind
from factory.export.templates import render_card_template
from factory.recipe import Method, Recipe

_TAGS: dict[Method, list[str]] = {"dpo": ["dpo", "preference"], "sft": ["sft"]}


def render_folder_card(recipe: Recipe, trains: Method, rows: Mapping[str, int]) -> str:
    """Return the text of the README.md for a dataset folder.

    `rows` has the number of rows by split.
    """
    splits = [name for name, count in rows.items() if count]
    metadata = {
        "configs": [config_metadata("default", "data", splits)],
        **task_metadata(_TAGS[trains]),
    }
    template = (resources.files("factory.export") / "card.md").read_text(encoding="utf-8")
    n = recipe.loop.iterations
    values = {
        "recipe": recipe,
        "origin": f"in {n} iteration{'' if n == 1 else 's'}" if n else "from answers of M_0",
        "trains": trains,
        "counts": ", ".join(f"{rows[name]:,} {name}" for name in splits) or "no rows",
        "judge": JUDGE_NOUNS[judge_kind(recipe.judge, recipe.loop)],
    }
    return f"{front_matter(metadata)}\n{render_card_template(template, values)}"


def config_metadata(name: str, folder: str, splits: Iterable[str]) -> dict[str, Any]:
    """Return one configuration's entry for the `configs` list of a dataset card."""
    files = [{"split": split, "path": f"{folder}/{split}-*.parquet"} for split in splits]
    default = {"default": True} if name == "default" else {}
    return {"config_name": name, **default, "data_files": files}


def task_metadata(tags: Iterable[str]) -> dict[str, Any]:
    """Return the task category and the tags of a dataset card.

    The factory's general tags are added to `tags`.
    """
    return {"task_categories": ["text-generation"], "tags": [*tags, "trl", "synthetic"]}


def front_matter(metadata: Mapping[str, Any]) -> str:
    """Format a dataset card's metadata as the YAML block at the top of the card."""
    text = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n"
