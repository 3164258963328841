"""`factory run` and `factory preview`."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.cli.ending import write_rows_before_exit
from factory.cli.loop_tables import print_iterations, print_work
from factory.cli.options import (
    LAKE,
    Json,
    LakePath,
    Overrides,
    RecipePath,
    open_progress,
    open_recipe,
)
from factory.cli.tables import Rows, format_splits, print_json

if TYPE_CHECKING:
    from factory.plan import RecipeState


def run(
    recipe: RecipePath,
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Run every step that is not done

    Rows that are already in the lake are reused. Run the same command again to continue after an
    interruption. When all steps are done, it writes the dataset.

    Example: factory run recipes/quickstart/recipe.yaml --set sampling.draws=4
    """
    from factory.export import write_dataset
    from factory.run import run_recipe

    opened, opened_lake = open_recipe(recipe, lake, overrides)
    write_rows_before_exit()
    state = run_recipe(opened, opened_lake, open_progress())
    dataset = write_dataset(state, opened.name)
    if as_json:
        print_json(_run_result(state, dataset))
    else:
        print_run(state, dataset)
        print_next_commands(recipe, lake, dataset)


def preview(
    recipe: RecipePath,
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    first: Annotated[int, typer.Option("--first", min=1, help="Number of prompts")] = 3,
    as_json: Json = False,
) -> None:
    """Sample and judge a few prompts with M_0

    Prints the answers with their judgments and scores. The rows are saved, so a later run does not
    make them again.

    Example: factory preview recipes/quickstart/recipe.yaml --first 2
    """
    from factory.recipe import JUDGE
    from factory.report import preview_rows
    from factory.run import preview_recipe

    opened, opened_lake = open_recipe(recipe, lake, overrides)
    write_rows_before_exit()
    state = preview_recipe(opened, opened_lake, open_progress(), first)
    rows = preview_rows(state, first)
    if as_json:
        print_json(rows)
        return
    print_preview(rows)
    if rubric := state.opened.rubrics[JUDGE]:
        print(f"\nScale {rubric.scale[0]:g} to {rubric.scale[1]:g}; the rows are in the lake.")


def _run_result(state: "RecipeState", dataset: Path) -> dict[str, Any]:
    from factory.export import dataset_rows
    from factory.report import iterations, work_rows

    return {
        **iterations(state),
        "work": work_rows(state),
        "dataset": str(dataset),
        "rows": dataset_rows(dataset),
    }


def print_run(state: "RecipeState", dataset: Path) -> None:
    """Print the iterations and the work of a run, and the folder of its dataset."""
    from factory.export import dataset_rows
    from factory.report import iterations

    print_iterations(iterations(state))
    print_work(state)
    print(f"\nDataset with {format_splits(dataset_rows(dataset))}: {dataset}")


def print_next_commands(recipe: Path, lake: Path, dataset: Path) -> None:
    """Print commands to try after a run."""
    option = "" if lake == LAKE else f" --lake {shlex.quote(str(lake))}"
    factory, python = _find_commands()
    print("\nNext:")
    print(f"  {factory} preview {recipe}{option} --first 1")
    print(f'  {factory} sql {recipe}{option} "from gaps"')
    print(f"  {factory} status {recipe}{option}")
    print(f"  {python} -c \"import datasets; print(datasets.load_dataset('{dataset}'))\"")


def _find_commands() -> tuple[str, str]:
    """Return how to call this command and its Python from the user's shell."""
    command = Path(sys.argv[0])
    if command.name != "factory" or shutil.which("factory") == str(command):
        return "factory", "python"
    return str(command), str(command.with_name("python"))


def print_preview(rows: Rows) -> None:
    """Print each prompt with its answers, scores, and judgments."""
    for prompt in dict.fromkeys(row["prompt"] for row in rows):
        print(f"\n{prompt}")
        for row in rows:
            if row["prompt"] == prompt:
                _print_answer(row)


def _print_answer(row: dict[str, Any]) -> None:
    score = "no score" if row["score"] is None else f"{row['score']:.2f}"
    print(f"  {row['role']} {row['draw']}  [{score}]  {row['error'] or row['answer']}")
    texts = [text.strip() for text in row["judgments"] or [] if text]
    print("      judged: " + " | ".join(text.splitlines()[-1] for text in texts if text))
    for reason in dict.fromkeys(row["unscored"] or []):
        print(f"      no score from a judgment: {reason}")
