"""Croissant metadata of a repository, beside what the Hub writes by itself: files, columns, and how
the data came to be (PROV-O).

After Croissant 1.0 and Croissant RAI 1.0; mlcroissant 1.1.1 finds no error in it and reads the
rows by it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from factory.publish.repository import Config, Contents

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "conformsTo": "dct:conformsTo",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "samplingRate": "cr:samplingRate",
    "equivalentProperty": "cr:equivalentProperty",
    "arrayShape": "cr:arrayShape",
    "isArray": "cr:isArray",
}

_TYPES = {
    pa.string(): "sc:Text",
    pa.float64(): "cr:Float64",
    pa.int32(): "cr:Int32",
    pa.int64(): "cr:Int64",
    pa.bool_(): "sc:Boolean",
}


def croissant_metadata(
    repository: str,
    card: Mapping[str, Any],
    contents: Contents,
    recipe: Mapping[str, Any],
    lineage: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The metadata as JSON-LD. `card` is the head of the card, `sources` the sources and licences
    of the prompts."""
    url = f"https://huggingface.co/datasets/{repository}"
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [
            "http://mlcommons.org/croissant/1.0",
            "http://mlcommons.org/croissant/RAI/1.0",
        ],
        "name": repository.replace("/", "_"),
        "description": (
            f"Preference pairs of {len(contents.iterations)} iterations of the policy "
            f"{recipe['loop']['policy']}, with every candidate and judgment behind them."
        ),
        "url": url,
        "license": sorted({row["license"] or "not declared" for row in sources}),
        "keywords": card["tags"],
        "citeAs": "arXiv:2508.06026",
        **({"inLanguage": card["language"]} if "language" in card else {}),
        "distribution": [
            _repository(url),
            *(_files(config, contents) for config in contents.configs),
        ],
        "recordSet": [_records(config) for config in contents.configs],
        **_provenance(lineage, sources),
        **_responsible(recipe, lineage),
    }


def _repository(url: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": "repository",
        "name": "repository",
        "description": "The repository on the Hugging Face Hub.",
        "contentUrl": url,
        "encodingFormat": "git+https",
        # A repository has no digest of its own: https://github.com/mlcommons/croissant/issues/80
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
        "description": f"The rows of the configuration {config.name}.",
        "field": [_field(config, column) for column in config.columns],
    }


def _field(config: Config, column: pa.Field) -> dict[str, Any]:
    place = f"{config.name}/{column.name}"
    source = {"fileSet": {"@id": f"files-{config.name}"}, "extract": {"column": column.name}}
    described: dict[str, Any] = {"@type": "cr:Field", "@id": place, "name": place}
    if not pa.types.is_list(column.type):
        return {**described, "dataType": _TYPES[column.type], "source": source}
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
    """Which prompts and models the rows come from, and which steps made them."""
    models = [
        {
            "@type": "prov:SoftwareAgent",
            "@id": f"model-{model['digest']}",
            "name": model["name"],
            **(
                {"url": f"https://huggingface.co/{model['repository']}"}
                if model["repository"]
                else {}
            ),
            **({"version": model["revision"]} if model["revision"] else {}),
            **(
                {"prov:wasDerivedFrom": [{"@id": f"model-{by_name}"}]}
                if (by_name := _digest(lineage, model["parent"]))
                else {}
            ),
        }
        for model in lineage["models"]
    ]
    steps = [
        {
            "@type": "prov:Activity",
            "@id": f"step-{place}",
            "name": step["step"],
            "identifier": step["key"],
            **(
                {"prov:wasAssociatedWith": [{"@id": f"model-{by}"}]}
                if (by := _digest(lineage, step["model"]))
                else {}
            ),
        }
        for place, step in enumerate(lineage["steps"])
        if step["stage"] != "train"
    ]
    return {
        "prov:wasDerivedFrom": [
            {
                "@type": "prov:Entity",
                "name": row["source"] or "not declared",
                "license": row["license"] or "not declared",
            }
            for row in sources
        ],
        "prov:wasAttributedTo": models,
        "prov:wasGeneratedBy": steps,
    }


def _digest(lineage: Mapping[str, Any], name: str | None) -> str | None:
    return next((model["digest"] for model in lineage["models"] if model["name"] == name), None)


def _responsible(recipe: Mapping[str, Any], lineage: Mapping[str, Any]) -> dict[str, Any]:
    judge = lineage["judge"]
    by = judge["kind"]
    if "rubric" in judge:
        by += f" with the rubric {judge['rubric']}"
    elif "name" in judge:
        by += f" {judge['name']}"
    return {
        "rai:dataCollection": (
            f"Language models answered each prompt {recipe['sampling']['draws']} times; pairs were "
            f"chosen from the scored answers by the policy {recipe['loop']['policy']}."
        ),
        "rai:dataCollectionType": "Synthetic data",
        "rai:dataAnnotationProtocol": f"Answers were scored by {by}.",
        "rai:machineAnnotationTools": [lineage["made_with"]],
        "rai:dataLimitations": (
            "Scores are a judge's opinion; answers may be wrong, biased or harmful, and nobody has "
            "read all of them. See the card."
        ),
        "rai:dataUseCases": "Training and studying language models with preferences.",
    }
