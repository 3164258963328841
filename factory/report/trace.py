"""The history of a pair, from the rows of a lake, or from a published dataset alone.

Needs no recipe: ids lead from the pair to its samples, their judgments and verdicts, and digests
to the models.
"""

from pathlib import Path
from typing import Any

from factory.errors import QueryError
from factory.lake import Lake, Views, load_query
from factory.models import model_manifest

Trace = dict[str, Any]

SIDES = ("chosen", "rejected")

JOIN = "+"
"""Between the digests of several judges whose scores made one."""


def trace_lake(lake: Lake, pair_id: str) -> Trace:
    """Everything that a lake holds of a pair: its row, the builds that have it, the prompt, and of
    each side the sample, its judgments with verdicts, and its model.

    Of several builds one that kept it tells, a published one first. Raises QueryError where none
    has it.
    """
    with Views() as views:
        for table in ("pairs", "samples", "judgments", "verdicts", "prompts"):
            shards = [shard for folder in lake.folders(table) for shard in folder.shards()]
            views.register_shards(table, table, shards)
        rows = views.all(load_query("report/trace_pairs"), pair_id=pair_id)
        if not rows:
            raise QueryError(
                "PAIR_ID",
                f"no pair {pair_id} in {lake.root}",
                'expected a pair_id of its pairs (`factory sql RECIPE "select pair_id from '
                'pairs"`), or --dataset with a dataset that has it',
            )
        pair = rows[0]
        prompts = views.all(load_query("report/trace_prompt"), prompt_id=pair["prompt_id"])
        sides = {side: _side(views, lake, pair, side) for side in SIDES}
    builds = [row["build_key"] for row in rows]
    return {
        "pair": pair,
        "builds": builds,
        "build": lake.folder("pairs", pair["build_key"]).settings(),
        "prompt": prompts[0] if prompts else None,
        **sides,
        "judges": [_model(lake, digest) for digest in pair["judge_model"].split(JOIN)],
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
    """Return the origin of a model. A model that was not trained in this lake has no key."""
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


def trace_dataset(folder: Path, pair_id: str) -> Trace:
    """The row of a dataset's folder, as `factory run` and `factory pairs` write it.

    Raises QueryError where it has none of that id, or is no dataset.
    """
    if not list(folder.glob("data/*.parquet")):
        raise QueryError(
            "--dataset", f"{folder} has no data/*.parquet", "expected a dataset's folder"
        )
    files = folder / "data" / "*.parquet"
    with Views() as views:
        rows: list[Trace] = views.all(
            "from read_parquet($files) where pair_id = $pair_id", files=files, pair_id=pair_id
        )
    if not rows:
        raise QueryError(
            "--dataset", f"no pair {pair_id} in {folder}", "expected one of its column pair_id"
        )
    return rows[0]
