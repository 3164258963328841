"""`factory export`."""

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.cli.options import LAKE, Json, LakePath, Overrides, open_recipe
from factory.cli.tables import format_splits, print_json
from factory.errors import ExportError

if TYPE_CHECKING:
    from factory.export import Exported


def export(
    source: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="Recipe that was run, or folder of a dataset")
    ],
    trainer: Annotated[
        str, typer.Option("--to", metavar="TRAINER", help="Target trainer, one of those above")
    ],
    out: Annotated[Path, typer.Option("--out", help="New or empty folder")],
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Write the pairs in the format of a trainer

    Writes a config next to them, and prints the command that starts the training.

    Trainers: trl, llama-factory, axolotl, openrlhf, ms-swift, torchtune, nemo-rl, unsloth (DPO);
    kto, reward-model, and sft (TRL; sft takes the best answer of each prompt, and a recipe); jsonl
    and parquet (the rows with all columns). `factory run` and `factory pairs` write datasets. The
    same export again changes nothing. It never overwrites a file that it did not write.

    Example: factory export recipes/quickstart/recipe.yaml --to llama-factory --out pairs-lf

    Example: factory export lake/datasets/quickstart-wide-1a2b3c4d --to axolotl --out pairs-axolotl
    """
    from factory.export import export_dataset, open_dataset, open_recipe_dataset, trainer_of
    from factory.plan import read_state

    trainer_of(trainer)
    if source.is_dir():
        if overrides:
            raise ExportError(
                f"--set {overrides[0]}",
                f"{source} is a dataset's folder, and not a recipe",
                "leave out --set, or name the recipe",
            )
        opened = open_dataset(source)
    else:
        opened = open_recipe_dataset(read_state(*open_recipe(source, lake, overrides)), source)
    exported = export_dataset(opened, trainer, out)
    if as_json:
        print_json({**dataclasses.asdict(exported), "out": str(exported.out)})
    else:
        print_export(exported)


def print_export(exported: "Exported") -> None:
    """Print what was written for a trainer, and the command that starts it."""
    if exported.left_out:
        print(f"Left out, since their pairs do not exist yet: {', '.join(exported.left_out)}")
    print(f"Written for {exported.trainer}, {format_splits(exported.rows)}: {exported.out}")
    print(f"\nNext:\n  cd {shlex.quote(str(exported.out))} && {exported.command}")
