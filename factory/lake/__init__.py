"""The lake: immutable Parquet files on disk, and DuckDB views over them."""

from factory.lake.database import open_database
from factory.lake.files import ROW_GROUP, write_parquet, writing
from factory.lake.folders import Broken, Folder, Lake, Lock
from factory.lake.named_queries import query_text, shipped_queries
from factory.lake.prompt_fields import PromptFields, find_prompt_fields
from factory.lake.query import Query, all_queries, load_query
from factory.lake.recipe_views import RecipeViews
from factory.lake.schema import (
    BARE_MESSAGE,
    MESSAGE,
    ROW_ID,
    SHARD_TABLES,
    STORED_KEYS,
    TABLES,
    Row,
    answer_id,
    pair_id,
    prompt_id,
    sorted_json,
    view_schema,
)
from factory.lake.scope import SHARD_KEYS, Scope, join_scopes
from factory.lake.shards import ShardWriter
from factory.lake.sql_text import (
    PART,
    Value,
    literal,
    read_parquet,
    read_parquet_folder,
    statement_of,
)
from factory.lake.user_sql import check_columns, check_expression
from factory.lake.verify import VerifyReport, verify_folders, verify_lake
from factory.lake.views import BASE_VIEWS, BATCH, MACROS, Views

__all__ = [
    "BARE_MESSAGE",
    "BASE_VIEWS",
    "BATCH",
    "MACROS",
    "MESSAGE",
    "PART",
    "ROW_GROUP",
    "ROW_ID",
    "SHARD_KEYS",
    "SHARD_TABLES",
    "STORED_KEYS",
    "TABLES",
    "Broken",
    "Folder",
    "Lake",
    "Lock",
    "PromptFields",
    "Query",
    "RecipeViews",
    "Row",
    "Scope",
    "ShardWriter",
    "Value",
    "VerifyReport",
    "Views",
    "all_queries",
    "answer_id",
    "check_columns",
    "check_expression",
    "find_prompt_fields",
    "join_scopes",
    "literal",
    "load_query",
    "open_database",
    "pair_id",
    "prompt_id",
    "query_text",
    "read_parquet",
    "read_parquet_folder",
    "shipped_queries",
    "sorted_json",
    "statement_of",
    "verify_folders",
    "verify_lake",
    "view_schema",
    "write_parquet",
    "writing",
]
