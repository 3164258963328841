"""`factory train` and `factory adopt`."""

from pathlib import Path
from typing import Annotated

import typer

from factory.cli.ending import write_rows_before_exit
from factory.cli.options import LAKE, LakePath, Overrides, RecipePath, open_progress, open_recipe


def train(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="Folder of a dataset or of an export for trl")
    ],
    model: Annotated[str, typer.Option("--model", help="Folder, or repository on the Hub")],
    out: Annotated[Path, typer.Option("--out", help="New or empty folder")],
    overrides: Overrides = None,
) -> None:
    """Train a model on a dataset by DPO with TRL

    Trains as the loop does, but without the loop. `--set` takes the fields of a recipe's `train`,
    and its seed. Run the same command again to continue from the last checkpoint after an
    interruption.

    Example: factory train lake/datasets/quickstart-1a2b3c4d --model recipes/quickstart/m0 --out
    trained --set train.dpo.learning_rate=1e-5
    """
    from factory.recipe import load_training
    from factory.train import fit_dataset

    recipe = load_training(model, overrides)
    write_rows_before_exit()
    print(f"Trained: {fit_dataset(dataset, recipe, out, open_progress())}")


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
    """Add a model that you trained to the loop

    For recipes that leave the training to you: the next run continues with the model. The model is
    copied into the lake. Its base, shapes, tokenizer, and chat template must match those of the
    model that it was trained from.

    Example: factory adopt recipe.yaml trained/ --iteration 0 --role future
    """
    from factory.train import adopt_model

    opened, opened_lake = open_recipe(recipe, lake, overrides)
    digest = adopt_model(opened, opened_lake, model, iteration, role, open_progress())
    print(f"Adopted: {digest}. Next: factory run {recipe}")
