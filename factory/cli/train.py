"""`factory train` and `factory adopt`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from factory.cli.ending import write_rows_before_exit
from factory.cli.options import LAKE, LakePath, Overrides, RecipePath, open_recipe


def train(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="Folder of a dataset or of an export for trl")
    ],
    model: Annotated[str, typer.Option("--model", help="Folder, or repository on the Hub")],
    out: Annotated[Path, typer.Option("--out", help="New or empty folder")],
    overrides: Overrides = None,
) -> None:
    """Train a model on a dataset by DPO with TRL.

    Trains as the loop does, but without the loop. `--set` overrides the seed and the fields of a
    recipe's `train`. Run the same command again to continue from the last checkpoint after an
    interruption.

    Example: factory train lake/datasets/quickstart-1a2b3c4d --model recipes/quickstart/m0 --out
    trained --set train.dpo.learning_rate=1e-5
    """
    from factory.api import open_dataset

    opened = open_dataset(dataset, progress=True)
    write_rows_before_exit()
    print(f"Trained model: {opened.train(model, out, overrides)}")


def adopt(
    recipe: RecipePath,
    model: Annotated[Path, typer.Argument(metavar="FOLDER", help="Model that you trained")],
    iteration: Annotated[
        int, typer.Option("--iteration", min=0, help="Iteration that will use this model")
    ],
    role: Annotated[str, typer.Option("--role", help="future, or current (from iteration 1 on)")],
    lake: LakePath = LAKE,
    overrides: Overrides = None,
) -> None:
    """Add a model that you trained to the loop.

    For recipes with `train.with: manual`. Copies the model into the lake, and the next run
    continues with it. Its architecture, tokenizer, and chat template must match the model that it
    was trained from.

    Example: factory adopt recipe.yaml trained/ --iteration 0 --role future
    """
    digest = open_recipe(recipe, lake, overrides).adopt(model, iteration, role)
    print(f"Added {digest}. Next: factory run {shlex.quote(str(recipe))}")
