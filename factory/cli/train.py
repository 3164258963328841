"""The `factory train` and `factory adopt` commands."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from factory.cli.ending import write_rows_before_exit
from factory.cli.options import LAKE, LakePath, Overrides, RecipePath, open_recipe
from factory.texts import say


def train(
    dataset: Annotated[
        Path,
        typer.Argument(
            metavar="DATASET", help="Dataset folder, or a folder exported with --to trl"
        ),
    ],
    model: Annotated[
        str, typer.Option("--model", help="Model to train (folder or Hub repository)")
    ],
    out: Annotated[Path, typer.Option("--out", help="New or empty folder for the model")],
    overrides: Overrides = None,
) -> None:
    """Train a model with DPO on a dataset.

    Trains with TRL, but does not add the model to a loop. `--set` overrides `seed` and the fields
    of a recipe's `train` section. After an interruption, run the same command again to continue
    from the last checkpoint.

    Example: factory train lake/datasets/quickstart-1a2b3c4d --model recipes/quickstart/m0 --out
    trained --set train.dpo.learning_rate=1e-5
    """
    from factory.api import open_dataset

    opened = open_dataset(dataset, progress=True)
    write_rows_before_exit()
    say(f"Trained model: {opened.train(model, out, overrides)}")


def adopt(
    recipe: RecipePath,
    model: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the trained model")],
    iteration: Annotated[
        int, typer.Option("--iteration", min=0, help="Iteration that will use this model")
    ],
    role: Annotated[
        str,
        typer.Option("--role", help="Role of the model: future, or current from iteration 1 on"),
    ],
    lake: LakePath = LAKE,
    overrides: Overrides = None,
) -> None:
    """Add your own trained model to the loop.

    Use this command if the recipe has `train.with: manual`. It copies the model into the lake, and
    the next run continues with this model. The architecture, the tokenizer, and the chat template
    must match those of the model that you started the training from.

    Example: factory adopt recipe.yaml trained/ --iteration 0 --role future
    """
    digest = open_recipe(recipe, lake, overrides).adopt(model, iteration, role)
    say(f"Added {digest}. Next: factory run {shlex.quote(str(recipe))}")
