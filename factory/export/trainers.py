"""The trainers that `factory export` supports, with their row formats and config files.

A shape is a query over the view `dataset`, in a file of `shapes/`; trainers may share a shape. The
config files of a trainer are templates in `snippets/<name>/`, and name the version of the trainer
with which they were checked. Paths in configs are relative, so that an exported folder can be moved
to another machine.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Literal

from factory.errors import Argument, ExportError
from factory.lake import PromptFields

_NONE, _ALL = PromptFields(), PromptFields(messages=True, tools=True, settings=True)


@dataclass(frozen=True)
class Trainer:
    """The export format of one trainer, selected with `factory export --to`."""

    shape: str
    """Name of the file in `shapes/` with the query for the rows."""
    command: str
    """Shell command that starts training in the exported folder. MODEL stands for the model."""
    needs: tuple[str, ...] = ()
    """Columns of the dataset that the shape reads besides prompt, chosen, and rejected."""
    data: Literal["parquet", "jsonl"] = "parquet"
    """File format of the rows. Parquet is used wherever the trainer can read it, because `datasets`
    guesses the types in JSON lines and may parse texts as dates."""
    check: str = ""
    """Name of the file in `checks/` with a query for pairs that the trainer would silently
    misread."""
    spoils: str = ""
    """The problem with the pairs that `check` finds, worded as the end of a sentence: "3 pairs
    …"."""
    reads: PromptFields = _NONE
    """The fields of prompts, beyond role and content, that the trainer passes to the chat
    template."""


_LOAD = "python -c 'import datasets; print(datasets.load_dataset(\"data\"))'"

_SIDES = ("pair_id", "iteration", "chosen_id", "rejected_id")

TRAINERS: dict[str, Trainer] = {
    "trl": Trainer("canonical", "trl dpo --config dpo.yaml --model_name_or_path MODEL", reads=_ALL),
    "llama-factory": Trainer(
        "sharegpt",
        "llamafactory-cli train dpo.yaml model_name_or_path=MODEL",
        check="not_alternating",
        spoils="have prompts that do not alternate between user and assistant, so LLaMA-Factory "
        "would drop them",
    ),
    "axolotl": Trainer(
        "canonical",
        "axolotl train dpo.yaml --base-model MODEL",
        check="in_placeholder",
        spoils="have an answer that is part of Axolotl's placeholder [[dummy_message]], so Axolotl "
        "would train on the placeholder",
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
    "unsloth": Trainer("canonical", "python dpo.py MODEL", reads=_ALL),
    "kto": Trainer(
        "labelled", "trl kto --config kto.yaml --model_name_or_path MODEL", needs=_SIDES, reads=_ALL
    ),
    "reward-model": Trainer(
        "margin",
        "trl reward --config reward.yaml --model_name_or_path MODEL",
        needs=("margin",),
        reads=_ALL,
    ),
    "sft": Trainer("best", "trl sft --config sft.yaml --model_name_or_path MODEL", reads=_ALL),
    "jsonl": Trainer("all_columns", _LOAD, data="jsonl", reads=_ALL),
    "parquet": Trainer("all_columns", _LOAD, reads=_ALL),
}


def trainer_of(name: str) -> Trainer:
    """Return the trainer with the given name. Raises ExportError if there is none."""
    if name in TRAINERS:
        return TRAINERS[name]
    close = get_close_matches(name.lower().replace("_", "-"), TRAINERS, n=1, cutoff=0.5)
    meant = f"did you mean {close[0]}? " if close else ""
    raise ExportError(
        Argument("to"), f"unknown trainer {name}", f"{meant}expected one of {', '.join(TRAINERS)}"
    )


@cache
def export_query(name: str, folder: str = "shapes") -> str:
    """Read the SQL text of an export query from the folder `shapes/` or `checks/`."""
    return (resources.files("factory.export") / folder / f"{name}.sql").read_text(encoding="utf-8")


def snippets(name: str) -> dict[str, str]:
    """Return a trainer's config files as a dict that maps file names to Jinja templates."""
    folder = resources.files("factory.export") / "snippets" / name
    files = [file for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
    return {
        file.name.removesuffix(".jinja"): file.read_text(encoding="utf-8")
        for file in sorted(files, key=lambda file: file.name)
    }
