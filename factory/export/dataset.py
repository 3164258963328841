"""Write kept pairs to dataset folders, which `datasets.load_dataset` and DPO trainers can read.

If the policy has no rejected side, the rows are prompts and chosen answers for SFT trainers.

A dataset contains the final pairs of every iteration (D2, or D1 if the loop trains no models), in
one immutable Parquet file per iteration and split. The name of the folder ends in a hash of the
dataset's builds, so different rows are written to different folders.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from factory.export.card import render_folder_card
from factory.export.columns import COMPLETION_COLUMNS, PAIR_COLUMNS, SPLITS, features
from factory.export.prompt_columns import shown_rows, with_prompt_fields
from factory.files import finish, remove_unfinished, unfinished_folder, write_new
from factory.fingerprint import folder_key
from factory.lake import (
    ROW_GROUP,
    PromptFields,
    Query,
    Value,
    Views,
    literal,
    load_query,
    write_parquet,
    writing,
)
from factory.plan import RecipeState, Step, all_views, loop_prompt_fields, steps
from factory.recipe import Method

VERSION = 2


NO_METADATA: Mapping[str, str] = {}
NO_VALUES: Mapping[str, Value] = {}

PUBLISHED: dict[Method, tuple[str, pa.Schema]] = {
    "dpo": ("export/dataset", PAIR_COLUMNS),
    "sft": ("export/completions", COMPLETION_COLUMNS),
}
"""The query for a dataset's rows and its columns, by the training method of the policy."""


def write_dataset(state: RecipeState, name: str) -> Path:
    """Write a recipe's pairs to a dataset folder, and return the folder.

    The folder's name is `name` and a hash of the builds in the dataset. An existing folder is not
    written again. Iterations without pairs have no files.
    """
    builds = [
        state.steps[step]
        for step in steps(state.recipe)
        if step.stage == "pairs" and step.phase == state.policy.final_phase
    ]
    keys = [build.folder.key for build in builds if build.folder and build.done]
    fraction = state.recipe.prompts.test_fraction
    prompts = state.steps[Step("prompts", role="loop")].folder
    found = loop_prompt_fields(state)
    rows = {
        "builds": keys,
        "test_fraction": fraction,
        "prompts": prompts.key if prompts else None,
        **({"prompt_fields": found.names} if found else {}),
    }
    key = folder_key("dataset", VERSION, rows)
    datasets = state.lake.root / "datasets"
    folder = datasets / f"{name}-{key[:8]}"
    if folder.exists():
        return folder
    with (
        state.lake.lock("datasets", f"writing {name}"),
        writing(state.lake.root),
    ):
        datasets.mkdir(exist_ok=True)
        remove_unfinished(datasets)
        if not folder.exists():
            with unfinished_folder(datasets) as unfinished:
                _write(state, unfinished, keys, found)
                finish(unfinished, folder)
    return folder


def _write(state: RecipeState, folder: Path, builds: list[str], found: PromptFields) -> None:
    """Write a dataset folder with its Parquet files and card.

    The metadata of each Parquet file names the builds, so that `factory diff` finds them in the
    lake.
    """
    query, plain = PUBLISHED[state.policy.trains]
    columns = with_prompt_fields(plain, found)
    metadata = {"factory.builds": json.dumps(builds)}
    (folder / "data").mkdir(parents=True)
    rows: dict[str, int] = {}
    phase, views = state.policy.final_phase, all_views(state)
    views.read_texts(f"from pairs where {kept_pairs(phase)}")
    for iteration in state.recipe.loop.numbers:
        for split in SPLITS:
            file = folder / "data" / f"{split}-{iteration:02d}.parquet"
            select_pairs(views, kept_pairs(phase, iteration, split))
            n_rows = write_rows(views, load_query(query), columns, file, metadata)
            rows[split] = rows.get(split, 0) + n_rows
    card = render_folder_card(state.recipe, state.policy.trains, rows)
    write_new(folder / "README.md", card)


def kept_pairs(phase: str, iteration: int | None = None, split: str | None = None) -> str:
    """Return a SQL condition that selects kept pairs by phase, and optionally by iteration and
    split."""
    condition = f"outcome = 'kept' and phase = {literal(phase)}"
    if iteration is not None:
        condition += f" and iteration = {literal(iteration)}"
    if split is not None:
        condition += f" and split = {literal(split)}"
    return condition


def select_pairs(views: Views, condition: str) -> None:
    """Define the view `pair_rows`, which contains the selected pairs and their texts.

    `condition` is a SQL condition that selects the pairs. Call `views.read_texts` for these pairs
    first.
    """
    views.define("selected_pairs", f"from pairs where {condition}")
    views.define("pair_rows", load_query("export/pair_rows"))


def write_rows(
    views: Views,
    query: Query,
    columns: pa.Schema,
    file: Path,
    metadata: Mapping[str, str] = NO_METADATA,
    values: Mapping[str, Value] = NO_VALUES,
) -> int:
    """Write the rows of a query to one Parquet file, and return the number of rows.

    `values` are the query's parameters. The file's metadata contains `metadata` and the features
    for `datasets`. If the query returns no rows, no file is written, because `datasets` rejects
    empty splits. The same rows give the same bytes: row groups have a fixed number of rows,
    independent of the query's batches.
    """
    info = json.dumps({"info": {"features": features(columns)}})
    schema = columns.with_metadata({"huggingface": info, **metadata})
    n_rows = write_parquet(
        file, schema, _row_groups(schema, shown_rows(views.stream(query, **values), columns))
    )
    if n_rows == 0:
        file.unlink()
    return n_rows


def _row_groups(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Regroup rows into batches of ROW_GROUP rows, and yield the batches."""
    waiting: list[pa.RecordBatch] = []
    n_waiting = 0
    for batch in batches:
        while n_waiting + batch.num_rows >= ROW_GROUP:
            cut = ROW_GROUP - n_waiting
            yield _joined(schema, [*waiting, batch.slice(0, cut)])
            waiting, n_waiting, batch = [], 0, batch.slice(cut)
        waiting.append(batch)
        n_waiting += batch.num_rows
    if n_waiting:
        yield _joined(schema, waiting)


def _joined(schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    joined = pa.concat_batches(batches)
    return pa.RecordBatch.from_arrays(joined.columns, schema=schema)


def dataset_rows(folder: Path) -> dict[str, int]:
    """Return the number of rows in each split of a dataset folder."""
    rows: dict[str, int] = {}
    for file in sorted((folder / "data").glob("*.parquet")):
        split = file.name.split("-")[0]
        rows[split] = rows.get(split, 0) + pq.read_metadata(file).num_rows
    return rows
