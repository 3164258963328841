"""Arrow schemas of the lake's tables, and functions that compute row IDs.

A schema is fixed: it has every column from the start, and an empty table has it too. Columns that
only some engines or judges fill are NULL in other rows.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from factory.fingerprint import canonical, row_id, short_hash

Row = dict[str, Any]
"""A row of a table, as a dictionary by column name."""

MESSAGE = pa.struct(
    [
        ("role", pa.string()),
        ("content", pa.string()),
        ("reasoning", pa.string()),
        ("tool_calls", pa.string()),  # JSON
        ("tool_call_id", pa.string()),
        ("name", pa.string()),
    ]
)

BARE_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
"""A message with only role and content, the form that every DPO trainer reads."""

_GENERATION = [
    ("reasoning", pa.string()),
    ("n_prompt_tokens", pa.int32()),
    ("n_cached_tokens", pa.int32()),
    ("n_tokens", pa.int32()),
    ("finish_reason", pa.string()),  # stop, length
    ("cumulative_logprob", pa.float64()),
    ("engine", pa.string()),
    ("engine_version", pa.string()),
    ("dtype", pa.string()),
    ("error", pa.string()),
    ("error_kind", pa.string()),  # permanent, transient
]

TABLES: dict[str, pa.Schema] = {
    "prompts": pa.schema(
        [
            ("prompt_id", pa.string()),
            ("messages", pa.list_(MESSAGE)),
            ("reference", pa.string()),
            ("tools", pa.string()),  # JSON
            ("template_kwargs", pa.string()),  # JSON
            ("criteria", pa.string()),
            ("source", pa.string()),
            ("license", pa.string()),
            ("meta", pa.string()),  # JSON
        ]
    ),
    "samples": pa.schema(
        [
            ("sample_id", pa.string()),
            ("request_id", pa.string()),
            ("prompt_id", pa.string()),
            ("draw", pa.int32()),
            ("model", pa.string()),  # digest; `reference` for a reference answer
            ("sampling", pa.string()),  # the folder's key
            ("text", pa.string()),
            ("tool_calls", pa.string()),  # JSON
            *_GENERATION,
        ]
    ),
    "judgments": pa.schema(
        [
            ("judgment_id", pa.string()),
            ("request_id", pa.string()),
            ("sample_id", pa.string()),
            ("other_id", pa.string()),  # the other sample of a comparison
            ("context", pa.string()),  # hash of the reference, criteria, and meta that were shown
            ("draw", pa.int32()),
            ("judge", pa.string()),  # the folder's key
            ("judge_model", pa.string()),  # digest of the model or of the function's source
            ("text", pa.string()),
            ("value", pa.float64()),  # for judges that return a number instead of text
            (
                "score_logprobs",
                pa.list_(pa.struct([("label", pa.string()), ("logprob", pa.float64())])),
            ),
            *_GENERATION,
        ]
    ),
    "verdicts": pa.schema(
        [
            ("judgment_id", pa.string()),
            ("sample_id", pa.string()),
            ("draw", pa.int32()),
            ("judge", pa.string()),
            ("parser", pa.string()),  # the folder's key
            ("score", pa.float64()),
            ("expected_score", pa.float64()),
            ("reason", pa.string()),  # why there is no score
        ]
    ),
    "pairs": pa.schema(
        [
            ("pair_id", pa.string()),
            ("build", pa.string()),  # the folder's key
            ("prompt_id", pa.string()),
            ("iteration", pa.int32()),
            ("phase", pa.string()),  # D1 trains the future model; D2 the next, and is published
            ("split", pa.string()),  # train, test
            ("outcome", pa.string()),
            ("chosen_id", pa.string()),
            ("rejected_id", pa.string()),
            ("score_chosen", pa.float64()),
            ("score_rejected", pa.float64()),
            ("margin", pa.float64()),
            ("n_judgments_chosen", pa.int32()),
            ("n_judgments_rejected", pa.int32()),
            ("chosen_role", pa.string()),
            ("rejected_role", pa.string()),
            ("chosen_model", pa.string()),
            ("rejected_model", pa.string()),
            ("judge_model", pa.string()),
            ("prompt_tokens", pa.int32()),
            ("chosen_tokens", pa.int32()),
            ("rejected_tokens", pa.int32()),
        ]
    ),
    "models": pa.schema(
        [
            ("digest", pa.string()),
            ("parent", pa.string()),  # digest; NULL for M_0
            ("build_key", pa.string()),  # the folder of its training pairs
            ("model_key", pa.string()),  # the folder under models/; NULL for M_0
            ("settings", pa.string()),  # JSON
            ("n_pairs", pa.int64()),
            ("dtype", pa.string()),
        ]
    ),
    "roles": pa.schema(
        [
            ("recipe", pa.string()),
            ("iteration", pa.int32()),
            ("role", pa.string()),  # past, current, future, reference, judge, or probe
            ("name", pa.string()),  # M_0, M_1, …; F_0, F_1, … for the future models; reference
            ("model", pa.string()),  # digest
            ("sampling_key", pa.string()),  # the folder of its samples
            ("request_key", pa.string()),  # hash that the IDs of their requests start from
            ("parser_key", pa.string()),  # the folder of the verdicts of the judge `judge`
            ("first_draw", pa.int32()),
            ("n_draws", pa.int32()),
            ("n_judge_draws", pa.int32()),  # number of judgments per answer by the judge `judge`
        ]
    ),
    "panel": pa.schema(
        [
            ("recipe", pa.string()),
            ("iteration", pa.int32()),
            ("role", pa.string()),
            ("name", pa.string()),  # the model that plays the role
            ("judge_name", pa.string()),  # `judge`, `probe`, or a name in the recipe's `judges`
            ("title", pa.string()),  # a name in `judges`, a model (M_0, …), or `function`
            ("judge_model", pa.string()),  # digest of the model or of the function's source
            ("judge_key", pa.string()),  # the folder of the judgments
            ("judge_reads", pa.string()),  # other fields of a prompt: '', context, or meta
            ("parser_key", pa.string()),  # the folder of their verdicts
            ("n_judge_draws", pa.int32()),
            ("opponents", pa.int32()),  # number of answers that each answer is compared with
            # the score in its verdicts that ranks the pairs: `score` or `expected_score`
            ("ranks_by", pa.string()),
        ]
    ),
}

SHARD_TABLES = ("samples", "judgments", "verdicts")
"""Tables whose shards can contain duplicates, or rows that belong to a deleted row. The view of the
same name leaves such rows out."""

STORED_KEYS = {"samples": "sampling", "judgments": "judge", "verdicts": "parser"}
"""For each table, the column of its shards that stores the folder's key."""

_KEY_COLUMNS = {
    "sampling": "sampling_key",
    "judge": "judge_key",
    "parser": "parser_key",
    "build": "build_key",
}


def view_schema(table: str) -> pa.Schema:
    """Return the Arrow schema of a table's DuckDB view. In views, the name of a column with a key
    ends in `_key`."""
    return pa.schema(
        [column.with_name(_KEY_COLUMNS.get(column.name, column.name)) for column in TABLES[table]]
    )


ROW_ID: dict[str, str] = {
    "prompts": "prompt_id",
    "samples": "sample_id",
    "judgments": "judgment_id",
    "verdicts": "judgment_id",
    "pairs": "pair_id",
}
"""For each table that is stored as shards, the column that identifies a row within a folder."""


def prompt_id(messages: Sequence[Mapping[str, Any]], tools: str | None) -> str:
    """Return a prompt's ID: a hash of the canonical JSON of its messages and tools.

    The order of the keys in tools and tool calls does not matter.
    """
    plain = [{**message, **_sorted_calls(message)} for message in messages]
    sorted_tools = (sorted_json(json.loads(tools)) or tools) if tools else tools
    return short_hash(canonical({"messages": plain, "tools": sorted_tools}))


def _sorted_calls(message: Mapping[str, Any]) -> dict[str, str | None]:
    calls = message.get("tool_calls")
    return {"tool_calls": sorted_json(json.loads(calls)) or calls} if calls else {}


def sorted_json(value: Any) -> str | None:
    """Return a value as JSON with sorted keys, or None if it is empty. Unlike the canonical JSON of
    keys, it includes nulls."""
    if not value:
        return None
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def answer_id(request_id: str, draw: int, text: str | None, *more: str | None) -> str:
    """Return an answer's ID: a hash of its request ID, draw number, and content.

    `more` has the other parts of the answer in a fixed order: reasoning and tool calls for a
    sample, reasoning for a judgment.
    """
    return row_id(request_id, draw, *more, text)


def pair_id(prompt: str, chosen: str | None, rejected: str | None) -> str:
    """Return a pair's ID: a hash of the IDs of its prompt and its two answers. The ID is the same
    in every build."""
    return row_id(prompt, chosen, rejected)
