"""The command line: verbs, their help, and errors as sentences. No logic.

Everything heavy is imported inside the verb that needs it.
"""

import json
import signal
import sys
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

try:
    from factory.errors import FactoryError
except ImportError as error:
    raise SystemExit(
        "factory: its files were overwritten by the package factory_boy, which is imported as "
        "`factory` too: install preference-factory in an environment of its own"
    ) from error

if TYPE_CHECKING:
    from factory.lake import Lake
    from factory.progress import Progress
    from factory.recipe import Recipe

app = typer.Typer(
    name="factory",
    help="Turns prompts and a model into preference datasets whose learning signal does not fade.",
    epilog="Begin with: factory run recipes/quickstart/recipe.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.")]
LakePath = Annotated[Path, typer.Option("--lake", help="The folder that holds all tables.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Overrides a field: sampling.draws=4."),
]
Json = Annotated[bool, typer.Option("--json", help="Prints JSON, for programs.")]

LAKE = Path("lake")


@app.command()
def run(
    recipe: RecipePath,
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Runs every step that is not done, and writes the dataset.

    What the lake holds is not made again; a run that was killed goes on when it is run again.

    Example: factory run recipes/quickstart/recipe.yaml --set sampling.draws=4
    """
    from factory.cli import tables as show
    from factory.export import write_dataset
    from factory.run import run_recipe

    opened, held = _open(recipe, lake, overrides)
    _end_gently()
    survey = run_recipe(opened, held, _progress())
    folder = write_dataset(survey, opened.name)
    show.run_end(survey, folder, recipe, lake, as_json=as_json)


@app.command()
def preview(
    recipe: RecipePath,
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    first: Annotated[int, typer.Option("--first", min=1, help="How many prompts.")] = 3,
    as_json: Json = False,
) -> None:
    """Samples and judges the first few prompts with M_0, and shows them.

    The rows are kept: a later run does not ask for them again.

    Example: factory preview recipes/quickstart/recipe.yaml --first 2
    """
    from factory.cli import tables as show
    from factory.run import preview_recipe

    opened, held = _open(recipe, lake, overrides)
    _end_gently()
    survey = preview_recipe(opened, held, _progress(), first)
    show.preview(survey, first, as_json=as_json)


@app.command()
def plan(
    recipe: RecipePath,
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Says what is held, what will run and why, and about how much it is. Changes nothing.

    Example: factory plan recipes/quickstart/recipe.yaml --json
    """
    from factory.cli import tables as show
    from factory.plan import read_state

    opened, held = _open(recipe, lake, overrides)
    show.plan(read_state(opened, held), as_json=as_json)


@app.command()
def pairs(
    recipe: RecipePath,
    name: Annotated[str, typer.Option("--name", help="What the set is called.")],
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Makes another set of pairs from what the lake holds, in seconds and without a model.

    It lies beside the one that the loop trained on. `--set` takes fields of `pairs`,
    loop.policy, and query_memory.

    Example: factory pairs recipes/quickstart/recipe.yaml --name wide --set pairs.min_margin=2
    """
    from factory.cli import tables as show
    from factory.plan import read_state
    from factory.run import builds

    opened, held = _open(recipe, lake, builds.check_changes(overrides or []))
    changed, _ = _open(recipe, lake, overrides)
    _end_gently()
    survey = builds.build(opened, changed, held, name, _progress())
    folder = builds.write_build(survey, name)
    show.build(survey, folder, read_state(changed, held), as_json=as_json)


@app.command("export")
def export_for(
    source: Annotated[
        Path,
        typer.Argument(metavar="RECIPE", help="A recipe that was run, or a dataset's folder."),
    ],
    trainer: Annotated[str, typer.Option("--to", metavar="TRAINER", help="One of those above.")],
    out: Annotated[Path, typer.Option("--out", help="A folder that is new or empty.")],
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Writes the pairs as a trainer reads them, with its config, and says how to start it.

    Trainers: trl, llama-factory, axolotl, openrlhf, ms-swift, torchtune, nemo-rl, unsloth (DPO);
    kto, reward-model and sft (TRL; sft takes the best answer of each prompt, and a recipe); jsonl
    and parquet (the rows with all columns). A dataset's folder is what `factory run` and `factory
    pairs` write. The same export again changes nothing; a file of another's is never overwritten.

    Example: factory export recipes/quickstart/recipe.yaml --to llama-factory --out pairs-lf

    Example: factory export lake/datasets/quickstart-wide-1a2b3c4d --to axolotl --out pairs-axolotl
    """
    from factory.cli import tables as show
    from factory.export import export_dataset, open_dataset, open_recipe_dataset, trainer_of
    from factory.plan import read_state

    trainer_of(trainer)
    if source.is_dir():
        if overrides:
            _fail(2, f"--set {overrides[0]}: {source} is a dataset's folder, and not a recipe")
        opened = open_dataset(source)
    else:
        opened = open_recipe_dataset(read_state(*_open(source, lake, overrides)), source)
    show.exported(export_dataset(opened, trainer, out), as_json=as_json)


@app.command()
def train(
    dataset: Annotated[
        Path,
        typer.Argument(metavar="DATASET", help="A dataset's folder, or one exported for trl."),
    ],
    model: Annotated[str, typer.Option("--model", help="A folder, or a Hub repository.")],
    out: Annotated[Path, typer.Option("--out", help="A folder that is new or empty.")],
    overrides: Overrides = None,
) -> None:
    """Trains a model on a dataset's pairs by DPO with TRL, as the loop does, with no loop.

    `--set` takes the fields of a recipe's `train`, and its seed. Killed and started again, it goes
    on from its last checkpoint.

    Example: factory train lake/datasets/quickstart-1a2b3c4d --model recipes/quickstart/m0 --out
    trained --set train.dpo.learning_rate=1e-5
    """
    from factory.recipe import load_training
    from factory.train import fit_dataset

    training = load_training(model, overrides)
    _end_gently()
    print(f"Trained: {fit_dataset(dataset, training, out, _progress())}")


@app.command()
def adopt(
    recipe: RecipePath,
    model: Annotated[Path, typer.Argument(metavar="FOLDER", help="The model that you trained.")],
    iteration: Annotated[int, typer.Option("--iteration", min=0, help="In which it plays a role.")],
    role: Annotated[str, typer.Option("--role", help="future, or current (from iteration 1 on).")],
    lake: LakePath = LAKE,
    overrides: Overrides = None,
) -> None:
    """Takes a model that you trained by hand into the loop (train.with: hand), which then goes on.

    Its base, shapes, tokenizer and chat template must be those of the model that it was trained
    from; it is copied into the lake.

    Example: factory adopt recipe.yaml trained/ --iteration 0 --role future
    """
    from factory.train import adopt_model as take

    opened, held = _open(recipe, lake, overrides)
    digest = take(opened, held, model, iteration, role, _progress())
    print(f"Adopted: {digest}. Next: factory run {recipe}")


@app.command()
def status(
    recipe: RecipePath,
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Says what each step has made so far, and what came of the iterations.

    Example: factory status recipes/quickstart/recipe.yaml
    """
    from factory.cli import tables as show
    from factory.plan import read_state

    opened, held = _open(recipe, lake, overrides)
    show.status(read_state(opened, held), as_json=as_json)


@app.command()
def sql(
    recipe: RecipePath,
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="QUERY", help="One query that reads, or the name of one that ships."
        ),
    ] = None,
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    output: Annotated[
        str, typer.Option("--format", help="table, csv, json, or parquet (to standard output).")
    ] = "table",
    listed: Annotated[
        bool, typer.Option("--list", help="Names the queries that ship, and what each shows.")
    ] = False,
) -> None:
    """Runs a query on what the lake holds of a recipe.

    Views: prompts, samples, judgments, verdicts, scores, pairs, models, roles, panel (who judged
    what), judges, judge_scores, candidates (samples with their roles and scores) and gaps (the
    score gap per iteration and phase). Without a query it is a prompt, or reads queries from
    standard input.

    Example: factory sql recipes/quickstart/recipe.yaml score_gap
    """
    from factory.cli import console
    from factory.cli import tables as show
    from factory.lake import query_text
    from factory.plan import PUBLIC_VIEWS, all_views, read_state

    if output not in show.FORMATS:
        _fail(2, f"--format {output}: expected one of {', '.join(show.FORMATS)}")
    if listed:
        show.list_queries(output)
        return
    text = None if query is None else query_text(query, PUBLIC_VIEWS)
    views = all_views(read_state(*_open(recipe, lake, overrides)))
    if text is None:
        console.start(views, output)
    else:
        show.answer(views, text, output)


@app.command()
def publish(
    recipe: RecipePath,
    repository: Annotated[
        str, typer.Option("--repo", metavar="ORG/NAME", help="The dataset repository on the Hub.")
    ],
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    public: Annotated[
        bool, typer.Option("--public", help="A new repository is public, and not private.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="BRANCH", help="Another branch than main.")
    ] = None,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Opens a pull request instead of a commit.")
    ] = False,
    tag: Annotated[str | None, typer.Option("--tag", help="Names the commit.")] = None,
    dry_run: Annotated[
        Path | None,
        typer.Option("--dry-run", metavar="DIR", help="Writes the folder and sends nothing."),
    ] = None,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            "--evaluation", metavar="FILE", help="A file of texts that no prompt may share."
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="NAME", help="A check that may find what it looks for."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Publishes the dataset on the Hub: pairs, candidates, judgments and card, as one commit.

    Looks first for what should not be published, and stops where it finds it. Where nothing has
    changed, there is no commit; where a push was interrupted, the same command ends it.

    Example: factory publish recipes/quickstart/recipe.yaml --repo ORG/NAME --dry-run pairs
    """
    from factory.cli import tables as show
    from factory.plan import read_state
    from factory.publish import PublishOptions, push_dataset, write_dry_run

    asked = PublishOptions(
        repository, public, revision, create_pr, tag, tuple(allow or ()), tuple(evaluation or ())
    )
    opened, held = _open(recipe, lake, overrides)
    _end_gently()
    survey = read_state(opened, held)
    if dry_run is not None:
        show.dry_run(write_dry_run(survey, asked, dry_run, _progress()), dry_run, as_json=as_json)
    else:
        show.published(push_dataset(survey, asked, _progress()), as_json=as_json)


@app.command()
def trace(
    pair_id: Annotated[str, typer.Argument(metavar="PAIR_ID", help="The id of a pair.")],
    lake: LakePath = LAKE,
    dataset: Annotated[
        Path | None, typer.Option("--dataset", help="A dataset's folder, where there is no lake.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Says how a pair came about: its prompt, samples, raw judgments, scores, policy and models.

    Example: factory trace 41b6e2a09c5d7f83e1a2b3c4 --lake lake
    """
    from factory.cli import tables as show
    from factory.report import trace_dataset, trace_lake

    if dataset is not None:
        show.traced_row(trace_dataset(dataset, pair_id), as_json=as_json)
        return
    show.traced(trace_lake(_held(lake), pair_id), as_json=as_json)


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A recipe, or a dataset's folder.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="What it is compared with.")],
    lake: LakePath = LAKE,
    lake_b: Annotated[
        Path | None, typer.Option("--lake-b", help="The lake of B, where it is another.")
    ] = None,
    set_a: Annotated[
        list[str] | None,
        typer.Option("--set-a", metavar="FIELD=VALUE", help="Overrides a field of A."),
    ] = None,
    set_b: Annotated[
        list[str] | None,
        typer.Option("--set-b", metavar="FIELD=VALUE", help="Overrides a field of B."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="How many examples.")] = 10,
    as_sql: Annotated[
        bool, typer.Option("--sql", help="Prints SQL that gives all rows in plain DuckDB.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compares the final pairs of two recipes or datasets: gained, lost, flipped, changed, and why.

    A set that `factory pairs` made is named by the folder of its dataset. Reasons need the lake:
    of recipes it has the candidates too, of a dataset that lies in it the outcomes.

    Example: factory diff recipes/quickstart/recipe.yaml lake/datasets/quickstart-wide-5ac81f0e
    """
    from factory.cli import tables as show
    from factory.report import compare_pairs as compare
    from factory.report import pair_set, script

    a = pair_set(first, lake, set_a or [])
    b = pair_set(second, lake_b or lake, set_b or [])
    if as_sql:
        show.script(script(a, b), as_json=as_json)
        return
    show.diff(compare(a, b, limit), as_json=as_json)


@app.command()
def verify(lake: LakePath = LAKE, as_json: Json = False) -> None:
    """Checks every shard's hash, schema and ids, and every trained model.

    Prints the names of the files that are not as they were written, and ends with code 1.

    Example: factory verify --lake lake
    """
    from factory.cli import tables as show
    from factory.lake import verify_lake

    if not show.verified(verify_lake(_held(lake)), as_json=as_json):
        raise typer.Exit(1)


@app.command()
def doctor(
    recipe: RecipePath,
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Says whether this machine can run a recipe, and what to do where it cannot.

    Looks at packages, GPUs, memory, disk and keys; loads no model and changes nothing. Ends with
    code 1 where something would stop a run.

    Example: factory doctor recipes/quickstart/recipe.yaml
    """
    from factory.cli import tables as show
    from factory.plan.doctor import examine

    opened, held = _open(recipe, lake, overrides)
    if not show.doctor(examine(opened, held.root), as_json=as_json):
        raise typer.Exit(1)


def _open(path: Path, lake: Path, overrides: list[str] | None) -> "tuple[Recipe, Lake]":
    from factory.lake import Lake
    from factory.recipe import load_recipe

    return load_recipe(path, overrides), Lake(lake)


def _held(lake: Path) -> "Lake":
    """A lake that is there already."""
    from factory.lake import Lake

    if not lake.is_dir():
        _fail(2, f"{lake}: no such lake; expected the folder that `factory run` writes")
    return Lake(lake)


def _progress() -> "Progress":
    from factory.progress import Bars, Lines

    return Bars() if sys.stderr.isatty() else Lines()


class _Interrupted(BaseException):
    """Ctrl-C or a termination; not KeyboardInterrupt, which typer turns into a bare exit."""


_stopping = Event()
"""Set once the person, or the system, asked for the end: a library in whose midst the exception
came up may turn it into an error of its own."""


def _end_gently() -> None:
    """On Ctrl-C or a termination, finished rows are written before the process ends."""

    def interrupt(*_: Any) -> NoReturn:
        _stopping.set()
        raise _Interrupted

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)


def _fail(code: int, message: str, *, as_json: bool = False) -> NoReturn:
    if as_json:
        print(json.dumps({"error": message, "exit_code": code}))
    print(f"factory: {message}", file=sys.stderr)
    sys.exit(code)


def _warn_of_factory_boy() -> None:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        distribution("factory_boy")
    except PackageNotFoundError:
        return
    print(
        "factory: factory_boy is installed here too, and is imported as `factory` as this is: "
        "one of the two is broken; install preference-factory in an environment of its own",
        file=sys.stderr,
    )


def main() -> None:
    """The `factory` command."""
    _warn_of_factory_boy()
    try:
        app()
    except BaseException as error:
        if _stopping.is_set():
            _fail(130, "interrupted; what was finished is kept, run the same command to go on")
        if isinstance(error, FactoryError):
            _fail(error.exit_code, str(error), as_json="--json" in sys.argv)
        raise
