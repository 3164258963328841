"""The dataset: the kept pairs as a folder that `datasets.load_dataset` opens and DPO trainers read,
or the chosen answers alone, for SFT trainers, where the policy has no rejected side.

A folder holds the D2 pairs of every iteration, one immutable Parquet file for each iteration and
split. Its name ends in a hash of the builds in it; another content is another folder.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from factory.fingerprint import folder_key
from factory.lake import BARE_MESSAGE, ROW_GROUP, Views, remove_unfinished, write_parquet, writing
from factory.pairs import SECOND
from factory.plan import RecipeState, Step, all_views, steps
from factory.recipe import Method, Recipe

VERSION = 2


SPLITS = ("train", "test")


NO_MORE: Mapping[str, str] = {}


_MESSAGES = pa.list_(BARE_MESSAGE)


PAIR_COLUMNS = pa.schema(
    [
        ("pair_id", pa.string()),
        ("prompt_id", pa.string()),
        ("iteration", pa.int32()),
        ("prompt", _MESSAGES),
        ("chosen", _MESSAGES),
        ("rejected", _MESSAGES),
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
"""The canonical row (prompt, chosen, rejected as lists of messages) and where it came from. No
column is named messages or completion, or as TRL reserves: FORMATS of TRL 1.16."""


COMPLETION_COLUMNS = pa.schema(
    [
        ("pair_id", pa.string()),
        ("prompt_id", pa.string()),
        ("iteration", pa.int32()),
        ("prompt", _MESSAGES),
        ("completion", _MESSAGES),
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
"""The same where there is no rejected side: prompt and completion as lists of messages, as TRL's
SFTTrainer takes them."""


PUBLISHED: dict[Method, tuple[str, pa.Schema]] = {
    "dpo": ("dataset", PAIR_COLUMNS),
    "sft": ("completions", COMPLETION_COLUMNS),
}
"""Of what a policy trains by: the query of the rows, and their columns."""


def features(schema: pa.Schema) -> dict[str, Any]:
    """A schema as `datasets` writes it into a Parquet file's metadata, without importing it."""
    return {column.name: _feature(column.type) for column in schema}


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {part.name: _feature(part.type) for part in kind}
    names = {
        pa.float64(): "float64",
        pa.int32(): "int32",
        pa.int64(): "int64",
        pa.string(): "string",
        pa.bool_(): "bool",
    }
    return {"dtype": names[kind], "_type": "Value"}


def write_dataset(state: RecipeState, name: str) -> Path:
    """Writes the dataset of a state's pairs, if it is not there yet; its folder, which is called
    `name` and a hash of the builds in it. Iterations whose pairs were not made yet are not in
    it."""
    builds = [
        state.found[step]
        for step in steps(state.recipe)
        if step.stage == "pairs" and step.phase == SECOND
    ]
    keys = [build.folder.key for build in builds if build.folder and build.done]
    fraction = state.recipe.prompts.test_fraction
    prompts = state.found[Step("prompts", role="loop")].folder
    rows = {"builds": keys, "test_fraction": fraction, "prompts": prompts.key if prompts else None}
    key = folder_key("dataset", VERSION, rows)
    datasets = state.lake.root / "datasets"
    folder = datasets / f"{name}-{key[:8]}"
    if folder.exists():
        return folder
    with (
        state.lake.lock("datasets", f"process {os.getpid()}", lambda _: None),
        writing(state.lake.root),
    ):
        datasets.mkdir(exist_ok=True)
        remove_unfinished(datasets)
        if not folder.exists():
            unfinished = datasets / f".tmp-{folder.name}"
            _write(state, unfinished, keys)
            unfinished.rename(folder)
    return folder


def _write(state: RecipeState, folder: Path, builds: list[str]) -> None:
    """The files say of which builds they are, so that `factory diff` finds them in the lake."""
    query, columns = PUBLISHED[state.policy.trains]
    said = {"factory.builds": json.dumps(builds)}
    (folder / "data").mkdir(parents=True)
    rows: dict[str, int] = {}
    views = all_views(state)
    select_pairs_of_phase(views, SECOND)
    for iteration in range(state.recipe.loop.iterations):
        for split in SPLITS:
            views.setting("part", {"iteration": iteration, "split": split})
            file = folder / "data" / f"{split}-{iteration:02d}.parquet"
            n_rows = write_rows(views, query, columns, file, said)
            rows[split] = rows.get(split, 0) + n_rows
    (folder / "README.md").write_text(_card(state, rows), encoding="utf-8")


def select_pairs_of_phase(views: Views, phase: str) -> None:
    """Select the kept pairs of a phase, in the iteration and split that `part` names."""
    kept = f"outcome = 'kept' and phase = '{phase}'"
    views.setting("part", {"iteration": 0, "split": SPLITS[0]})
    select_pairs(views, kept, "semi join part using (iteration, split)")


def select_pairs(views: Views, condition: str, part: str = "") -> None:
    """Make `pair_rows` the rows of the pairs that meet a condition, and read their texts.

    `part` joins what narrows the rows further, from one file to the next.
    """
    views.read_texts(f"from pairs where {condition}")
    views.define("selected_pairs", f"from pairs {part} where {condition}")
    views.view("pair_rows")


def write_rows(
    views: Views, query: str, columns: pa.Schema, file: Path, said: Mapping[str, str] = NO_MORE
) -> int:
    """Writes the rows of a named query as one Parquet file that names its features, and `said` in
    its metadata; how many they are. Where there is none, there is no file: `datasets` refuses an
    empty split.

    The same rows are the same bytes: row groups are cut by number, wherever the query's batches
    end.
    """
    info = json.dumps({"info": {"features": features(columns)}})
    schema = columns.with_metadata({"huggingface": info, **said})
    n_rows = write_parquet(file, schema, _row_groups(schema, views.stream(query, columns)))
    if n_rows == 0:
        file.unlink()
    return n_rows


def _row_groups(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of ROW_GROUP."""
    held: list[pa.RecordBatch] = []
    n_held = 0
    for batch in batches:
        while n_held + batch.num_rows >= ROW_GROUP:
            cut = ROW_GROUP - n_held
            yield _joined(schema, [*held, batch.slice(0, cut)])
            held, n_held, batch = [], 0, batch.slice(cut)
        held.append(batch)
        n_held += batch.num_rows
    if n_held:
        yield _joined(schema, held)


def _joined(schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    joined = pa.concat_batches(batches)
    return pa.RecordBatch.from_arrays(joined.columns, schema=schema)


_SAID: dict[Method, tuple[str, str, str]] = {
    "dpo": (
        "  - dpo\n  - preference\n",
        "Preference pairs",
        "`prompt`, `chosen` and `rejected`",
    ),
    "sft": ("  - sft\n", "Prompts with their best answers", "`prompt` and `completion`"),
}
"""What the card says of a dataset: tags, what its rows are, and their columns."""


def _card(state: RecipeState, rows: dict[str, int]) -> str:
    splits = [name for name, count in rows.items() if count]
    files = "".join(
        f"      - split: {name}\n        path: data/{name}-*.parquet\n" for name in splits
    )
    recipe = state.recipe
    tags, what, columns = _SAID[state.policy.trains]
    counted = ", ".join(f"{rows[name]:,} {name}" for name in splits) or "no rows"
    return (
        "---\nconfigs:\n  - config_name: default\n    default: true\n    data_files:\n"
        f"{files}task_categories:\n  - text-generation\n"
        f"tags:\n{tags}  - trl\n  - synthetic\n---\n\n"
        f"# {recipe.name}\n\n"
        f"{what} ({counted}) made by preference-factory with the policy "
        f"`{recipe.loop.policy}` in {recipe.loop.iterations} iterations, scored by "
        f"{_judge(recipe)}. "
        f"{columns} are lists of messages.\n\n"
        "```python\nimport datasets\n\n"
        'rows = datasets.load_dataset("path/to/this/folder", split="train")\n```\n'
    )


def _judge(recipe: Recipe) -> str:
    judge = recipe.judge
    if judge.function:
        return "a Python function"
    if judge.reward_model:
        return "a reward model"
    return "a fixed judge" if judge.has_model else "the model itself as a judge"


def dataset_rows(folder: Path) -> dict[str, int]:
    """How many pairs each split of a dataset folder has."""
    rows: dict[str, int] = {}
    for file in sorted((folder / "data").glob("*.parquet")):
        split = file.name.split("-")[0]
        rows[split] = rows.get(split, 0) + pq.read_metadata(file).num_rows
    return rows
