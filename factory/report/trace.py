"""Trace the history of a pair in a lake or in a dataset folder.

No recipe is needed: IDs lead from the pair to its samples, judgments, and verdicts, and digests
lead to the models.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from factory.errors import Argument, QueryError
from factory.lake import Lake, Views, load_query, read_parquet
from factory.models import model_manifest
from factory.stages import transcript

Trace = dict[str, Any]

SIDES = ("chosen", "rejected")

JOIN = "+"
"""Separator between the digests of judges whose scores were combined."""


def trace_lake(lake: Lake, pair_id: str, preferred: Sequence[str] = ()) -> Trace:
    """Return the history of a pair in a lake, including its prompt and answers.

    Each side has the sample, the judgments with their verdicts, and the model. If several builds
    considered the pair, the row comes from one of the preferred builds (keys), then from a build
    that kept the pair, and preferably from a D2 build.
    Raises QueryError if no build has the pair.
    """
    with Views() as views:
        for table in ("pairs", "samples", "judgments", "verdicts", "prompts"):
            shards = [shard for folder in lake.folders(table) for shard in folder.shards()]
            views.register_shards(table, table, shards)
        rows = views.all(
            load_query("report/trace_pairs"), pair_id=pair_id, preferred=" ".join(preferred)
        )
        if not rows:
            raise QueryError(
                Argument("pair_id", "PAIR_ID"),
                f"the lake in {lake.root} has no pair {pair_id}",
                'list the pair IDs with `factory sql RECIPE "select pair_id from pairs"`, or '
                "trace the pair in a dataset folder",
            )
        pair = rows[0]
        prompts = views.all(load_query("report/trace_prompt"), prompt_id=pair["prompt_id"])
        sides = {side: _side(views, lake, pair, side) for side in SIDES}
    judges = [_model(lake, digest) for digest in pair["judge_model"].split(JOIN)]
    _name_models(pair, sides, judges)
    builds = [row["build_key"] for row in rows]
    return {
        "pair": pair,
        "builds": builds,
        "build": lake.folder("pairs", pair["build_key"]).settings(),
        "prompt": prompts[0] if prompts else None,
        **sides,
        "judges": judges,
    }


def _side(views: Views, lake: Lake, pair: Trace, side: str) -> Trace | None:
    sample_id = pair[f"{side}_id"]
    samples = views.all(load_query("report/trace_sample"), sample_id=sample_id)
    if not samples:
        return None
    judgments = views.all(
        load_query("report/trace_judgments"), sample_id=sample_id, judges=pair["judge_model"]
    )
    return {
        "sample": samples[0],
        "judgments": judgments,
        "model": _model(lake, samples[0]["model"]),
    }


def _model(lake: Lake, digest: str) -> Trace:
    """Return the origin of a model. Its key is None if it was not trained in this lake."""
    for folder in lake.folders("models"):
        manifest = model_manifest(folder.path)
        if manifest and digest in (manifest["digest"], manifest.get("as_run")):
            known = ("parent", "n_pairs", "dtype", "versions")
            return {
                "digest": digest,
                "model_key": folder.key,
                "build_key": manifest["build"],
                **{name: manifest[name] for name in known},
            }
    return {"digest": digest, "model_key": None}


def name_in_loop(role: str, iteration: int) -> str | None:
    """Return the name of the model with a role in an iteration, or None for a reference answer."""
    names = {"past": "M_0", "current": f"M_{iteration}", "future": f"F_{iteration}"}
    return names.get(role)


def _name_models(pair: Trace, sides: dict[str, Trace | None], judges: Sequence[Trace]) -> None:
    """Add the names in the loop, such as M_0, to the models of a traced pair and to their parents.
    A judge gets a name if it is one of these models."""
    iteration, names = pair["iteration"], dict[str, str | None]()
    models = [(pair[f"{side}_role"], found["model"]) for side, found in sides.items() if found]
    for role, model in models:
        names[model["digest"]] = name_in_loop(role, iteration)
        if parent := model.get("parent"):
            names[parent] = f"M_{iteration if role == 'future' else iteration - 1}"
    for model in (*(model for _, model in models), *judges):
        model["name"] = names.get(model["digest"])
        model["parent_name"] = names.get(model.get("parent", ""))


def pair_texts(trace: Trace) -> dict[str, str]:
    """Return the prompt and the answers of a traced pair as plain text, by their names."""
    if "pair" not in trace:
        names = ("prompt", *SIDES, "completion")
        return {name: transcript(trace[name]) for name in names if name in trace}
    prompt = trace["prompt"]
    texts = {"prompt": transcript(prompt["messages"])} if prompt else {}
    answers = {side: trace[side]["sample"]["text"] or "" for side in SIDES if trace[side]}
    return texts | answers


def trace_dataset(folder: Path, pair_id: str) -> Trace:
    """Return a pair's row from a dataset folder.

    Raises QueryError if the folder is not a dataset or does not have the pair.
    """
    files = sorted(folder.glob("data/*.parquet"))
    if not files:
        raise QueryError(
            Argument("folder", "--dataset"),
            f"the folder {folder} contains no data/*.parquet files",
            "give a dataset folder",
        )
    with Views() as views:
        rows: list[Trace] = views.all(
            f"from {read_parquet(files)} where pair_id = $pair_id", pair_id=pair_id
        )
    if not rows:
        raise QueryError(
            Argument("folder", "--dataset"),
            f"the dataset {folder} has no pair {pair_id}",
            "choose an ID from the dataset's pair_id column",
        )
    return rows[0]
