"""Generate the YAML metadata of a dataset card, and keep a user's changes to the card.

The Hub defines the names of licenses and size categories; `datasets` defines the form of features.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import yaml

from factory.export import config_metadata, features, task_metadata
from factory.publish.release import Release
from factory.publish.repository import Config, Contents
from factory.recipe import Method

BEGIN = (
    "<!-- Written by `factory publish`, which writes it anew up to the end mark: put your own text "
    "before this line or after that one. -->"
)
END = "<!-- End of what `factory publish` writes. -->"

_OURS = ("configs", "dataset_info", "size_categories")
"""Metadata fields that describe the files. Each publish overwrites a user's changes to them."""

_LICENSES = (
    "apache-2.0 mit cc0-1.0 cc-by-4.0 cc-by-3.0 cc-by-sa-4.0 cc-by-sa-3.0 cc-by-nc-4.0 "
    "cc-by-nc-sa-4.0 cc-by-nc-nd-4.0 cc-by-nd-4.0 odc-by odbl pddl openrail bsd-2-clause "
    "bsd-3-clause gpl-3.0 agpl-3.0 lgpl-3.0 mpl-2.0 unlicense llama2 llama3 llama3.1 llama3.2 "
    "llama3.3 gemma"
).split()
"""The Hub's names of licenses that are common for prompt datasets."""

_TAGS: dict[Method, list[str]] = {
    "dpo": ["dpo", "preference", "self-rewarding"],
    "sft": ["sft", "self-rewarding"],
}

LONGEST_LICENSE = 96
"""Maximum length of a license's name in the metadata, in characters (our choice)."""

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True)
class Kept:
    """The parts of a dataset card that the user wrote.

    `factory publish` keeps these parts.
    """

    before: str = ""
    """Text above the generated part."""
    after: str = ""
    """Text below the generated part."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Metadata fields that the user added or changed."""
    order: Sequence[str] = ()
    """Names of all metadata fields, in the order of the existing card."""


def read_card(text: str, generated: Mapping[str, Any]) -> Kept:
    """Return the user-written parts of a dataset card.

    `generated` is the metadata that the last publish wrote. A card without the markers belongs to
    the user. All of its text is kept, below the generated part.
    """
    metadata, body = _split(text)
    before, mark, rest = _partition(body, BEGIN)
    after = _partition(rest, END)[2] if mark else before
    changed = {
        name: value
        for name, value in metadata.items()
        if name not in _OURS and generated.get(name) != value
    }
    return Kept(before.strip() if mark else "", after.strip(), changed, [*metadata])


def _split(text: str) -> tuple[dict[str, Any], str]:
    """Split a card into its YAML metadata and its body. Without valid metadata, the body is the
    complete card."""
    text = text.replace("\r\n", "\n")
    found = re.match(r"---\n(.*?)^---\n(.*)", text, re.DOTALL | re.MULTILINE)
    if found is None:
        return {}, text
    try:
        metadata = yaml.safe_load(found[1])
    except yaml.YAMLError:
        return {}, text
    return (metadata, found[2]) if isinstance(metadata, dict) else ({}, text)


def _partition(text: str, mark: str) -> tuple[str, str, str]:
    """Split a text like `str.partition`, at the first line that is equal to `mark`.

    A mark within a line belongs to someone's text.
    """
    found = re.search(rf"^{re.escape(mark)}[ \t]*$", text, re.MULTILINE)
    if found is None:
        return text, "", ""
    return text[: found.start()], mark, text[found.end() :]


def card_metadata(release: Release) -> dict[str, Any]:
    """Return the generated metadata of a dataset card, without a user's changes."""
    contents = release.contents
    languages = release.recipe["prompts"].get("language") or []
    return {
        "pretty_name": release.recipe["name"],
        **({"language": languages} if languages else {}),
        **_license({row["license"] for row in release.sources}),
        "size_categories": [_size(contents.rows("default"))],
        **task_metadata(_TAGS[release.method]),
        "configs": [
            config_metadata(config.name, config.folder, contents.sizes[config.name])
            for config in contents.configs
        ],
        "dataset_info": [_info(config, contents) for config in contents.configs],
    }


def _license(declared: set[str | None]) -> dict[str, str]:
    names = sorted(name or "unknown" for name in declared)
    if len(names) > 1:
        return {"license": "other", "license_name": "by-source-see-card"}
    if names[0].lower() in (*_LICENSES, "unknown"):
        return {"license": names[0].lower()}
    plain = re.sub(r"[^a-z0-9._+-]+", "-", names[0].lower()).strip("-")[:LONGEST_LICENSE]
    return {"license": "other", "license_name": plain or "see-card"}


def _size(n_rows: int) -> str:
    return next((name for most, name in _SIZES if n_rows < most), "1M<n<10M")


def _info(config: Config, contents: Contents) -> dict[str, Any]:
    sizes = contents.sizes[config.name]
    return {
        "config_name": config.name,
        "features": yaml_features(config.columns),
        "splits": [
            {"name": split, "num_bytes": size.memory, "num_examples": size.rows}
            for split, size in sizes.items()
        ],
        "download_size": sum(size.disk for size in sizes.values()),
        "dataset_size": sum(size.memory for size in sizes.values()),
    }


def yaml_features(schema: pa.Schema) -> list[dict[str, Any]]:
    """Convert an Arrow schema to the feature list that `datasets` writes into a card's metadata."""
    return [{"name": name, **_yaml(value)} for name, value in features(schema).items()]


def _yaml(feature: Mapping[str, Any]) -> dict[str, Any]:
    match feature.get("_type"):
        case "Value":
            return {"dtype": feature["dtype"]}
        case "Json":
            return {"dtype": "json"}
        case "List":
            inner = _yaml(feature["feature"])
            return {"list": inner.get("struct", inner.get("dtype", inner))}
    return {"struct": [{"name": name, **_yaml(value)} for name, value in feature.items()]}


def merged(generated: Mapping[str, Any], kept: Kept) -> dict[str, Any]:
    """Merge a dataset card's generated metadata with the user's changes.

    The fields keep the order of the existing card. The generated tags are always included.
    """
    both = {**generated, **kept.metadata}
    both["tags"] = list(dict.fromkeys([*_listed(both["tags"]), *generated["tags"]]))
    order = [name for name in kept.order if name in both]
    return {name: both[name] for name in dict.fromkeys([*order, *both])}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
