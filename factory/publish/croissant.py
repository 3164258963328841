"""Generate Croissant metadata that describes a dataset's files, columns, and provenance.

The metadata follows Croissant 1.0 and Croissant RAI 1.0, and describes the provenance with PROV-O.
mlcroissant 1.1.1 validates it and reads the rows with it.
"""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import pyarrow as pa

from factory.export import JUDGE_NOUNS
from factory.publish.release import Release
from factory.publish.repository import Config, Contents
from factory.recipe import Method

CITATIONS: dict[Method, str] = {"dpo": "arXiv:2508.06026", "sft": "arXiv:2304.06767"}
"""The papers of the methods: Temporal Self-Rewarding, and RAFT for rejection sampling."""

_ROWS: dict[Method, str] = {"dpo": "Preference pairs", "sft": "Prompts and selected answers"}

_TYPES = {
    pa.string(): "sc:Text",
    pa.float64(): "cr:Float64",
    pa.int32(): "cr:Int32",
    pa.int64(): "cr:Int64",
    pa.bool_(): "sc:Boolean",
    pa.json_(): "sc:Text",
}


def croissant_metadata(release: Release, card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Croissant metadata of a dataset release as JSON-LD.

    `card` is the metadata of the dataset card.
    """
    contents, recipe, sources = release.contents, release.recipe, release.sources
    context = resources.files("factory.publish") / "croissant_context.json"
    url = f"https://huggingface.co/datasets/{release.repository}"
    return {
        "@context": json.loads(context.read_text(encoding="utf-8")),
        "@type": "sc:Dataset",
        "conformsTo": [
            "http://mlcommons.org/croissant/1.0",
            "http://mlcommons.org/croissant/RAI/1.0",
        ],
        "name": release.repository.replace("/", "_"),
        "description": (
            f"{_ROWS[release.method]} {_origin(contents, recipe)} with the policy "
            f"{recipe['loop']['policy']}, with all sampled answers and judgments."
        ),
        "url": url,
        "license": sorted({row["license"] or "not declared" for row in sources}),
        "keywords": card["tags"],
        "citeAs": CITATIONS[release.method],
        **({"inLanguage": card["language"]} if "language" in card else {}),
        "distribution": [
            _repository(url),
            *(_files(config, contents) for config in contents.configs),
        ],
        "recordSet": [_records(config) for config in contents.configs],
        **_provenance(release.lineage, sources),
        **_collection(release),
    }


def _origin(contents: Contents, recipe: Mapping[str, Any]) -> str:
    """Return where the pairs come from, as in "from 2 iterations"."""
    if not recipe["loop"]["iterations"]:
        return "from answers of the model M_0"
    n = len(contents.iterations)
    return f"from {n} iteration{'' if n == 1 else 's'}"


def _repository(url: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": "repository",
        "name": "repository",
        "description": "The dataset repository on the Hugging Face Hub.",
        "contentUrl": url,
        "encodingFormat": "git+https",
        # A repository has no digest: https://github.com/mlcommons/croissant/issues/80
        "sha256": "https://github.com/mlcommons/croissant/issues/80",
    }


def _files(config: Config, contents: Contents) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"files-{config.name}",
        "name": f"files-{config.name}",
        "description": f"Parquet files of the configuration {config.name}.",
        "containedIn": {"@id": "repository"},
        "encodingFormat": "application/x-parquet",
        "includes": [f"{config.folder}/{split}-*.parquet" for split in contents.sizes[config.name]],
    }


def _records(config: Config) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": config.name,
        "name": config.name,
        "description": f"Rows of the configuration {config.name}.",
        "field": [_field(config, column) for column in config.columns],
    }


def _field(config: Config, column: pa.Field) -> dict[str, Any]:
    place = f"{config.name}/{column.name}"
    source = {"fileSet": {"@id": f"files-{config.name}"}, "extract": {"column": column.name}}
    described: dict[str, Any] = {"@type": "cr:Field", "@id": place, "name": place}
    if not pa.types.is_list(column.type):
        return {**described, "dataType": _TYPES[column.type], "source": source}
    if not pa.types.is_struct(column.type.value_type):
        kind = _TYPES[column.type.value_type]
        return {**described, "repeated": True, "dataType": kind, "source": source}
    parts = [
        {
            "@type": "cr:Field",
            "@id": f"{place}/{part.name}",
            "name": f"{place}/{part.name}",
            "dataType": _TYPES[part.type],
            "source": {**source, "transform": {"jsonPath": part.name}},
        }
        for part in column.type.value_type
    ]
    return {**described, "repeated": True, "subField": parts}


def _provenance(lineage: Mapping[str, Any], sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the provenance of the rows: prompt sources, models, and the steps of the loop."""
    return {
        "prov:wasDerivedFrom": [
            {
                "@type": "prov:Entity",
                "name": row["source"] or "not declared",
                "license": row["license"] or "not declared",
            }
            for row in sources
        ],
        "prov:wasAttributedTo": [_agent(lineage, model) for model in lineage["models"]],
        "prov:wasGeneratedBy": [
            _activity(lineage, place, step)
            for place, step in enumerate(lineage["steps"])
            if step["stage"] != "train"
        ],
    }


def _agent(lineage: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    agent: dict[str, Any] = {
        "@type": "prov:SoftwareAgent",
        "@id": f"model-{model['digest']}",
        "name": model["name"],
    }
    if model["repository"]:
        agent["url"] = f"https://huggingface.co/{model['repository']}"
    if model["revision"]:
        agent["version"] = model["revision"]
    if parent := _digest(lineage, model["parent"]):
        agent["prov:wasDerivedFrom"] = [{"@id": f"model-{parent}"}]
    return agent


def _activity(lineage: Mapping[str, Any], place: int, step: Mapping[str, Any]) -> dict[str, Any]:
    activity: dict[str, Any] = {
        "@type": "prov:Activity",
        "@id": f"step-{place}",
        "name": step["step"],
        "identifier": step["key"],
    }
    if model := _digest(lineage, step["model"]):
        activity["prov:wasAssociatedWith"] = [{"@id": f"model-{model}"}]
    return activity


def _digest(lineage: Mapping[str, Any], name: str | None) -> str | None:
    return next((model["digest"] for model in lineage["models"] if model["name"] == name), None)


def _collection(release: Release) -> dict[str, Any]:
    """Return the Responsible AI fields, which say how the answers were collected and scored, and
    list limitations."""
    recipe, lineage, is_sft = release.recipe, release.lineage, release.method == "sft"
    judge, draws = lineage["judge"], recipe["sampling"]["draws"]
    answered = (
        f"Each language model answered each prompt {draws} times."
        if recipe["loop"]["iterations"]
        else f"The model M_0 answered each prompt {draws} times in each role."
    )
    scored_by = JUDGE_NOUNS[judge["kind"]]
    if "rubric" in judge:
        scored_by += f" with the rubric {judge['rubric']}"
    elif "name" in judge:
        scored_by += f", {judge['name']}"
    return {
        "rai:dataCollection": (
            f"{answered} The policy {recipe['loop']['policy']} selected "
            f"{'answers' if is_sft else 'pairs'} from the scored answers."
        ),
        "rai:dataCollectionType": "Synthetic data",
        "rai:dataAnnotationProtocol": f"The answers were scored by {scored_by}.",
        "rai:machineAnnotationTools": [lineage["made_with"]],
        "rai:dataLimitations": (
            "The scores are a judge's opinion. Language models wrote the answers, and nobody has "
            "read all of them. They may be wrong, biased, or harmful. See the dataset card."
        ),
        "rai:dataUseCases": (
            f"{'Supervised fine-tuning' if is_sft else 'Preference training'} of language models, "
            "and research on it."
        ),
    }
