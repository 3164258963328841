"""The lake: immutable Parquet shards on disk, and DuckDB views over them."""

from factory.lake.files import ROW_GROUP, remove_unfinished, write_parquet, write_whole, writing
from factory.lake.folders import Broken, Folder, Lake
from factory.lake.named_queries import query_text, shipped_queries
from factory.lake.recipe_views import RecipeViews
from factory.lake.schema import (
    BARE_MESSAGE,
    MESSAGE,
    ROW_ID,
    TABLES,
    Row,
    answer_id,
    pair_id,
    prompt_id,
)
from factory.lake.scope import SHARD_KEYS, Scope, join_scopes
from factory.lake.shards import ShardWriter
from factory.lake.verify import VerifyReport, verify_folders, verify_lake
from factory.lake.views import BASE_VIEWS, BATCH, MACROS, Views, sql_text

__all__ = [
    "BARE_MESSAGE",
    "BASE_VIEWS",
    "BATCH",
    "MACROS",
    "MESSAGE",
    "ROW_GROUP",
    "ROW_ID",
    "SHARD_KEYS",
    "TABLES",
    "Broken",
    "Folder",
    "Lake",
    "RecipeViews",
    "Row",
    "Scope",
    "ShardWriter",
    "VerifyReport",
    "Views",
    "answer_id",
    "join_scopes",
    "pair_id",
    "prompt_id",
    "query_text",
    "remove_unfinished",
    "shipped_queries",
    "sql_text",
    "verify_folders",
    "verify_lake",
    "write_parquet",
    "write_whole",
    "writing",
]
