"""Find missing packages that a recipe's engines and trainer need."""

from collections.abc import Iterable
from importlib import util

from factory.errors import MissingExtra
from factory.plan.step import Step
from factory.recipe import Engine, OpenaiEngine, Recipe, Train, TransformersEngine, VllmEngine

Packages = tuple[tuple[str, ...], str]
"""Names of Python packages, and the extra of this package that installs them."""


def engine_packages(engine: Engine) -> Packages:
    """Return the packages that an engine imports."""
    match engine:
        case TransformersEngine():
            return ("transformers", "torch"), "train"
        case VllmEngine():
            return ("vllm",), "vllm"
        case OpenaiEngine():
            return ("aiohttp",), "openai"
    return (), ""


def training_packages(train: Train) -> Packages:
    """Return the packages that the trainer imports."""
    if train.with_ != "trl":
        return (), ""
    return ("trl", "torch", *(() if train.lora is None else ("peft",))), "train"


def missing_package(needed: Packages) -> MissingExtra | None:
    """Return an error for the first package that is not installed, or None if all are installed."""
    packages, extra = needed
    absent = (package for package in packages if util.find_spec(package) is None)
    return next((MissingExtra(package, extra) for package in absent), None)


def missing_packages(recipe: Recipe, wanted: Iterable[Step]) -> list[MissingExtra]:
    """Return an error for each missing extra that the given steps need."""
    needed: dict[Packages, None] = {}
    for step in wanted:
        if step.stage == "train":
            needed[training_packages(recipe.train)] = None
        elif step.loads is not None:
            needed[engine_packages(recipe.engine_of(step.loads))] = None
    found = (missing_package(packages) for packages in needed)
    return list({error.field: error for error in found if error}.values())
