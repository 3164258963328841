"""The `factory export` command."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.cli.options import LAKE, Json, LakePath, Overrides, open_recipe
from factory.errors import ExportError
from factory.texts import say, say_json

if TYPE_CHECKING:
    from factory.results import Export


def export(
    source: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="Recipe that you have run, or a dataset folder")
    ],
    trainer: Annotated[
        str,
        typer.Option(
            "--to", metavar="TRAINER", help="Trainer that will read the pairs, such as trl"
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="New or empty folder to write to")],
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Write pairs in the format a trainer expects.

    Writes a config next to the pairs, and prints the command that starts the training. Never
    overwrites a file that it did not write.

    Trainers: trl, llama-factory, axolotl, openrlhf, ms-swift, torchtune, nemo-rl, and unsloth for
    DPO; kto, reward-model, and sft for TRL's other trainers; jsonl and parquet for all columns.
    sft exports the best answer to each prompt, and works only with a recipe.

    Example: factory export recipes/quickstart/recipe.yaml --to llama-factory --out pairs-lf

    Example: factory export lake/datasets/quickstart-wide-1a2b3c4d --to axolotl --out pairs-axolotl
    """
    if not source.is_dir():
        result = open_recipe(source, lake, overrides).export(trainer, out)
    elif overrides:
        raise ExportError(
            f"--set {overrides[0]}",
            f"{source} is a dataset folder, but overrides apply only to a recipe",
            "give a recipe, or remove --set",
        )
    else:
        from factory.api import open_dataset

        result = open_dataset(source).export(trainer, out)
    say_json(result.to_dict()) if as_json else print_export(result)


def print_export(result: "Export") -> None:
    """Print where the exported files are, and which command starts the training."""
    from factory.report import format_splits

    if result.left_out:
        say(f"Left out, because their pairs do not exist yet: {', '.join(result.left_out)}")
    if n := result.n_contradicting:
        say(f"Left out, because another pair of the same prompt prefers the other answer: {n:,}")
    say(f"Written for {result.trainer}, {format_splits(result.n_rows)}: {result.out}")
    say(f"\nNext:\n  cd {shlex.quote(str(result.out))} && {result.command}")
