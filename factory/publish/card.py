"""Generate the card (README.md) of a published dataset from the published files.

`card.md` has the text; this module computes the numbers and tables. Each publish rewrites the text
between two markers. It keeps the text around them and the metadata fields that a user changed.
"""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any
from urllib.parse import quote

from factory.export import JUDGE_NOUNS, SPLITS, front_matter, render_card_template
from factory.lake import Row, Views, load_query, shipped_queries
from factory.publish.card_metadata import BEGIN, END, Kept, card_metadata, merged
from factory.publish.gate import Finding
from factory.publish.licenses import license_terms
from factory.publish.release import Release
from factory.report import format_cell, format_percent, is_numeric
from factory.texts import Markdown, markdown_code, markdown_text

_HEADINGS: Mapping[str, Mapping[str, str]] = {
    "gaps": {
        "kept": "kept pairs",
        "score_chosen": "mean chosen score",
        "score_rejected": "mean rejected score",
    },
    "quality": {
        "gap_in_sd": "gap / standard deviation",
        "future_won": "future won",
        "chosen_longer": "chosen is longer",
        "truncated_share": "cut off",
        "same_text_share": "same text",
        "consistency": "judge's consistency",
    },
    "outcomes": {"considered": "pairs", "train": "train pairs", "test": "test pairs"},
    "failures": {"name": "model", "failures": "judgments"},
    "probe": {"name": "model", "score": "mean score"},
    "bias": {"name": "model", "spearman": "Spearman's ρ"},
    "pair_lengths": {
        "kept": "kept pairs",
        "chosen_tokens": "mean chosen length",
        "rejected_tokens": "mean rejected length",
        "ratio": "chosen / rejected",
        "chosen_longer": "share with chosen longer",
        "chosen_shorter": "share with chosen shorter",
    },
    "sources": {"pairs": "published pairs"},
}

_ANSWER_HEADINGS: Mapping[str, Mapping[str, str]] = {
    "gaps": {"kept": "kept answers", "score_chosen": "mean score"},
    "quality": {**_HEADINGS["quality"], "score_sd": "standard deviation"},
    "outcomes": {"considered": "answers", "train": "train answers", "test": "test answers"},
    "lengths": {"longer pairs": "longer answers"},
    "pair_lengths": {"kept": "kept answers", "chosen_tokens": "mean length"},
    "sources": {"pairs": "published answers"},
}
"""Headings in the card of a dataset without rejected answers, where they differ."""

_ANSWER_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "gaps": ("iteration", "phase", "prompts", "kept", "unscored", "filtered", "score_chosen"),
    "quality": (
        *("iteration", "phase", "score_sd", "truncated_share", "same_text_share", "consistency"),
    ),
    "pair_lengths": ("iteration", "phase", "kept", "chosen_tokens"),
}
"""Columns of the tables that compare two answers, for a dataset without rejected answers."""
"""Headings of table columns whose names in the query are not clear enough."""


def render_card(
    release: Release, views: Views, findings: Sequence[Finding], kept: Kept
) -> tuple[str, dict[str, Any]]:
    """Return the text of a dataset card and its generated metadata.

    The returned metadata lacks the user's changes, so that the next publish can detect them.
    `views` are the views of the repository's folder (`open_views`), and `kept` has the user's text
    in the existing card (`read_card`).
    """
    generated = card_metadata(release)
    metadata = merged(generated, kept)
    template = (resources.files("factory.publish") / "card.md").read_text(encoding="utf-8")
    values = {
        "metadata": metadata,
        "release": release,
        "recipe": release.recipe,
        "judge": release.lineage["judge"],
        "judges": release.lineage["judges"],
        "judge_nouns": JUDGE_NOUNS,
        "roles": {step["role"] for step in release.lineage["steps"]},
        "terms": [_terms_row(model, release) for model in _first_models(release)],
        "findings": findings,
        "pair_rules": _pair_rules(release),
        "numbers": _numbers(release, views),
        "tables": _tables(release, views, findings),
    }
    body = render_card_template(template, values).strip()
    before = f"{kept.before}\n\n" if kept.before else ""
    after = f"\n{kept.after}\n" if kept.after else ""
    text = f"{front_matter(metadata)}\n{before}{BEGIN}\n\n{body}\n\n{END}\n{after}"
    return text, generated


def _pair_rules(release: Release) -> list[str]:
    """Return the recipe's settings for selecting pairs, each as `field: value`."""
    pairs = release.recipe.get("pairs", {})
    fields = ("score", "chosen_if", "rejected_if", "agree")
    return [f"{name}: {pairs[name]}" for name in fields if pairs.get(name) not in (None, "mean")]


def _first_models(release: Release) -> list[Row]:
    """Return the models that the loop did not train."""
    return [model for model in release.lineage["models"] if not model["parent"]]


def _terms_row(model: Row, release: Release) -> Row:
    """Return a model's name in the loop, its repository or name on a server, and its license
    terms."""
    served = release.recipe.get("engine", {}).get("model") if model["name"] == "M_0" else None
    source = model["repository"] or model.get("served") or served
    return {"model": model["name"], "source": source, "terms": license_terms(source)}


def _numbers(release: Release, views: Views) -> dict[str, Any]:
    sizes = release.contents.sizes["default"]
    return {
        "pairs": release.contents.rows("default"),
        "splits": {split: size.rows for split, size in sizes.items()},
        "train": sizes["train"].rows if "train" in sizes else 0,
        "iterations": len(release.contents.iterations),
        **views.one(load_query("publish/published_failures")),
        **_answer_numbers(views.all(shipped_queries()["pair_quality"].sql)),
    }


def _answer_numbers(quality: Sequence[Row]) -> dict[str, Any]:
    """Return the numbers of answers, and the range and spread of the last iteration's scores."""
    last = {row["iteration"]: row for row in quality}  # the last phase of each iteration
    scores = ("lowest_score", "highest_score", "score_sd")
    return {
        **{name: sum(row[name] for row in last.values()) for name in ("answers", "truncated")},
        "scores": [format_cell(row[name]) for row in quality[-1:] for name in scores],
    }


def _tables(release: Release, views: Views, findings: Sequence[Finding]) -> dict[str, Markdown]:
    """Return the card's tables in Markdown, by name. A table without rows is an empty string."""
    queries = {name: query.sql for name, query in shipped_queries().items()}
    rows = {
        "models": [_model_row(model, release) for model in release.lineage["models"]],
        "probe": release.lineage["probe"],
        "sources": [_declared(row) for row in release.sources],
        "gaps": views.all("from gaps"),
        "quality": [_quality_row(row, release) for row in views.all(queries["pair_quality"])],
        "outcomes": views.all(queries["outcomes"]),
        "failures": _without_examples(views.all(queries["parse_failures"])),
        "lengths": _length_rows(views),
        "bias": _bias_rows(views.all(queries["length_bias"])),
        "pair_lengths": views.all(queries["pair_lengths"]),
        "gate": [_gate_row(finding) for finding in findings],
        "configs": _size_rows(release),
    }
    headings = _HEADINGS
    if release.method == "sft":
        headings = {**_HEADINGS, **_ANSWER_HEADINGS}
        for name, columns in _ANSWER_COLUMNS.items():
            rows[name] = [{column: row[column] for column in columns} for row in rows[name]]
    return {name: _markdown_table(each, headings.get(name, {})) for name, each in rows.items()}


def _quality_row(row: Row, release: Release) -> Row:
    shares = ("future_won", "chosen_longer", "truncated_share", "same_text_share")
    plain = ("score_sd",) if release.method == "sft" else ("gap", "gap_in_sd")
    return {
        **{name: row[name] for name in ("iteration", "phase", *plain)},
        **{name: format_percent(row[name]) for name in shares},
        "consistency": row["consistency"] if row["rejudged"] else "not measured",
    }


def _size_rows(release: Release) -> list[Row]:
    sizes = release.contents.sizes
    return [
        {
            "configuration": _code(config.name),
            "one row per": Markdown(config.grain),
            **{
                f"{split} rows": sizes[config.name][split].rows
                if split in sizes[config.name]
                else 0
                for split in SPLITS
            },
        }
        for config in release.contents.configs
    ]


def _declared(row: Row) -> Row:
    return {name: "not declared" if value is None else value for name, value in row.items()}


def _model_row(model: Row, release: Release) -> Row:
    return {
        "model": model["name"],
        "origin": _model_origin(model, release),
        "digest": _code(model["digest"]),
        "dtype": model["dtype"],
    }


def _model_origin(model: Row, release: Release) -> str:
    if model["parent"]:
        rows = "answers" if release.method == "sft" else "pairs"
        return f"{model['parent']}, trained on {model['n_pairs']:,} {rows}"
    if model.get("served"):
        declared = markdown_text(str(model["revision"]))
        return Markdown(f"{_code(model['served'])} on a server, declared revision {declared}")
    if model["repository"]:
        name, address = markdown_text(model["repository"]), quote(model["repository"])
        revision = f" at {_code(model['revision'])}" if model["revision"] else ""
        return Markdown(f"[{name}](https://huggingface.co/{address}){revision}")
    return "a local folder"


def _code(text: str) -> Markdown:
    return markdown_code(text, in_table=True)


def _length_rows(views: Views) -> list[Row]:
    return [
        {"token limit": row["max_length"], "longer pairs": row["pairs_longer"]}
        for row in views.all(load_query("publish/published_lengths"))
    ]


def _without_examples(rows: Sequence[Row]) -> list[Row]:
    return [{name: value for name, value in row.items() if name != "examples"} for row in rows]


def _bias_rows(rows: Sequence[Row]) -> list[Row]:
    shown = ("iteration", "role", "name", "judge", "answers", "mean_tokens", "spearman")
    return [{name: row[name] for name in shown} for row in rows]


def _gate_row(finding: Finding) -> Row:
    result = f"{finding.n:,}" + " (allowed by the publisher)" * finding.is_bad
    return {
        "check": _code(finding.name),
        "looks for": finding.what,
        "rows found": result if finding.looked else "not checked: no evaluation set was given",
    }


def _markdown_table(rows: Sequence[Row], headings: Mapping[str, str]) -> Markdown:
    if not rows:
        return Markdown()
    names = list(rows[0])
    marks = ["---:" if is_numeric(rows, name) else "---" for name in names]
    lines = [[headings.get(name, name.replace("_", " ")) for name in names], marks]
    lines += [[_markdown_cell(row[name]) for name in names] for row in rows]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _markdown_cell(value: Any) -> Markdown:
    return value if isinstance(value, Markdown) else markdown_text(format_cell(value))
