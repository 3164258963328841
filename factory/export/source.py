"""What is exported: the dataset of a recipe, or a dataset's folder alone.

Rows are read from the Parquet files that `factory run` and `factory pairs` write, also after such
a folder was published and downloaded. Only the best answers need a lake: a dataset holds the
answers of its pairs and no others.
"""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from factory.errors import ExportError
from factory.export.columns import SPLITS
from factory.export.dataset import write_dataset
from factory.export.trainers import export_query, more_than_bare
from factory.lake import Views, literal, shipped_queries
from factory.pairs import SECOND
from factory.plan import RecipeState, all_views, steps

SIDES = ("prompt", "chosen", "rejected")


@dataclass(frozen=True)
class Source:
    """A dataset, as views over its rows."""

    name: str
    folder: Path
    state: RecipeState | None = None
    """Of the recipe, where one was given."""
    model: str = "MODEL"
    """The model to train, as a shell takes it: M_0 where the source is a recipe."""
    left_out: list[str] = field(default_factory=list)
    """Steps of the recipe whose pairs were not made yet."""

    def files(self, split: str) -> list[Path]:
        return sorted((self.folder / "data").glob(f"{split}*.parquet"))


def open_recipe_dataset(state: RecipeState, written_as: Path) -> Source:
    """The dataset of a recipe's run, written as `factory run` does where it is not there yet.

    Raises ExportError where the lake holds no pairs of it, or what rows of bare messages cannot
    carry.
    """
    made = {
        step: state.steps[step].done
        for step in steps(state.recipe)
        if step.stage == "pairs" and step.phase == SECOND
    }
    if not any(made.values()):
        raise ExportError(
            "--lake",
            f"{state.lake.root} holds no pairs of it",
            f"run it first (factory run {written_as}), or name another lake",
            str(written_as),
        )
    _refuse_more_than_bare(state, written_as)
    folder = write_dataset(state, state.recipe.name)
    path = state.recipe.resolve(state.recipe.model.path)
    return Source(
        folder.name,
        folder,
        state,
        model=shlex.quote(str(path) if path.is_dir() else state.recipe.model.path),
        left_out=[step.label for step, done in made.items() if not done],
    )


def _refuse_more_than_bare(state: RecipeState, written_as: Path) -> None:
    if found := more_than_bare(all_views(state)):
        raise ExportError(
            "prompts.files",
            f"its prompts ({found}) are more than messages of role and content, which is all that "
            "the rows of a dataset carry",
            "export a recipe without them",
            str(written_as),
        )


def open_dataset(folder: Path) -> Source:
    """A dataset's folder. Raises ExportError where it is none, or its rows are not canonical."""
    files = sorted((folder / "data").glob("*.parquet"))
    if not files:
        raise ExportError(
            str(folder),
            "not a dataset",
            "expected a recipe, or a dataset's folder as `factory run` writes it, with "
            "data/train-*.parquet",
        )
    for file in files:
        try:
            schema = pq.read_schema(file)
        except pa.ArrowException as error:
            raise ExportError(str(file), f"not a whole Parquet file ({error})") from None
        for side in SIDES:
            _check_messages(file, schema, side)
        if "tools" in schema.names:
            raise ExportError(
                str(file),
                "it has a column tools, which the trainers' rows cannot carry",
                "remove it",
            )
    return Source(folder.resolve().name, folder)


def _check_messages(file: Path, schema: pa.Schema, name: str) -> None:
    kind = schema.field(name).type if name in schema.names else None
    if not _is_messages(kind):
        fault = "no such column" if kind is None else f"got {kind}"
        raise ExportError(
            name,
            fault,
            "expected a list of messages of role and content and nothing beside them",
            str(file),
        )


def _is_messages(kind: pa.DataType | None) -> bool:
    if kind is None or not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    item = kind.value_type
    return pa.types.is_struct(item) and {part.name for part in item} == {"role", "content"}


def open_pairs(source: Source, needs: tuple[str, ...]) -> Views:
    """The rows of a dataset's files, as the view `dataset` (see `only`).

    Raises ExportError where columns are missing, or there is no row to train on.
    """
    files = source.files("train")
    if not files or not any(pq.read_metadata(file).num_rows for file in files):
        raise ExportError(
            str(source.folder),
            "no pairs to train on in it",
            "run `factory status` to see the outcomes of the pairs",
        )
    if "chosen" not in pq.read_schema(files[0]).names:
        raise ExportError(
            str(source.folder),
            "it has prompts with their best answers and no pairs, as a policy that trains by SFT "
            "makes them",
            "expected --to sft, with the recipe",
        )
    if missing := [name for name in needs if name not in pq.read_schema(files[0]).names]:
        raise ExportError(
            str(source.folder),
            f"no column {', '.join(missing)}, which this trainer's rows are made from",
            "expected a dataset as `factory run` writes it",
        )
    views = Views()
    # So that rows pass by in their order, and a join gathers its right side, the ids, and not the
    # texts: DuckDB would choose by its guess of their numbers.
    views.con.execute("set threads = 1")
    views.con.execute("set disabled_optimizers = 'join_order,build_side_probe_side'")
    for split in SPLITS:
        _read(views, f"{split}_rows", source.files(split) or files, empty=not source.files(split))
    return views


def _read(views: Views, name: str, files: list[Path], *, empty: bool) -> None:
    names = ", ".join(literal(file) for file in files)
    limit = " limit 0" if empty else ""
    views.define(name, f"from read_parquet([{names}]){limit}")


def open_best_answers(source: Source) -> Views:
    """The best current answer of each prompt, as the view `dataset` (see `only`).

    Raises ExportError where there is no recipe to say which candidates the lake holds.
    """
    if source.state is None:
        raise ExportError(
            str(source.folder),
            "sft takes the best of all answers, and a dataset has those of its pairs alone",
            "give the recipe, and the lake with --lake",
        )
    views = all_views(source.state)
    views.create_table("best", shipped_queries()["best_of_k"].sql)
    for split in SPLITS:
        views.define(f"{split}_rows", f"from best where split = '{split}'")
    return views


def select_splits(views: Views, *splits: str) -> None:
    """Puts the rows of these splits under the view `dataset`."""
    views.define("dataset", " union all ".join(f"(from {split}_rows)" for split in splits))


def longest(source: Source, views: Views, *, pairs: bool) -> int | None:
    """Tokens of the longest row, as its model's tokenizer counted them; None where it did not."""
    if pairs and "prompt_tokens" not in pq.read_schema(source.files("train")[0]).names:
        return None
    select_splits(views, *SPLITS)
    query = export_query("longest_pair" if pairs else "longest_sample", "checks")
    length: int | None = views.all(query)[0]["longest"]
    return length


def check_pairs(source: Source, views: Views, query: str, spoils: str) -> None:
    """Raises ExportError where there are pairs that the trainer would spoil without an error."""
    select_splits(views, *SPLITS)
    (found,) = views.all(export_query(query, "checks"))
    if found["n"]:
        raise ExportError(
            str(source.folder),
            f"{found['n']:,} pairs {spoils} (one: {found['example'][:40]!r})",
            "export for another trainer, or leave those pairs out",
        )
