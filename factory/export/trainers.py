"""Trainers, and what each is given: rows of a shape, and the config that reads them.

A shape is a query over `dataset`, one file each in `shapes/`; several trainers share one. What a
trainer reads beside the data is a text in `snippets/<name>/`, which says for which version it was
checked. Its paths are relative to the folder, so that the folder can be moved to where it is
trained.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Literal

from factory.errors import ExportError
from factory.lake import Views


@dataclass(frozen=True)
class Trainer:
    """What is written for one name of `factory export --to`."""

    shape: str
    """A file of `shapes/`."""
    command: str
    """Starts the training, from the folder; MODEL stands for the model to train."""
    needs: tuple[str, ...] = ()
    """Columns of the dataset, beside prompt, chosen and rejected, that the shape reads."""
    data: Literal["parquet", "jsonl"] = "parquet"
    """Parquet wherever the trainer reads it: from JSON lines `datasets` guesses types, and takes
    texts that are all dates for dates."""
    check: str = ""
    """A file of `checks/` that finds pairs which the trainer would spoil without an error."""
    spoils: str = ""
    """What that is, and what the trainer does with them."""


_LOAD = "python -c 'import datasets; print(datasets.load_dataset(\"data\"))'"

_SIDES = ("pair_id", "iteration", "chosen_id", "rejected_id")

TRAINERS: dict[str, Trainer] = {
    "trl": Trainer("canonical", "trl dpo --config dpo.yaml --model_name_or_path MODEL"),
    "llama-factory": Trainer(
        "sharegpt",
        "llamafactory-cli train dpo.yaml model_name_or_path=MODEL",
        check="not_alternating",
        spoils="have prompts that are not user and assistant in turn, and LLaMA-Factory drops them",
    ),
    "axolotl": Trainer(
        "canonical",
        "axolotl train dpo.yaml --base-model MODEL",
        check="in_placeholder",
        spoils="have an answer that is a part of [[dummy_message]], and Axolotl, which finds "
        "answers by their text, would train on that instead",
    ),
    "openrlhf": Trainer("canonical", "bash dpo.sh MODEL"),
    "ms-swift": Trainer("rejected_response", "swift rlhf dpo.yaml --model MODEL"),
    "torchtune": Trainer(
        "conversations",
        "tune run lora_dpo_single_device --config CONFIG "
        "dataset._component_=torchtune.datasets.preference_dataset dataset.source=parquet "
        "dataset.data_files=data/train.parquet dataset.split=train",
    ),
    "nemo-rl": Trainer("ranked", "bash dpo.sh NEMO_RL MODEL", data="jsonl"),
    "unsloth": Trainer("canonical", "python dpo.py MODEL"),
    "kto": Trainer(
        "labelled", "trl kto --config kto.yaml --model_name_or_path MODEL", needs=_SIDES
    ),
    "reward-model": Trainer(
        "margin", "trl reward --config reward.yaml --model_name_or_path MODEL", needs=("margin",)
    ),
    "sft": Trainer("best", "trl sft --config sft.yaml --model_name_or_path MODEL"),
    "jsonl": Trainer("all_columns", _LOAD, data="jsonl"),
    "parquet": Trainer("all_columns", _LOAD),
}


def trainer_of(name: str) -> Trainer:
    """The trainer of a name. Raises ExportError for one that is not known."""
    if name in TRAINERS:
        return TRAINERS[name]
    close = get_close_matches(name.lower().replace("_", "-"), TRAINERS, n=1, cutoff=0.5)
    meant = f"did you mean {close[0]}? " if close else ""
    raise ExportError("--to", f"got {name}", f"{meant}expected one of {', '.join(TRAINERS)}")


@cache
def export_query(name: str, folder: str = "shapes") -> str:
    """The text of a query of this package."""
    return (resources.files("factory.export") / folder / f"{name}.sql").read_text(encoding="utf-8")


def more_than_bare(views: Views) -> str:
    """What the prompts of a recipe's pairs have that rows of bare messages cannot carry, counted;
    empty where that is nothing."""
    (counts,) = views.all(export_query("more_than_bare", "checks"))
    names = {"tools": "tools", "tool_calls": "tool calls", "reasoning": "reasoning in a message"}
    return ", ".join(f"{counts[key]:,} with {name}" for key, name in names.items() if counts[key])


def snippets(name: str) -> dict[str, str]:
    """The texts of a trainer's snippets (Jinja), by file name; empty where it needs none."""
    folder = resources.files("factory.export") / "snippets" / name
    files = [file for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
    return {
        file.name.removesuffix(".jinja"): file.read_text(encoding="utf-8")
        for file in sorted(files, key=lambda file: file.name)
    }
