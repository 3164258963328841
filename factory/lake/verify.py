"""Check the integrity of the Parquet shards and trained models in a lake."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from factory.lake.database import open_database
from factory.lake.folders import Folder, Lake
from factory.lake.schema import ROW_ID, TABLES, prompt_id
from factory.lake.sql_text import read_parquet
from factory.models import broken_files, model_manifest


@dataclass(frozen=True)
class Fault:
    """A damaged file in the lake."""

    file: str
    """Path of the file, relative to the lake."""
    why: str
    """Description of the damage."""


@dataclass
class VerifyReport:
    """The faults found in a lake, and how many shards, rows, and models were checked."""

    shards: int = 0
    rows: int = 0
    models: int = 0
    faults: list[Fault] = field(default_factory=list)


def verify_lake(lake: Lake) -> VerifyReport:
    """Check every shard and trained model in the lake. Datasets are not checked, since they are
    rebuilt from the shards."""
    tables = (*ROW_ID, "models")
    return verify_folders(folder for table in tables for folder in lake.folders(table))


def verify_folders(folders: Iterable[Folder]) -> VerifyReport:
    """Check every shard or trained model in the given folders."""
    report = VerifyReport()
    with open_database() as con:
        for folder in folders:
            if folder.table == "models":
                report.faults += _model_faults(folder, report)
            else:
                report.faults += _folder_faults(folder, report, con)
    return report


def _folder_faults(
    folder: Folder, report: VerifyReport, con: duckdb.DuckDBPyConnection
) -> Iterator[Fault]:
    broken = folder.broken(content=True)
    yield from (Fault(folder.lake.relative(shard.path), shard.why) for shard in broken)
    names = {shard.path for shard in broken}
    of_table = []
    for shard in folder.shards():
        if shard in names:
            continue
        report.shards += 1
        if pq.read_schema(shard).remove_metadata().equals(TABLES[folder.table]):
            report.rows += pq.read_metadata(shard).num_rows
            of_table.append(shard)
        else:
            yield Fault(folder.lake.relative(shard), "the schema differs from the table's")
    for shard, wrong in _wrong_ids(folder.table, of_table, con).items():
        why = f"{wrong} rows have an id that does not match their content"
        yield Fault(folder.lake.relative(shard), why)


def _wrong_ids(
    table: str, shards: Sequence[Path], con: duckdb.DuckDBPyConnection
) -> dict[Path, int]:
    """Return, for each shard, the number of rows whose ID is not the hash of their content. Leaves
    out shards without such rows."""
    if table == "prompts":
        counts = {shard: _wrong_prompt_ids(shard) for shard in shards}
        return {shard: count for shard, count in counts.items() if count}
    expression = _ID_SQL.get(table)
    if expression is None or not shards:
        return {}
    rows = con.sql(
        f"select filename, count(*) from {read_parquet(shards, 'filename = true')} "
        f"where {ROW_ID[table]} is distinct from {expression} group by filename order by filename"
    ).fetchall()
    return {Path(name): count for name, count in rows}


def _wrong_prompt_ids(shard: Path) -> int:
    rows = pq.read_table(shard, columns=["prompt_id", "messages", "tools"]).to_pylist()
    return sum(
        row["prompt_id"]
        != prompt_id(
            [{k: v for k, v in message.items() if v is not None} for message in row["messages"]],
            row["tools"],
        )
        for row in rows
    )


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
