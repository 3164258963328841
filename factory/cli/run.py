"""The `factory run` and `factory preview` commands."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from factory.cli.ending import write_rows_before_exit
from factory.cli.options import LAKE, Json, LakePath, Overrides, RecipePath, open_recipe
from factory.cli.tables import Rows, print_result
from factory.texts import display_line, say, say_json


def run(
    recipe: RecipePath,
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Run every unfinished step of a recipe.

    Reuses the rows that are already in the lake. Run the same command again to continue after an
    interruption. When all steps are done, it writes the dataset.

    Example: factory run recipes/quickstart/recipe.yaml --set sampling.draws=4
    """
    opened = open_recipe(recipe, lake, overrides)
    write_rows_before_exit()
    result = opened.run()
    if as_json:
        say_json(result.to_dict())
    else:
        print_result(result)
        print_next_commands(recipe, lake, result.dataset)


def preview(
    recipe: RecipePath,
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    first: Annotated[int, typer.Option("--first", min=1, help="Number of prompts to use")] = 3,
    as_json: Json = False,
) -> None:
    """Sample and judge answers to a few prompts.

    Prints the answers of the base model M_0 with their judgments and scores. Stores the rows in the
    lake, so that a later run reuses them.

    Example: factory preview recipes/quickstart/recipe.yaml --first 2
    """
    opened = open_recipe(recipe, lake, overrides)
    write_rows_before_exit()
    result = opened.preview(first)
    if as_json:
        say_json(result.to_dict())
        return
    print_answers(result.rows)
    for note in result.notes():
        say(f"\n{note}")


def print_next_commands(recipe: Path, lake: Path, dataset: Path) -> None:
    """Print example commands to try after a run."""
    from factory.api import default_lake

    option = "" if lake == default_lake() else f" --lake {shlex.quote(str(lake))}"
    path = shlex.quote(str(recipe))
    factory, python = _find_commands()
    say("\nNext:")
    say(f"  {factory} sql {path}{option} pair_texts --format json")
    say(f"  {factory} status {path}{option}")
    say(f"  {factory} export {path}{option} --to trl --out for-trl")
    say(f"  {factory} publish {path}{option} --repo ORG/NAME --dry-run to-publish")
    say(f"  {python} -c \"import datasets; say(datasets.load_dataset('{dataset}'))\"")


def _find_commands() -> tuple[str, str]:
    """Return the commands that start `factory` and its Python in the user's shell."""
    command = Path(sys.argv[0])
    if command.name != "factory":
        return "factory", "python"
    python = command.with_name("python")
    return (
        "factory" if shutil.which("factory") == str(command) else str(command),
        "python" if shutil.which("python") == str(python) else str(python),
    )


def print_answers(rows: Rows) -> None:
    """Print each prompt with its answers, scores, and judgments."""
    for prompt in dict.fromkeys(row["prompt"] for row in rows):
        say(f"\n{prompt}")
        for row in rows:
            if row["prompt"] == prompt:
                _print_answer(row)


def _print_answer(row: dict[str, Any]) -> None:
    score = "no score" if row["score"] is None else f"{row['score']:.2f}"
    if row["expected_score"] is not None:
        score += f", expected {row['expected_score']:.2f}"
    if row["finish_reason"] == "length":
        score += ", cut off"
    say(f"  {row['role']} {row['draw']}  [{score}]  {row['error'] or row['answer']}")
    texts = [text.strip() for text in row["judgments"] or [] if text]
    ends = [display_line(text.splitlines()[-1]) for text in texts if text]
    say(f"      judgments: {' | '.join(ends)}")
    for reason in dict.fromkeys(row["unscored"] or []):
        say(f"      judgment without a score: {display_line(reason)}")
