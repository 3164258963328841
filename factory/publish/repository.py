"""Write the Parquet and SQL files of a dataset repository to a folder.

    data/  anchored/  kto/  candidates/  judgments/    <split>-<iteration>.parquet, one folder per
                                                       configuration
    tables/<table>-<iteration>.parquet                 the other tables that the views read
    sql/views.sql  sql/<name>.sql                      the views of `factory sql` and named queries

Each Parquet file belongs to one iteration, so a later iteration adds files and changes none. If the
loop trains no models, `data/` has the only pairs, and there is no `anchored/`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from factory.errors import PublishError
from factory.export import (
    COMPLETION_COLUMNS,
    PAIR_COLUMNS,
    PLAIN,
    SPLITS,
    kept_pairs,
    select_pairs,
    with_prompt_fields,
    write_rows,
)
from factory.files import write_new
from factory.lake import (
    TABLES,
    PromptFields,
    Value,
    Views,
    load_query,
    read_parquet_folder,
    shipped_queries,
    view_schema,
)
from factory.pairs import FIRST, SECOND, Policy
from factory.plan import RecipeState, all_views, final_pairs, loop_prompt_fields, steps
from factory.progress import Progress, Task
from factory.publish.redact import redact_paths

_SOURCE = [pa.field("source", pa.string()), pa.field("license", pa.string())]

KTO_COLUMNS = pa.schema(
    [
        ("prompt", PLAIN),
        ("completion", PLAIN),
        ("label", pa.bool_()),
        ("iteration", pa.int32()),
        ("prompt_id", pa.string()),
        ("sample_id", pa.string()),
        *_SOURCE,
    ]
)

ANSWER_COLUMNS = pa.schema([*COMPLETION_COLUMNS, *_SOURCE])

_SCORED = [
    pa.field("score", pa.float64()),
    pa.field("expected_score", pa.float64()),
    pa.field("pair_score", pa.float64()),
    pa.field("spread", pa.float64()),
    pa.field("n_judgments", pa.int32()),
    pa.field("n_unparsed", pa.int32()),
]

CANDIDATE_COLUMNS = pa.schema(
    [
        ("iteration", pa.int32()),
        ("role", pa.string()),
        ("name", pa.string()),
        ("split", pa.string()),
        ("prompt", PLAIN),
        *view_schema("samples"),
        ("parser_key", pa.string()),
        *_SCORED,
        *_SOURCE,
    ]
)

JUDGMENT_COLUMNS = pa.schema(
    [
        ("iteration", pa.int32()),
        ("split", pa.string()),
        ("prompt_id", pa.string()),
        *view_schema("judgments"),
        ("parser_key", pa.string()),
        ("score", pa.float64()),
        ("expected_score", pa.float64()),
        ("reason", pa.string()),
    ]
)

PROMPT_COLUMNS = pa.schema([*TABLES["prompts"], ("split", pa.string()), ("iteration", pa.int32())])


@dataclass(frozen=True)
class Config:
    """A dataset configuration that users load with `load_dataset(repository, name)`."""

    name: str
    folder: str
    grain: str
    """The unit of a row, as the card prints it after "one row per"."""
    query: str
    columns: pa.Schema
    phase: str = SECOND
    """The phase of the published pairs, D1 or D2. Other configurations ignore it."""


def configs_of(policy: Policy) -> tuple[Config, ...]:
    """Return the dataset configurations that a policy's pairs can fill.

    If the loop trains no models, `default` has the only pairs, and there is no `anchored`. If the
    policy selects no rejected answers, there is no `kto`.
    """
    default, first, kto, *others = CONFIGS
    if policy.trains == "sft":
        answers = {"query": ANSWERS, "columns": ANSWER_COLUMNS}
        default = replace(default, grain=_of_answers(default, policy), **answers)
        first = replace(first, grain=_of_answers(first, policy), **answers)
    elif not policy.trains_models:
        default = replace(default, grain="preference pair")
    default = replace(default, phase=policy.final_phase)
    firsts = [first] if policy.trains_models and FIRST in policy.phases else []
    return (default, *firsts, *([kto] if policy.trains == "dpo" else []), *others)


def _of_answers(config: Config, policy: Policy) -> str:
    return config.grain.replace("pair", "answer") if policy.trains_models else "selected answer"


ANSWERS = "publish/published_answers"
"""The query for `default` and `anchored` if the policy selects no rejected answers."""


CONFIGS = (
    Config(
        "default", "data", "pair that trains the next model (D2)", "export/dataset", PAIR_COLUMNS
    ),
    Config(
        "anchored",
        "anchored",
        "pair that trains the temporary future model (D1)",
        "export/dataset",
        PAIR_COLUMNS,
        FIRST,
    ),
    Config(
        "kto",
        "kto",
        "answer from a pair in `default`, labeled true (chosen) or false (rejected)",
        "publish/published_kto",
        KTO_COLUMNS,
    ),
    Config(
        "candidates",
        "candidates",
        "sampled answer and role, with its score",
        "publish/published_candidates",
        CANDIDATE_COLUMNS,
    ),
    Config(
        "judgments",
        "judgments",
        "judgment, with the judge's raw output and the parsed score",
        "publish/published_judgments",
        JUDGMENT_COLUMNS,
    ),
)
"""Configurations of a dataset. `default` has the D2 pairs for trainers, `anchored` the D1 pairs.
See `configs_of` for a loop that trains no models."""

TABLE_FILES = {
    "prompts": PROMPT_COLUMNS,
    "pairs": view_schema("pairs"),
    "roles": TABLES["roles"],
    "panel": TABLES["panel"],
    "models": TABLES["models"],
}

FOLDERS = (*(config.folder for config in CONFIGS), "tables", "sql")
"""Folders that `factory publish` owns. A push deletes files in them that it did not write."""


@dataclass
class Size:
    """The number of rows and bytes in one split of a dataset configuration."""

    rows: int = 0
    memory: int = 0
    """Size of the Parquet data before compression, in bytes."""
    disk: int = 0
    """Size of the files, in bytes."""

    def add(self, file: Path) -> None:
        """Add a Parquet file to the row and byte counts of this split."""
        metadata = pq.read_metadata(file)
        groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
        self.rows += metadata.num_rows
        self.memory += sum(group.total_byte_size for group in groups)
        self.disk += file.stat().st_size


@dataclass
class Contents:
    """The finished iterations in a dataset repository, and the size of each split."""

    iterations: list[int]
    """The finished iterations."""
    prompt_fields: PromptFields
    """The fields of prompts beyond role and content. The rows have columns for them."""
    all_configs: Sequence[Config] = CONFIGS
    """The configurations that the dataset can have, without columns for `prompt_fields`."""
    sizes: dict[str, dict[str, Size]] = field(default_factory=dict)
    """Sizes by configuration and split, without empty splits."""

    def rows(self, config: str) -> int:
        """Return the number of rows in all splits of a dataset configuration."""
        return sum(size.rows for size in self.sizes.get(config, {}).values())

    @property
    def configs(self) -> list[Config]:
        """Return the dataset configurations that have at least one row."""
        return [config for config in self.possible_configs if config.name in self.sizes]

    @property
    def possible_configs(self) -> list[Config]:
        """Return all dataset configurations, with the columns that their prompts need."""
        return [
            replace(config, columns=with_prompt_fields(config.columns, self.prompt_fields))
            for config in self.all_configs
        ]


def iterations(state: RecipeState) -> list[int]:
    """Return the finished iterations of a recipe, up to the first unfinished one.

    An iteration is finished when its final pairs are built. Raises PublishError if there are none.
    """
    made = []
    for step in steps(state.recipe):
        if step.stage == "pairs" and step.phase == state.policy.final_phase:
            if not state.steps[step].done:
                break
            made.append(step.iteration)
    if not made:
        raise PublishError(
            "the lake",
            f"{state.lake.root} has no finished iteration of the recipe {state.recipe.name}",
            "run the recipe with `factory run` first",
        )
    return made


def write_repository(state: RecipeState, folder: Path, progress: Progress) -> Contents:
    """Write the Parquet and SQL files of a recipe's finished iterations to an empty folder.

    Raises PublishError if no iteration is finished or no pair was kept.
    """
    found = loop_prompt_fields(state)
    contents = Contents(iterations(state), found, configs_of(state.policy))
    views = all_views(state)
    views.register("models", _public_models(state))
    views.define("kto", shipped_queries()["kto"].sql)
    n_configs = len(contents.all_configs)
    n_files = len(contents.iterations) * (n_configs * len(SPLITS) + len(TABLE_FILES))
    with progress.task("writing the folder", n_files, "files") as task:
        for config in contents.possible_configs:
            _write_config(views, config, folder, contents, task)
        for table, columns in TABLE_FILES.items():
            for iteration in contents.iterations:
                file = _file(folder, "tables", table, iteration)
                query = load_query(f"publish/published_{table}")
                write_rows(views, query, columns, file, values={"iteration": iteration})
                task.advance()
    if not contents.rows("default"):
        raise PublishError(
            "pairs",
            f"the recipe {state.recipe.name} has no kept pairs, so there is nothing to publish",
            "run `factory sql RECIPE outcomes` to see the outcomes of the pairs",
        )
    _write_sql(folder, state.policy.final_phase)
    return contents


def _public_models(state: RecipeState) -> pa.Table:
    """Return the table of models, with the local paths removed from the training settings."""
    rows = state.models_table().to_pylist()
    for row in rows:
        if row["settings"]:
            row["settings"] = json.dumps(redact_paths(json.loads(row["settings"]), state.recipe))
    return pa.Table.from_pylist(rows, TABLES["models"])


def _write_config(
    views: Views, config: Config, folder: Path, contents: Contents, task: Task
) -> None:
    query = load_query(config.query)
    has_pairs = "pair_rows" in query.reads
    if has_pairs:
        views.read_texts(f"from pairs where {kept_pairs(config.phase)}")
    sizes: dict[str, Size] = {}
    for split in SPLITS:
        for iteration in contents.iterations:
            file = _file(folder, config.folder, split, iteration)
            values: dict[str, Value] = {}
            if has_pairs:
                select_pairs(views, kept_pairs(config.phase, iteration, split))
            else:
                values = {"iteration": iteration, "split": split}
            if write_rows(views, query, config.columns, file, values=values):
                sizes.setdefault(split, Size()).add(file)
            task.advance()
    if sizes:
        contents.sizes[config.name] = sizes
    else:
        (folder / config.folder).rmdir()


def _file(folder: Path, part: str, name: str, iteration: int) -> Path:
    (folder / part).mkdir(parents=True, exist_ok=True)
    return folder / part / f"{name}-{iteration:02d}.parquet"


def _write_sql(folder: Path, phase: str) -> None:
    (folder / "sql").mkdir()
    write_new(folder / "sql" / "views.sql", views_sql(phase))
    for name, query in shipped_queries().items():
        write_new(folder / "sql" / f"{name}.sql", query.sql)


def open_views(folder: Path, phase: str = SECOND, memory: str | None = None) -> Views:
    """Return the views of `factory sql` for a local copy of a dataset repository.

    `phase` is the phase of the final pairs, D1 or D2. `memory` is the memory limit of queries, as
    in the recipe's `query_memory`.
    """
    return Views(
        memory, script=views_sql(phase, f"{folder.resolve()}/"), readable=[folder.resolve()]
    )


def views_sql(phase: str, root: str = "") -> str:
    """Return a standalone DuckDB script that creates the views of `factory sql`.

    `phase` is the phase of the final pairs, D1 or D2. `root` is the path of the folder with a
    trailing slash, or empty for the current folder.
    """
    samples = ", ".join(view_schema("samples").names)
    scored = ", ".join(column.name for column in _SCORED)
    verdicts = ", ".join(view_schema("verdicts").names)
    judgments = ", ".join(view_schema("judgments").names)
    placed = f"iteration, role, name, parser_key, split, {samples}"
    candidates = read_parquet_folder(root, "candidates/*.parquet")
    judged = read_parquet_folder(root, "judgments/*.parquet")
    views = {
        **{
            name: f"from {read_parquet_folder(root, f'tables/{name}-*.parquet')}"
            for name in TABLE_FILES
        },
        "final_pairs": final_pairs(phase),
        "candidates": f"select {placed}, {scored} from {candidates}",
        "placed": f"select {placed} from candidates",
        "samples": f"select distinct on (sampling_key, request_id, draw) {samples} from candidates",
        "judged": f"from {judged}",
        "judgments": f"select distinct on (judge_key, judgment_id) {judgments} from judged",
        "verdicts": f"select {verdicts} from judged where error is null",
        **{
            name: load_query(f"lake/{name}").text.rstrip()
            for name in ("scores", "judge_scores", "judges", "gaps")
        },
    }
    made = "".join(f"\ncreate or replace view {name} as\n{text};\n" for name, text in views.items())
    macros = "\n".join(load_query(f"lake/{name}").text for name in ("macros", "labels"))
    macros = macros.replace("create macro", "create or replace macro")
    return f"{_HOW_TO_READ}\n{macros}{made}"


_HOW_TO_READ = """\
-- The views of `factory sql` on the files of this repository. Run this file in DuckDB (tested with
-- 2.0) in the root folder of the repository. The other files in this folder are queries on these
-- views. Probe prompts and answers are not published, so the views do not contain them.
"""
