"""Compare two sets of final pairs, each from a recipe's lake or from a dataset folder.

The comparison is SQL that reads only Parquet files, so that it needs only DuckDB. A recipe's lake
gives the most detail, because it has all considered pairs and their candidates. A dataset folder
inside its lake gives all considered pairs. Elsewhere it gives only the kept pairs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from factory.errors import Argument, QueryError
from factory.lake import (
    BASE_VIEWS,
    Lake,
    Row,
    Scope,
    Views,
    join_scopes,
    literal,
    load_query,
    read_parquet,
)
from factory.plan import (
    UNREADABLE,
    RecipeState,
    create_macros,
    create_table,
    create_view,
    read_state,
    recipe_inputs,
    steps,
)
from factory.recipe import Recipe

PAIR_COLUMNS = (
    "pair_id, prompt_id, iteration, chosen_id, rejected_id, score_chosen, score_rejected, "
    "chosen_role, rejected_role, chosen_model, rejected_model, judge_model"
)
"""Columns of a pair that the comparison reads, from a lake or a dataset."""

NO_CANDIDATES = """\
select
    null::varchar as source,
    null::int as iteration,
    null::varchar as prompt_id,
    null::varchar as role,
    null::varchar as model,
    null::varchar as sample_id,
    null::double as score,
    null::bool as is_cut_off
where false"""

QUERIES = ("diff_matched", "diff_alone", "diff_sides", "diff")
"""Names of the comparison's queries, in the order in which they run."""


@dataclass(frozen=True)
class PairSet:
    """One side of a comparison: the final pairs of a recipe or a dataset folder.

    The final pairs are the D2 pairs, which train the next model, or the D1 pairs if the loop trains
    no models.
    """

    title: str
    files: tuple[Path, ...]
    """Parquet files with the columns PAIR_COLUMNS."""
    has_outcomes: bool
    """Whether the files are builds, which contain every considered pair with its outcome."""
    candidates: str | None = None
    """SQL statements that create the table `of_recipe` with the candidates for the pairs. None if
    the candidates are unknown."""
    shards: tuple[Path, ...] = ()
    """Files that the statements in `candidates` read."""


@dataclass(frozen=True)
class Diff:
    """The differences between two sets of pairs, A and B."""

    sets: tuple[Row, Row]
    """A summary of A and of B: title, number of kept pairs, number of considered pairs (None if
    unknown), and whether candidates are known."""
    counts: list[Row]
    """Number of pairs by status and reason."""
    examples: list[Row]
    """Pairs that differ: the first pair of every status and reason, then the second, and so on."""


def recipe_pairs(recipe: Recipe, lake: Path, file: Path, overrides: Sequence[str]) -> PairSet:
    """Return a recipe's final pairs from a lake.

    The file and the overrides, from which the recipe was loaded, name the set in the results.
    Raises QueryError if the lake has no final pairs for the recipe.
    """
    if not lake.is_dir():
        raise QueryError(
            Argument("lake"),
            f"the lake {lake} does not exist",
            "choose a lake that `factory run` created",
        )
    state = read_state(recipe, Lake(lake))
    built = [
        step_state
        for step in steps(recipe)
        if step.stage == "pairs" and step.phase == state.policy.final_phase
        if (step_state := state.steps[step]).folder and step_state.folder.shards()
    ]
    title = " ".join([str(file), *overrides])
    if not built:
        raise QueryError(
            Argument("lake"),
            f"the lake in {lake} has no final pairs ({state.policy.final_phase}) for this recipe",
            "run `factory run` first, or give a dataset that `factory pairs` wrote",
            title,
        )
    files = tuple(path for each in built if each.folder for path in each.folder.shards())
    scope = join_scopes(state.phase_scope(each.step) for each in built)
    tables = _tables(state, scope, file)
    shards = tuple(path for paths in tables.values() for path in paths)
    if not all(tables.values()):
        return PairSet(title, files, True)
    return PairSet(title, files, True, _candidates(state, scope, tables), shards)


def dataset_pairs(folder: Path) -> PairSet:
    """Return the pairs of a dataset folder. Raises QueryError if it is not a dataset of pairs."""
    files = sorted(folder.glob("data/*.parquet"))
    if not files:
        raise QueryError(
            str(folder),
            "the folder is not a dataset",
            "give a recipe, or a dataset folder that contains data/*.parquet",
        )
    try:
        schemas = [pq.read_schema(file) for file in files]
    except UNREADABLE as error:
        raise QueryError(
            str(folder),
            f"the dataset cannot be read ({error})",
            "regenerate the dataset, or download it again",
        ) from None
    for file, schema in zip(files, schemas, strict=True):
        if lacks := [name for name in PAIR_COLUMNS.split(", ") if name not in schema.names]:
            raise QueryError(
                str(file),
                f"the dataset has no column {lacks[0]}",
                "give a dataset that `factory run` or `factory pairs` wrote",
            )
    builds = _builds(folder, schemas[0])
    return PairSet(str(folder), tuple(builds or files), bool(builds))


def _builds(folder: Path, schema: pa.Schema) -> list[Path]:
    """Return the Parquet shards of the builds from which a dataset was written.

    Returns an empty list unless the dataset is in its lake and the lake still has all builds.
    """
    keys = json.loads((schema.metadata or {}).get(b"factory.builds", b"[]"))
    lake = Lake(folder.resolve().parent.parent)
    shards = [lake.folder("pairs", key).shards() for key in keys]
    return [file for files in shards for file in files] if all(shards) else []


def _tables(state: RecipeState, scope: Scope, path: Path) -> dict[str, Sequence[Path]]:
    """Return the shards that contain the candidates of a scope, by table.

    Raises QueryError if the prompts have changed since the last run.
    """
    prompts = state.stored.prompts["loop"]
    if isinstance(prompts, pa.Table):
        raise QueryError(
            "prompts.files",
            "the prompts have changed since the last run",
            "run `factory run` first",
            str(path),
        )
    return {"prompts": prompts, **state.stored.shards_of(scope)}


def _candidates(state: RecipeState, scope: Scope, tables: Mapping[str, Sequence[Path]]) -> str:
    """Return the SQL statements that create the table `of_recipe` with the candidates of a
    scope."""
    choice = state.opened.choice
    inputs = {
        **recipe_inputs(state, scope, tables),
        "probe_shards": "from prompts_shards where false",
        "pair_settings": "select "
        + ", ".join(
            f"{literal(choice.parameters[name])} as {name}"
            for name in ("decides", "drop_truncated")
        ),
    }
    stack = {name: load_query(f"lake/{name}").text for name in BASE_VIEWS}
    stack |= {name: choice.queries[name] for name in ("decisions", "measured")}
    stack["diff_candidates"] = load_query("report/diff_candidates").text
    views = "\n".join(create_view(name, text) for name, text in {**inputs, **stack}.items())
    return views + create_table("of_recipe", "from diff_candidates")


def _statements(a: PairSet, b: PairSet) -> str:
    """Return the SQL statements that create the table `diff` with the unsorted rows of the
    comparison."""
    sources = {"A": a, "B": b}
    made = [create_table("offered", NO_CANDIDATES)]
    considered, known = [], []
    for source, pairs in sources.items():
        outcome = "outcome" if pairs.has_outcomes else "'kept' as outcome"
        considered.append(
            f"select '{source}' as source, {outcome}, {PAIR_COLUMNS}\n"
            f"from {read_parquet(pairs.files)}"
        )
        if pairs.candidates:
            columns = "iteration, prompt_id, role, model, sample_id, score, is_cut_off"
            made.append(pairs.candidates)
            made.append(f"insert into offered\nselect '{source}', {columns}\nfrom of_recipe;\n")
        facts = (literal(pairs.has_outcomes), literal(pairs.candidates is not None))
        known.append(f"('{source}', {', '.join(facts)})")
    facts_of = ", ".join(known)
    made += [
        create_table(
            "known", f"from (values {facts_of}) as known (source, has_outcomes, has_candidates)"
        ),
        create_table("considered", "\nunion all\n".join(considered)),
        *(create_table(name, load_query(f"report/{name}").text) for name in QUERIES),
    ]
    return "\n".join([create_macros(), *made])


def script(a: PairSet, b: PairSet) -> str:
    """Return a standalone DuckDB script that prints every row of the comparison.

    Relative paths in the SQL refer to the current folder.
    """
    order = "status, reason, iteration, prompt_id, a_pair_id, b_pair_id"
    return f"{_statements(a, b)}\nfrom diff order by {order};\n"


def compare_pairs(a: PairSet, b: PairSet, limit: int) -> Diff:
    """Return the differences between two sets of pairs, with at most `limit` examples.

    Raises QueryError if a file is damaged.
    """
    with Views() as views:
        try:
            views.con.execute(_statements(a, b))
        except duckdb.Error:
            _check_readable([*a.files, *a.shards, *b.files, *b.shards])
            raise
        views.use_table("diff")
        first, second = _counted(views, a), _counted(views, b)
        return Diff(
            (first, second),
            views.all(load_query("report/diff_counts")),
            views.all(load_query("report/diff_examples"), examples=min(limit, 2**63 - 1)),
        )


def _check_readable(files: Sequence[Path]) -> None:
    """Raise QueryError for the first damaged Parquet file."""
    for file in files:
        try:
            pq.read_table(file)
        except UNREADABLE as error:
            raise QueryError(
                str(file),
                f"the file cannot be read ({str(error).splitlines()[0]})",
                "if the file is in a lake, run `factory verify` to find damaged files, then "
                "`factory run` to regenerate them",
            ) from None


def _counted(views: Views, pairs: PairSet) -> Row:
    kept = "count(*) filter (outcome = 'kept')" if pairs.has_outcomes else "count(*)"
    query = f"select {kept}, count(*) from {read_parquet(pairs.files)}"
    ((n_kept, n_considered),) = views.con.sql(query).fetchall()
    return {
        "pairs": pairs.title,
        "kept": n_kept,
        "considered": n_considered if pairs.has_outcomes else None,
        "has_candidates": pairs.candidates is not None,
    }
