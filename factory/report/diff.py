"""How two sets of published pairs differ, and why: of recipes in their lakes, or of datasets.

All of it is SQL that reads Parquet files and nothing else, so that a person can run it elsewhere.
A recipe's lake says most: which pairs were considered, and from which candidates. A dataset that
lies in its lake says which were considered; elsewhere it has the kept pairs alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from factory.errors import QueryError
from factory.lake import BASE_VIEWS, MACROS, TABLES, Lake, Row, Scope, Views, join_scopes, sql_text
from factory.pairs import SECOND, choice_views
from factory.plan import UNREADABLE, RecipeState, read_state, steps
from factory.recipe import load_recipe

PAIR_COLUMNS = (
    "pair_id, prompt_id, iteration, chosen_id, rejected_id, score_chosen, score_rejected, "
    "chosen_role, rejected_role, chosen_model, rejected_model, judge_model"
)
"""What is read of a pair, from the lake as from a dataset."""

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
"""The named queries over what is read, in their order."""

STACK = (*BASE_VIEWS, "measured", "diff_candidates")
"""The named queries between a lake's shards and the candidates of one recipe."""


@dataclass(frozen=True)
class PairSet:
    """The published pairs of a recipe, or of a dataset."""

    title: str
    files: tuple[Path, ...]
    """Parquet files with PAIR_COLUMNS."""
    has_outcomes: bool
    """Whether the files are builds: all that was considered, with its outcome."""
    candidates: str | None = None
    """Statements that make the table `of_recipe`: what they were chosen from."""
    shards: tuple[Path, ...] = ()
    """The files that these statements read."""


@dataclass(frozen=True)
class Diff:
    sets: tuple[Row, Row]
    """Of A and B: title, how many pairs they kept and considered (None where that is unknown),
    whether candidates are known."""
    counts: list[Row]
    """By status and reason."""
    examples: list[Row]
    """Of all but the same pairs: the first of every reason, then the second, …"""


def pair_set(path: Path, lake: Path, overrides: Sequence[str]) -> PairSet:
    """The pairs of a recipe in a lake, or of a dataset's folder.

    Raises QueryError where there are none, and where fields of a dataset are to be overridden.
    """
    if not path.is_dir():
        return _of_recipe(path, lake, overrides)
    if overrides:
        raise QueryError(
            str(path),
            f"a dataset has no fields to override with {overrides[0]}",
            "give a recipe, or leave the override out",
        )
    return _of_dataset(path)


def _of_recipe(path: Path, lake: Path, overrides: Sequence[str]) -> PairSet:
    recipe = load_recipe(path, list(overrides))
    if not lake.is_dir():
        raise QueryError(
            "--lake", f"no such lake {lake}", "expected the folder that `factory run` writes"
        )
    state = read_state(recipe, Lake(lake))
    built = [
        step_state
        for step in steps(recipe)
        if step.stage == "pairs" and step.phase == SECOND
        if (step_state := state.found[step]).folder and step_state.folder.shards()
    ]
    title = " ".join([str(path), *overrides])
    if not built:
        raise QueryError(
            "--lake",
            f"{lake} holds no final pairs (D2) of this recipe",
            "run it first, or give the folder of a dataset that `factory pairs` made",
            title,
        )
    files = tuple(file for each in built if each.folder for file in each.folder.shards())
    scope = join_scopes(state.phase_scope(each.step) for each in built)
    tables = _tables(state, scope, path)
    shards = tuple(file for files in tables.values() for file in files)
    if not all(tables.values()):
        return PairSet(title, files, True)
    return PairSet(title, files, True, _candidates(state, scope, tables), shards)


def _of_dataset(folder: Path) -> PairSet:
    files = sorted(folder.glob("data/*.parquet"))
    if not files:
        raise QueryError(
            str(folder),
            "not a dataset",
            "expected a recipe, or the folder of a dataset that has pairs (data/*.parquet)",
        )
    try:
        schemas = [pq.read_schema(file) for file in files]
    except UNREADABLE as error:
        raise QueryError(str(folder), f"not a dataset that can be read: {error}") from None
    for file, schema in zip(files, schemas, strict=True):
        if lacks := [name for name in PAIR_COLUMNS.split(", ") if name not in schema.names]:
            raise QueryError(
                str(file),
                f"it has no column {lacks[0]}",
                "expected a dataset that `factory run` or `factory pairs` wrote",
            )
    builds = _builds(folder, schemas[0])
    return PairSet(str(folder), tuple(builds or files), bool(builds))


def _builds(folder: Path, schema: pa.Schema) -> list[Path]:
    """The shards of the builds that a dataset was written from, where it still lies in its lake
    and the lake has them all."""
    keys = json.loads((schema.metadata or {}).get(b"factory.builds", b"[]"))
    lake = Lake(folder.resolve().parent.parent)
    shards = [lake.folder("pairs", key).shards() for key in keys]
    return [file for files in shards for file in files] if all(shards) else []


def _tables(state: RecipeState, scope: Scope, path: Path) -> dict[str, Sequence[Path]]:
    """The shards that the candidates of a scope come from, by table.

    Raises QueryError where the prompts changed, so that the lake has not all of them.
    """
    prompts = state.holdings.prompts["loop"]
    if isinstance(prompts, pa.Table):
        raise QueryError(
            "prompts.files",
            "the prompts changed since the last run",
            "run the recipe again first",
            str(path),
        )
    return {"prompts": prompts, **state.holdings.shards_of(scope)}


def _candidates(state: RecipeState, scope: Scope, tables: Mapping[str, Sequence[Path]]) -> str:
    """The statements that make `of_recipe`, the candidates that a scope has."""
    spec, recipe = state.recipe.pairs, state.recipe
    inputs = {
        "roles": _values("roles", scope.roles),
        "panel": _values("panel", scope.panel),
        "recipe_settings": f"select {recipe.loop.n_chunks} as chunks, "
        f"{recipe.prompts.test_fraction}::double as test_fraction",
        "pair_settings": f"select {_literal(spec.score)} as decides, "
        f"{_literal(spec.drop_truncated)} as drop_truncated",
        **{
            f"{table}_shards": _read(files, more="filename = true, file_row_number = true")
            for table, files in tables.items()
            if table != "prompts"
        },
        "prompts_shards": _read(tables["prompts"], more="filename = true"),
        "probe_shards": "from prompts_shards where false",
    }
    stack = {name: sql_text(name) for name in STACK}
    stack["measured"] = choice_views(recipe, sql_text)["measured"]
    views = "\n".join(_view(name, text) for name, text in {**inputs, **stack}.items())
    return views + _table("of_recipe", "from diff_candidates")


def _values(table: str, rows: Sequence[Row]) -> str:
    """Rows of a table as a query, with the types of its columns."""
    columns = TABLES[table].names
    listed = ",\n    ".join(
        "(" + ", ".join(_literal(row.get(name)) for name in columns) + ")" for row in rows
    )
    typed = ", ".join(
        f"{field.name}::{'int' if pa.types.is_integer(field.type) else 'varchar'} as {field.name}"
        for field in TABLES[table]
    )
    return f"select {typed} from (values\n    {listed}\n) as {table} ({', '.join(columns)})"


def _literal(value: str | int | None) -> str:
    if value is None:
        return "null"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value).lower()


def _read(files: Sequence[Path], more: str = "") -> str:
    listed = ",\n    ".join(_literal(str(file)) for file in files)
    return f"from read_parquet([\n    {listed}\n]{more and ', ' + more})"


def _view(name: str, text: str) -> str:
    return f"create or replace temp view {name} as\n{text.rstrip()};\n"


def _table(name: str, text: str) -> str:
    return f"create or replace temp table {name} as\n{text.rstrip()};\n"


def _statements(a: PairSet, b: PairSet) -> str:
    """What makes the table `diff`: all rows of the comparison, with no order."""
    sources = {"A": a, "B": b}
    made = [_table("offered", NO_CANDIDATES)]
    considered, known = [], []
    for source, pairs in sources.items():
        outcome = "outcome" if pairs.has_outcomes else "'kept' as outcome"
        considered.append(
            f"select '{source}' as source, {outcome}, {PAIR_COLUMNS}\n{_read(pairs.files)}"
        )
        if pairs.candidates:
            columns = "iteration, prompt_id, role, model, sample_id, score, is_cut_off"
            made.append(pairs.candidates)
            made.append(f"insert into offered\nselect '{source}', {columns}\nfrom of_recipe;\n")
        facts = (_literal(pairs.has_outcomes), _literal(pairs.candidates is not None))
        known.append(f"('{source}', {', '.join(facts)})")
    facts_of = ", ".join(known)
    made += [
        _table(
            "known", f"from (values {facts_of}) as known (source, has_outcomes, has_candidates)"
        ),
        _table("considered", "\nunion all\n".join(considered)),
        *(_table(name, sql_text(name)) for name in QUERIES),
    ]
    macros = "".join(map(sql_text, MACROS)).replace("create macro", "create or replace temp macro")
    return "\n".join([macros, *made])


def script(a: PairSet, b: PairSet) -> str:
    """SQL that gives every row of the comparison in plain DuckDB, run in the same folder."""
    order = "status, reason, iteration, prompt_id, a_pair_id, b_pair_id"
    return f"{_statements(a, b)}\nfrom diff order by {order};\n"


def compare_pairs(a: PairSet, b: PairSet, limit: int) -> Diff:
    """The comparison, with at most `limit` examples. Raises QueryError where a file is broken."""
    with Views() as views:
        try:
            views.con.execute(_statements(a, b))
        except duckdb.Error:
            _check_readable([*a.files, *a.shards, *b.files, *b.shards])
            raise
        first, second = _counted(views, a), _counted(views, b)
        views.setting("examples_settings", {"examples": limit})
        return Diff((first, second), views.all("diff_counts"), views.all("diff_examples"))


def _check_readable(files: Sequence[Path]) -> None:
    """Raises QueryError for the first file whose content is broken."""
    for file in files:
        try:
            pq.read_table(file)
        except UNREADABLE as error:
            raise QueryError(
                str(file),
                f"cannot be read ({str(error).splitlines()[0]})",
                "in a lake, `factory verify` names what is broken, and `factory run` makes it "
                "again",
            ) from None


def _counted(views: Views, pairs: PairSet) -> Row:
    kept = "count(*) filter (outcome = 'kept')" if pairs.has_outcomes else "count(*)"
    query = f"select {kept}, count(*) {_read(pairs.files)}"
    ((n_kept, n_considered),) = views.con.sql(query).fetchall()
    return {
        "pairs": pairs.title,
        "kept": n_kept,
        "considered": n_considered if pairs.has_outcomes else None,
        "has_candidates": pairs.candidates is not None,
    }
