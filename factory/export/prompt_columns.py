"""The columns of a prompt in datasets and training files, as TRL 1.16 reads them.

A plain prompt is a list of {role, content}. If some prompts contain more, the dataset stores the
other parts as follows:

    prompt                  messages with other fields are JSON objects, because a missing field
                            must stay missing for the chat template
    tools                   JSON text
    chat_template_kwargs    a JSON object
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from factory.lake import BARE_MESSAGE, PromptFields
from factory.models import chat_message

PLAIN = pa.list_(BARE_MESSAGE)
"""The type of a list of messages that have only role and content."""

RICH = pa.list_(pa.json_())
"""The type of a list of messages with other fields."""

_TOOLS = pa.field("tools", pa.string())
_SETTINGS = pa.field("chat_template_kwargs", pa.json_())


def with_prompt_fields(columns: pa.Schema, found: PromptFields) -> pa.Schema:
    """Return a schema with the columns that the prompts of a dataset need.

    `columns` is the schema for plain prompts, with the column `prompt`.
    """
    place = columns.get_field_index("prompt")
    if place < 0:
        return columns
    if found.messages:
        columns = columns.set(place, pa.field("prompt", RICH))
    if found.tools:
        columns = columns.append(_TOOLS)
    if found.settings:
        columns = columns.append(_SETTINGS)
    return columns


def prompt_fields_of(columns: pa.Schema) -> PromptFields:
    """Return the fields that the prompts of a dataset have, according to its schema."""
    prompt = columns.field("prompt").type if "prompt" in columns.names else PLAIN
    return PromptFields(
        messages=not _is_plain(prompt),
        tools=_TOOLS.name in columns.names,
        settings=_SETTINGS.name in columns.names,
    )


def shown_rows(batches: Iterable[pa.RecordBatch], columns: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Convert rows of the lake to rows of a dataset, and yield the batches.

    `columns` is the schema of the dataset. If its prompts contain more than plain messages, the
    batches also have the columns tools and template_kwargs of the table `prompts`.
    """
    found = prompt_fields_of(columns)
    for batch in batches:
        yield _shown(batch, found).select(columns.names).cast(columns)


def _shown(batch: pa.RecordBatch, found: PromptFields) -> pa.RecordBatch:
    if found.messages:
        prompts = [
            [json.dumps(chat_message(message), ensure_ascii=False) for message in messages]
            for messages in batch["prompt"].to_pylist()
        ]
        place = batch.schema.get_field_index("prompt")
        batch = batch.set_column(place, "prompt", pa.array(prompts, pa.list_(pa.string())))
    if found.settings:
        settings = pc.fill_null(batch["template_kwargs"], "{}")
        batch = batch.append_column(_SETTINGS.name, settings)
    return batch


def restored(columns: pa.Schema) -> pa.Schema:
    """Return the schema of query results with the JSON types of the dataset.

    DuckDB returns JSON as strings.
    """
    if "prompt" in columns.names and not _is_plain(columns.field("prompt").type):
        columns = columns.set(columns.get_field_index("prompt"), pa.field("prompt", RICH))
    if _SETTINGS.name in columns.names:
        columns = columns.set(columns.get_field_index(_SETTINGS.name), _SETTINGS)
    return columns


def _is_plain(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind.value_type))


def decoded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a dataset with its JSON text parsed into objects."""
    changed: dict[str, Any] = {}
    if row.get("prompt") and isinstance(row["prompt"][0], str):
        changed["prompt"] = [json.loads(message) for message in row["prompt"]]
    if _SETTINGS.name in row:
        changed[_SETTINGS.name] = json.loads(row[_SETTINGS.name])
    return {**row, **changed}
