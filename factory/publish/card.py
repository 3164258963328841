"""The card of a dataset: the README of its repository, made from the published files themselves.

What is between its two marks is written anew at every publish; what a person wrote around them, and
changed in the metadata, is kept.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import duckdb
import yaml

from factory.lake import load_query, shipped_queries
from factory.publish.card_metadata import BEGIN, END, Kept, merged, metadata
from factory.publish.gate import Finding
from factory.publish.licenses import license_terms
from factory.publish.repository import Contents

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
    "spin": " (after arXiv 2401.01335: chosen answers are the prompts' own references)",
}

_WHO = {
    "function": "A Python function scored the answers.",
    "reward model": "A reward model scored the answers.",
    "fixed model": "A model that stays the same scored the answers.",
    "the previous model": "The model before the one that is trained scored the answers.",
    "the current model": "The model that is trained scored the answers itself.",
}

_OPINION = {
    "function": "The scores are a function's, and as good as what it looks at.",
    "reward model": "The scores are a reward model's.",
    "fixed model": "The scores are a model's opinion.",
    "the previous model": "The scores are the opinion of an earlier model of the loop.",
    "the current model": "The scores are the opinion of the model that wrote most of the answers, "
    "which may prefer its own.",
}


def render_card(
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
    whole = merged(generated, kept)
    head = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True)
    body = _template().render(
        metadata=whole,
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

    file = resources.files("factory.publish") / "card.md"
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(file.read_text(encoding="utf-8"))


def _rows(views: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = views.sql(query).to_arrow_table().to_pylist()
    return rows


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
        "score_is": _score_is(recipe.get("pairs", {}).get("score", "mean")),
        "policy_source": _SOURCES.get(recipe["loop"]["policy"], ""),
        "who_judged": _WHO[lineage["judge"]["kind"]],
        "opinion": _OPINION[lineage["judge"]["kind"]],
        "probe_table": _table(lineage["probe"]),
        "judge_text": _judges_text(recipe, lineage),
        "duties": _duties(lineage["models"], recipe),
    }


def _score_is(score: str) -> str:
    """What the scores of a pair are, as it follows their names."""
    if score == "mean":
        return "means of the judge's valid scores"
    if score == "expected":
        return "means of the judge's expected scores"
    return f"what `{score}` comes to"


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
    elif model.get("served"):
        origin = f"`{model['served']}` on a server, revision {model['revision']} as declared"
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


def _judges_text(recipe: Mapping[str, Any], lineage: Mapping[str, Any]) -> str:
    """Who judged, and what of it chose the pairs."""
    said = [_judge_text(lineage["judge"])]
    for name, judge in lineage["judges"].items():
        said.append(f"Judge `{name}`: {_judge_text(judge)}")
    choosing = recipe.get("pairs", {})
    if rules := [
        f"`{field}: {choosing[field]}`"
        for field in ("score", "chosen_if", "rejected_if", "agree")
        if choosing.get(field) not in (None, "mean")
    ]:
        said.append(f"Pairs were chosen by {', '.join(rules)}.")
    return "\n\n".join(said)


def _judge_text(judge: Mapping[str, Any]) -> str:
    if judge["kind"] == "function":
        return f"Answers were scored by the function `{judge['name']}`, once each."
    if judge["kind"] == "reward model":
        return "Answers were scored by a reward model, once each."
    others = {"fixed model": "a model that stays the same", "the previous model": "M_i-1"}
    by = others.get(judge["kind"], "M_i")
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
        name = (
            model["repository"]
            or model.get("served")
            or (served if model["name"] == "M_0" else None)
        )
        duty = license_terms(name)
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
    queries = {name: query.sql for name, query in shipped_queries().items()}
    (judged,) = _rows(views, load_query("publish/published_failures").text)
    lengths = [
        {"limit": row["max_length"], "pairs that are longer": row["pairs_longer"]}
        for row in _rows(views, load_query("publish/published_lengths").text)
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
