"""Read the rows to export, from a recipe's lake or from a dataset folder.

Rows are read from the Parquet files that `factory run` and `factory pairs` write, or from such a
folder after it was published and downloaded. Only `--to sft` needs the lake, because a dataset
contains only the answers in its pairs.
"""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from factory.errors import Argument, ExportError
from factory.export.columns import SPLITS
from factory.export.dataset import write_dataset
from factory.export.prompt_columns import RICH, prompt_fields_of
from factory.export.trainers import export_query
from factory.lake import PromptFields, Views, load_query, read_parquet, shipped_queries
from factory.plan import RecipeState, all_views, steps

SIDES = ("prompt", "chosen", "rejected")


@dataclass(frozen=True)
class Source:
    """A dataset to export, together with its recipe if the recipe is known."""

    name: str
    folder: Path
    state: RecipeState | None = None
    """State of the recipe. None if only a dataset folder was given."""
    model: str = "MODEL"
    """The model to train, quoted for a shell: M_0 of the recipe, or the word MODEL if there is no
    recipe or the weights of M_0 are only on a server."""
    left_out: list[str] = field(default_factory=list)
    """Labels of the recipe's steps whose pairs are not in the lake yet."""

    def files(self, split: str) -> list[Path]:
        """Return the Parquet files of one split of the dataset, sorted by name."""
        return sorted((self.folder / "data").glob(f"{split}*.parquet"))


def open_recipe_dataset(state: RecipeState, written_as: Path) -> Source:
    """Write a recipe's dataset if it is missing, and return it as an export source.

    Raises ExportError if the lake has no pairs for this recipe.
    """
    made = {
        step: state.steps[step].done
        for step in steps(state.recipe)
        if step.stage == "pairs" and step.phase == state.policy.final_phase
    }
    if not any(made.values()):
        raise ExportError(
            Argument("lake"),
            f"the lake {state.lake.root} has no pairs for this recipe",
            f"run `factory run {written_as}` first, or choose another lake",
            str(written_as),
        )
    folder = write_dataset(state, state.recipe.name)
    given = state.recipe.model.path
    path = state.recipe.resolve(given)
    return Source(
        folder.name,
        folder,
        state,
        model=shlex.quote(str(path) if path.is_dir() else given) if given else "MODEL",
        left_out=[step.label for step, done in made.items() if not done],
    )


def open_dataset(folder: Path) -> Source:
    """Open a dataset folder as an export source.

    Raises ExportError if the folder is not a dataset, or if prompt, chosen, or rejected is not a
    list of messages. The messages of a prompt may have more fields than role and content if they
    are stored as JSON, as `factory run` writes them.
    """
    files = sorted((folder / "data").glob("*.parquet"))
    if not files:
        raise ExportError(
            str(folder),
            "the folder is not a dataset",
            "give a recipe, or a dataset folder that contains data/train-*.parquet",
        )
    for file in files:
        try:
            schema = pq.read_schema(file)
        except pa.ArrowException as error:
            raise ExportError(
                str(file),
                f"the Parquet file is incomplete or damaged ({error})",
                "regenerate the dataset, or download it again",
            ) from None
        _check_column_names(file, schema)
        for side in SIDES:
            _check_messages(file, schema, side)
    return Source(folder.resolve().name, folder)


def _check_column_names(file: Path, schema: pa.Schema) -> None:
    """Raise ExportError if two columns have the same name for DuckDB, which ignores case."""
    names = [name.lower() for name in schema.names]
    for name in schema.names:
        if names.count(name.lower()) > 1:
            raise ExportError(
                name,
                "two columns have this name (upper and lower case are the same)",
                "rename or remove one of the columns",
                str(file),
            )


def _check_messages(file: Path, schema: pa.Schema, name: str) -> None:
    kind = schema.field(name).type if name in schema.names else None
    if not (_is_messages(kind) or (name == "prompt" and kind == RICH)):
        fault = "the column is missing" if kind is None else f"got a column of type {kind}"
        raise ExportError(
            name,
            fault,
            "provide a list of messages with only the fields role and content, which are strings",
            str(file),
        )


def _is_messages(kind: pa.DataType | None) -> bool:
    if kind is None or not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    item = kind.value_type
    return (
        pa.types.is_struct(item)
        and sorted(part.name for part in item) == ["content", "role"]
        and all(_is_text(part.type) for part in item)
    )


def _is_text(kind: pa.DataType) -> bool:
    return any(
        is_kind(kind)
        for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


def check_prompt_fields(source: Source, trainer: str, reads: PromptFields) -> None:
    """Raise ExportError if the prompts have fields that a trainer does not pass to the template.

    `reads` contains the fields that the trainer passes.
    """
    found = prompt_fields_of(pq.read_schema(source.files("train")[0]))
    for name in found.names:
        if not getattr(reads, name):
            raise ExportError(
                str(source.folder),
                f"some prompts have {_WORDS[name]}, which {trainer} would not show to the model",
                "export to trl, or use prompts whose messages have only role and content",
            )


_WORDS = {
    "messages": "messages with fields other than role and content",
    "tools": "tools",
    "settings": "settings of the chat template (template_kwargs)",
}
"""The fields of PromptFields in words."""


def open_pairs(source: Source, needs: tuple[str, ...]) -> Views:
    """Return DuckDB views that read a dataset's pairs, one view per split.

    The views are named `train_rows` and `test_rows`. `select_splits` then defines the view
    `dataset`, which the export queries read. The views leave out pairs that contradict another pair
    of the same prompt. `needs` names required columns. Raises ExportError if a column is missing,
    if a side has no text, or if there are no training rows.
    """
    files = source.files("train")
    if not files or not any(pq.read_metadata(file).num_rows for file in files):
        raise ExportError(
            str(source.folder),
            "the dataset has no training pairs",
            "run `factory status` to see the outcomes of the pairs",
        )
    if "chosen" not in pq.read_schema(files[0]).names:
        raise ExportError(
            str(source.folder),
            "the dataset has chosen answers but no pairs, because the recipe's policy trains "
            "with SFT",
            "export the dataset to sft",
        )
    if missing := [name for name in needs if name not in pq.read_schema(files[0]).names]:
        raise ExportError(
            str(source.folder),
            f"the dataset lacks columns that this trainer needs ({', '.join(missing)})",
            "export a dataset that `factory run` wrote",
        )
    views = Views()
    # A single thread keeps the row order. Without these optimizers, joins keep their right side
    # (the IDs) in memory; DuckDB's row estimates might make it keep the texts.
    views.con.execute("set threads = 1")
    views.con.execute("set disabled_optimizers = 'join_order,build_side_probe_side'")
    for split in SPLITS:
        limit = "" if source.files(split) else " limit 0"
        rows = read_parquet(source.files(split) or files)
        # The place of a row identifies it: a dataset of another origin may have no pair_id.
        views.define(
            f"all_{split}_rows", f"select *, row_number() over () as place from {rows}{limit}"
        )
    both = (f"select '{split}' as split, * from all_{split}_rows" for split in SPLITS)
    views.define("numbered_pairs", " union all by name ".join(both))
    for fault in views.all(load_query("export/no_text")):
        raise ExportError(
            str(source.folder),
            f"row {fault['place']} of the {fault['split']} split has no text in {fault['side']}",
            "give each message a role and a content, or remove the row",
        )
    views.create_table("contradicting", load_query("export/contradicting"))
    for split in SPLITS:
        views.define(
            f"{split}_rows",
            f"select * exclude (place) from all_{split}_rows "
            f"anti join (from contradicting where split = '{split}') using (place)",
        )
    return views


def count_contradicting(views: Views) -> int:
    """Return the number of pairs that `open_pairs` left out."""
    count: int = views.all("select count(*) as n from contradicting")[0]["n"]
    return count


def open_best_answers(source: Source) -> Views:
    """Return DuckDB views that read the best answer to each prompt, one view per split.

    The views are named `train_rows` and `test_rows`, and contain answers of the current model.
    Raises ExportError if the source has no recipe, and therefore no lake with all answers.
    """
    if source.state is None:
        raise ExportError(
            str(source.folder),
            "an SFT export needs all answers, but a dataset contains only those of its pairs",
            "give the recipe and its lake instead of the dataset",
        )
    views = all_views(source.state)
    views.create_table("best_of_k", shipped_queries()["best_of_k"].sql)
    views.create_table("best", load_query("export/best"))
    for split in SPLITS:
        views.define(f"{split}_rows", f"from best where split = '{split}'")
    return views


def select_splits(views: Views, *splits: str) -> None:
    """Define the DuckDB view `dataset`, which contains the rows of the given splits."""
    views.define("dataset", " union all ".join(f"(from {split}_rows)" for split in splits))


def longest(source: Source, views: Views, *, pairs: bool) -> int | None:
    """Return the token count of a dataset's longest row, including the prompt.

    Tokens were counted with the tokenizer of the model that wrote the answers. Returns None if
    they were not counted.
    """
    if pairs and "prompt_tokens" not in pq.read_schema(source.files("train")[0]).names:
        return None
    select_splits(views, *SPLITS)
    query = export_query("longest_pair" if pairs else "longest_sample", "checks")
    length: int | None = views.all(query)[0]["longest"]
    return length


def check_pairs(source: Source, views: Views, query: str, spoils: str) -> None:
    """Raise ExportError if the trainer would silently misread some of the pairs.

    `query` names a file of `checks/` that finds these pairs, and `spoils` describes the problem.
    """
    select_splits(views, *SPLITS)
    (found,) = views.all(export_query(query, "checks"))
    if found["n"]:
        raise ExportError(
            str(source.folder),
            f"{found['n']:,} pairs {spoils} (for example, {found['example'][:40]!r})",
            "remove these pairs, or choose another trainer",
        )
