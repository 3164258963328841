"""A factory of preference datasets for Temporal Self-Rewarding Language Models.

>>> import factory
>>> f = factory.open("recipe.yaml")
>>> f.run().dataset.is_dir()
True

Names are imported when they are first used, so `import factory` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from factory.api import (
        VIEWS,
        Dataset,
        Factory,
        named_queries,
        open,
        open_dataset,
        trace,
        verify,
    )
    from factory.errors import FactoryError
    from factory.recipe import Recipe
    from factory.results import Table

__version__ = "0.1.0"

__all__ = [
    "VIEWS",
    "Dataset",
    "Factory",
    "FactoryError",
    "Recipe",
    "Table",
    "named_queries",
    "open",
    "open_dataset",
    "trace",
    "verify",
]

_MODULES = {
    "VIEWS": "factory.api",
    "Dataset": "factory.api",
    "Factory": "factory.api",
    "FactoryError": "factory.errors",
    "Recipe": "factory.recipe",
    "Table": "factory.results",
    "named_queries": "factory.api",
    "open": "factory.api",
    "open_dataset": "factory.api",
    "trace": "factory.api",
    "verify": "factory.api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check_files()
    return getattr(import_module(_MODULES[name]), name)


def check_files() -> None:
    """Raise ImportError if factory_boy, which is also imported as `factory`, replaced our files."""
    if not hasattr(import_module("factory.errors"), "UserError"):
        raise ImportError(
            "factory_boy, which is also imported as `factory`, has overwritten files of "
            "preference-factory: install the two packages in separate environments"
        )


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
