"""The card of a dataset: the README of its repository, made from the published files themselves.

What is between its two marks is written anew at every publish; what a person wrote around them, and
changed in the metadata, is kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import duckdb
import pyarrow as pa
import yaml

from factory.duties import duty_of
from factory.export import features
from factory.gate import Finding
from factory.named_queries import named_queries
from factory.query import sql_text
from factory.repository import Contents

BEGIN = (
    "<!-- Written by `factory publish`, which writes it anew up to the end mark: put your own text "
    "before this line or after that one. -->"
)
END = "<!-- End of what `factory publish` writes. -->"

_OURS = ("configs", "dataset_info", "size_categories")
"""Metadata that follows from the files: what a person changed in it is not kept."""

_LICENSES = (
    "apache-2.0 mit cc0-1.0 cc-by-4.0 cc-by-3.0 cc-by-sa-4.0 cc-by-sa-3.0 cc-by-nc-4.0 "
    "cc-by-nc-sa-4.0 cc-by-nc-nd-4.0 cc-by-nd-4.0 odc-by odbl pddl openrail bsd-2-clause "
    "bsd-3-clause gpl-3.0 agpl-3.0 lgpl-3.0 mpl-2.0 unlicense llama2 llama3 llama3.1 llama3.2 "
    "llama3.3 gemma"
).split()
"""Those of the Hub's names of licences that data sets of prompts have."""

_WHAT = {
    "default": "the pairs (D2)",
    "anchored": "the pairs that trained the future models (D1)",
    "kto": "the sides of the pairs as single answers with a label",
    "candidates": "every answer of every role, with its score",
    "judgments": "every judgment, as the judge wrote it, with what was read from it",
}

_SOURCES = {
    "temporal": " (arXiv 2508.06026)",
    "anchored_rejection": " (arXiv 2508.06026, without the future)",
    "future_guided": " (arXiv 2508.06026, without the past)",
    "self_rewarding": " (arXiv 2401.10020)",
}

_WHO = {
    "function": "A Python function scored the answers.",
    "fixed model": "A model that stays the same scored the answers.",
    "the current model": "The model that is trained scored the answers itself.",
}

_OPINION = {
    "function": "The scores are a function's, and as good as what it looks at.",
    "fixed model": "The scores are a model's opinion.",
    "the current model": "The scores are the opinion of the model that wrote most of the answers, "
    "which may prefer its own.",
}

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True)
class Kept:
    """What a person wrote into a card that is there already."""

    before: str = ""
    after: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Fields that they added or changed."""
    order: Sequence[str] = ()
    """The fields as they stand."""


def read_card(text: str, generated: Mapping[str, Any]) -> Kept:
    """What to keep of a card; `generated` is the metadata that the last publish wrote."""
    metadata, body = _split(text)
    before, mark, rest = body.partition(BEGIN)
    after = rest.partition(END)[2] if mark else before
    changed = {
        name: value
        for name, value in metadata.items()
        if name not in _OURS and generated.get(name) != value
    }
    return Kept(before.strip() if mark else "", after.strip(), changed, [*metadata])


def _split(text: str) -> tuple[dict[str, Any], str]:
    parts = text.split("---\n", 2)
    if not text.startswith("---\n") or len(parts) < 3:
        return {}, text
    try:
        metadata = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return {}, text
    return (metadata, parts[2]) if isinstance(metadata, dict) else ({}, text)


def metadata(
    recipe: Mapping[str, Any], contents: Contents, sources: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What the card's head says, before what a person changed in it."""
    languages = recipe["prompts"].get("language") or []
    return {
        "pretty_name": recipe["name"],
        **({"language": languages} if languages else {}),
        **_license({row["license"] for row in sources}),
        "size_categories": [_size(contents.rows("default"))],
        "task_categories": ["text-generation"],
        "tags": ["dpo", "preference", "trl", "synthetic", "self-rewarding"],
        "configs": [_config(config, contents) for config in contents.configs],
        "dataset_info": [_info(config, contents) for config in contents.configs],
    }


def _license(declared: set[str | None]) -> dict[str, str]:
    names = sorted(name or "unknown" for name in declared)
    if len(names) > 1:
        return {"license": "other", "license_name": "by-source-see-card"}
    if names[0].lower() in (*_LICENSES, "unknown"):
        return {"license": names[0].lower()}
    return {"license": "other", "license_name": names[0].lower().replace(" ", "-")}


def _size(n_rows: int) -> str:
    return next((name for most, name in _SIZES if n_rows < most), "1M<n<10M")


def _config(config: Any, contents: Contents) -> dict[str, Any]:
    files = [
        {"split": split, "path": f"{config.folder}/{split}-*.parquet"}
        for split in contents.sizes[config.name]
    ]
    default = {"default": True} if config.name == "default" else {}
    return {"config_name": config.name, **default, "data_files": files}


def _info(config: Any, contents: Contents) -> dict[str, Any]:
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
    """A schema as `datasets` writes it into a card."""
    return [{"name": name, **_yaml(value)} for name, value in features(schema).items()]


def _yaml(feature: Mapping[str, Any]) -> dict[str, Any]:
    match feature.get("_type"):
        case "Value":
            return {"dtype": feature["dtype"]}
        case "List":
            inner = _yaml(feature["feature"])
            return {"list": inner.get("struct", inner.get("dtype", inner))}
    return {"struct": [{"name": name, **_yaml(value)} for name, value in feature.items()]}


def text(
    views: duckdb.DuckDBPyConnection,
    contents: Contents,
    recipe: Mapping[str, Any],
    lineage: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]],
    findings: Sequence[Finding],
    repository: str,
    kept: Kept,
) -> tuple[str, dict[str, Any]]:
    """The card's text, and the metadata in it before what a person changed; `views` are those of
    the folder, `sources` the sources and licences of the prompts."""
    generated = metadata(recipe, contents, sources)
    merged = {**generated, **kept.metadata}
    merged["tags"] = list(dict.fromkeys([*_listed(merged["tags"]), *generated["tags"]]))
    order = [name for name in kept.order if name in merged]
    merged = {name: merged[name] for name in dict.fromkeys([*order, *merged])}
    head = yaml.safe_dump(merged, sort_keys=False, allow_unicode=True)
    body = _template().render(
        metadata=merged,
        recipe=recipe,
        repository=repository,
        sources_table=_table(_undeclared(sources)),
        **_making(recipe, lineage, contents),
        **_numbers(views, contents, recipe),
        **_gate(findings),
    )
    before = f"{kept.before}\n\n" if kept.before else ""
    after = f"\n{kept.after}\n" if kept.after else ""
    return f"---\n{head}---\n\n{before}{BEGIN}\n\n{body.strip()}\n\n{END}\n{after}", generated


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    file = resources.files("factory") / "templates" / "card.md"
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(file.read_text(encoding="utf-8"))


def _rows(views: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = views.sql(query).to_arrow_table().to_pylist()
    return rows


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _undeclared(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: "not declared" if value is None else value for name, value in row.items()}
        for row in rows
    ]


def _making(
    recipe: Mapping[str, Any], lineage: Mapping[str, Any], contents: Contents
) -> dict[str, Any]:
    roles = {step["role"] for step in lineage["steps"]}
    return {
        "configs_table": _table(_config_rows(contents)),
        "models_table": _table([_model_row(model) for model in lineage["models"]]),
        "and_past": ", and so does the model of the start, M_0" if "past" in roles else "",
        "has_future": "future" in roles,
        "policy_source": _SOURCES.get(recipe["loop"]["policy"], ""),
        "who_judged": _WHO[lineage["judge"]["kind"]],
        "opinion": _OPINION[lineage["judge"]["kind"]],
        "probe_table": _table(lineage["probe"]),
        "judge_text": _judge_text(lineage["judge"]),
        "duties": _duties(lineage["models"], recipe),
    }


def _config_rows(contents: Contents) -> list[dict[str, Any]]:
    return [
        {
            "configuration": f"`{config.name}`",
            "a row is one of": _WHAT[config.name],
            **{
                split: contents.sizes[config.name][split].rows
                if split in contents.sizes[config.name]
                else 0
                for split in ("train", "test")
            },
        }
        for config in contents.configs
    ]


def _model_row(model: Mapping[str, Any]) -> dict[str, Any]:
    if model["parent"]:
        origin = f"{model['parent']}, trained on {model['n_pairs']:,} pairs"
    elif model["repository"]:
        revision = f" at `{model['revision']}`" if model["revision"] else ""
        origin = f"[{model['repository']}](https://huggingface.co/{model['repository']}){revision}"
    else:
        origin = "a local folder"
    return {
        "model": model["name"],
        "made from": origin,
        "digest": f"`{model['digest']}`",
        "dtype": model["dtype"],
    }


def _judge_text(judge: Mapping[str, Any]) -> str:
    if judge["kind"] == "function":
        return f"Answers were scored by the function `{judge['name']}`, once each."
    by = "a model that stays the same" if judge["kind"] == "fixed model" else "M_i"
    times = "once" if judge["draws"] == 1 else f"{judge['draws']} times"
    return (
        f"In iteration *i* every answer was judged {times} by {by}, with the rubric "
        f"`{judge['rubric']}`; the score is the mean of the valid ones."
    )


def _duties(models: Sequence[Mapping[str, Any]], recipe: Mapping[str, Any]) -> str:
    first = [model for model in models if not model["parent"]]
    served = recipe.get("engine", {}).get("model")
    lines = []
    for model in first:
        name = model["repository"] or (served if model["name"] == "M_0" else None)
        duty = duty_of(name)
        if duty:
            lines.append(
                f"- {model['name']} is `{name}`, by its name one of {duty.models}: {duty.duty}"
            )
        else:
            shown = f"`{name}`" if name else "a local folder"
            lines.append(
                f"- {model['name']} is {shown}: what its licence asks of its answers is not known "
                "here and is the publisher's to say."
            )
    return "\n".join(lines)


def _numbers(
    views: duckdb.DuckDBPyConnection, contents: Contents, recipe: Mapping[str, Any]
) -> dict[str, Any]:
    queries = {name: query.sql for name, query in named_queries().items()}
    (judged,) = _rows(views, sql_text("published_failures"))
    lengths = [
        {"limit": row["max_length"], "pairs that are longer": row["pairs_longer"]}
        for row in _rows(views, sql_text("published_lengths"))
    ]
    rows = contents.sizes["default"]
    train = rows["train"].rows if "train" in rows else 0
    draws = recipe["sampling"]["draws"]
    return {
        "numbers": {
            "pairs": f"{contents.rows('default'):,}",
            "splits": ", ".join(f"{size.rows:,} {split}" for split, size in rows.items()),
            "iterations": "1 iteration"
            if len(contents.iterations) == 1
            else f"{len(contents.iterations)} iterations",
            "train": f"{train:,}",
            "draws": " once" if draws == 1 else f" {draws} times",
            "bad_judgments": f"{judged['without_score']:,} of {judged['judgments']:,}",
        },
        "failures_table": _table(_failures(_rows(views, queries["parse_failures"]))),
        "lengths_table": _table(lengths),
        "gaps_table": _table(_rows(views, "from gaps")),
        "outcomes_table": _table(_rows(views, queries["outcomes"])),
        "bias_table": _table(_bias(_rows(views, queries["length_bias"]))),
        "pair_lengths_table": _table(_rows(views, queries["pair_lengths"])),
    }


def _failures(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "examples"} for row in rows]


def _bias(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    shown = ("iteration", "role", "name", "judge", "answers", "mean_tokens", "spearman")
    return [{name: row[name] for name in shown} for row in rows]


def _gate(findings: Sequence[Finding]) -> dict[str, Any]:
    rows = [
        {
            "check": f"`{finding.name}`",
            "looked for": finding.what,
            "found": _found(finding),
        }
        for finding in findings
    ]
    return {
        "gate_table": _table(rows),
        "limits": [
            f"The publisher let {finding.n:,} rows pass that a check found: {finding.what} "
            f"(`--allow {finding.name}`)."
            for finding in findings
            if finding.is_bad
        ],
    }


def _found(finding: Finding) -> str:
    if not finding.looked:
        return "not looked for: no evaluation set was named"
    return f"{finding.n:,}" + ", and published all the same" * finding.is_bad


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a table of Markdown; empty where there are none."""
    if not rows:
        return ""
    names = list(rows[0])
    numeric = [all(isinstance(row[name], int | float | None) for row in rows) for name in names]
    marks = ["---:" if number else "---" for number in numeric]
    lines = [[name.replace("_", " ") for name in names], marks]
    lines += [[_cell(row[name]) for name in names] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value).replace("|", "\\|").replace("\n", " ")
