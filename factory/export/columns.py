"""Column schemas of exported datasets, in Arrow and in the format of the `datasets` library."""

from typing import Any

import pyarrow as pa

from factory.export.prompt_columns import PLAIN

SPLITS = ("train", "test")

PAIR_COLUMNS = pa.schema(
    [
        ("pair_id", pa.string()),
        ("prompt_id", pa.string()),
        ("iteration", pa.int32()),
        ("prompt", PLAIN),
        ("chosen", PLAIN),
        ("rejected", PLAIN),
        ("score_chosen", pa.float64()),
        ("score_rejected", pa.float64()),
        ("margin", pa.float64()),
        ("chosen_role", pa.string()),
        ("rejected_role", pa.string()),
        ("chosen_model", pa.string()),
        ("rejected_model", pa.string()),
        ("judge_model", pa.string()),
        ("n_judgments", pa.int32()),
        ("prompt_tokens", pa.int32()),
        ("chosen_tokens", pa.int32()),
        ("rejected_tokens", pa.int32()),
        ("chosen_id", pa.string()),
        ("rejected_id", pa.string()),
        ("source", pa.string()),
        ("license", pa.string()),
    ]
)
"""Columns of a dataset with pairs: prompt, chosen, and rejected as lists of messages, then scores
and provenance. No column has a name that TRL 1.16 reserves (FORMATS), such as messages or
completion. A dataset may have more columns for its prompts; see `with_prompt_fields`."""

COMPLETION_COLUMNS = pa.schema(
    [
        ("pair_id", pa.string()),
        ("prompt_id", pa.string()),
        ("iteration", pa.int32()),
        ("prompt", PLAIN),
        ("completion", PLAIN),
        ("score", pa.float64()),
        ("role", pa.string()),
        ("model", pa.string()),
        ("judge_model", pa.string()),
        ("n_judgments", pa.int32()),
        ("prompt_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
        ("sample_id", pa.string()),
    ]
)
"""Columns of a dataset without rejected answers: prompt and completion as lists of messages, as
TRL's SFTTrainer reads them, then scores and provenance."""


def features(schema: pa.Schema) -> dict[str, Any]:
    """Convert an Arrow schema to the JSON that `datasets` stores in the metadata of Parquet files.

    Does not import `datasets`.
    """
    return {column.name: _feature(column.type) for column in schema}


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {part.name: _feature(part.type) for part in kind}
    if kind == pa.json_():
        return {"_type": "Json"}
    names = {
        pa.float64(): "float64",
        pa.int32(): "int32",
        pa.int64(): "int64",
        pa.string(): "string",
        pa.bool_(): "bool",
    }
    return {"dtype": names[kind], "_type": "Value"}
