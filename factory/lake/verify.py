"""Is the lake what it was when it was written: every shard's hash, schema and ids, every model."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow.parquet as pq

from factory.lake.folders import Folder, Lake
from factory.lake.schema import ROW_ID, TABLES, prompt_id
from factory.lake.views import Views
from factory.models import broken_files, model_manifest


@dataclass(frozen=True)
class Fault:
    file: str
    """Relative to the lake."""
    why: str


@dataclass
class VerifyReport:
    shards: int = 0
    rows: int = 0
    models: int = 0
    faults: list[Fault] = field(default_factory=list)


def verify_lake(lake: Lake) -> VerifyReport:
    """Reads every shard and trained model of the lake; its datasets follow from these."""
    tables = (*ROW_ID, "models")
    return verify_folders(folder for table in tables for folder in lake.folders(table))


def verify_folders(folders: Iterable[Folder]) -> VerifyReport:
    """Reads every shard or trained model of these folders."""
    report = VerifyReport()
    for folder in folders:
        faults = _model_faults if folder.table == "models" else _folder_faults
        report.faults += faults(folder, report)
    return report


def _folder_faults(folder: Folder, report: VerifyReport) -> Iterator[Fault]:
    broken = folder.broken(content=True)
    yield from (Fault(folder.lake.relative(shard.path), shard.why) for shard in broken)
    names = {shard.path for shard in broken}
    for shard in folder.shards():
        if shard in names:
            continue
        report.shards += 1
        name = folder.lake.relative(shard)
        schema = pq.read_schema(shard)
        if not schema.remove_metadata().equals(TABLES[folder.table]):
            yield Fault(name, "its schema is not the table's")
            continue
        report.rows += pq.read_metadata(shard).num_rows
        if wrong := _wrong_ids(folder.table, shard.as_posix()):
            yield Fault(name, f"{wrong} of its rows have ids that do not follow from them")


def _wrong_ids(table: str, path: str) -> int:
    if table == "prompts":
        rows = pq.read_table(path, columns=["prompt_id", "messages", "tools"]).to_pylist()
        return sum(
            row["prompt_id"]
            != prompt_id(
                [{k: v for k, v in m.items() if v is not None} for m in row["messages"]],
                row["tools"],
            )
            for row in rows
        )
    expression = _ID_SQL.get(table)
    if expression is None:
        return 0
    with Views() as views:
        views.con.read_parquet(path).create_view("rows")
        (row,) = views.con.sql(
            f"select count(*) from rows where {ROW_ID[table]} is distinct from {expression}"
        ).fetchall()
    return int(row[0])


def _row_id(*columns: str) -> str:
    parts = ", ".join(f"coalesce({column}::varchar, '')" for column in columns)
    return f"left(sha256(concat_ws(chr(31), {parts})), 24)"


_ID_SQL = {
    "samples": _row_id("request_id", "draw", "reasoning", "tool_calls", "text"),
    "judgments": _row_id("request_id", "draw", "reasoning", "text"),
    "pairs": _row_id("prompt_id", "chosen_id", "rejected_id"),
}


def _model_faults(folder: Folder, report: VerifyReport) -> Iterator[Fault]:
    report.models += model_manifest(folder.path) is not None
    for file, why in broken_files(folder.path):
        yield Fault(folder.lake.relative(file), why)
