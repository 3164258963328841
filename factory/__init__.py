"""A package that builds preference datasets for Temporal Self-Rewarding Language Models.

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
        init,
        named_queries,
        open,
        open_dataset,
        trace,
        verify,
    )
    from factory.errors import FactoryError
    from factory.results import (
        Diagnosis,
        Diff,
        DryRun,
        Export,
        Pairs,
        Picture,
        Plan,
        Preview,
        Published,
        Run,
        Status,
        Table,
        Trace,
        Verification,
    )

__version__ = "0.1.0"

__all__ = [
    "VIEWS",
    "Dataset",
    "Diagnosis",
    "Diff",
    "DryRun",
    "Export",
    "Factory",
    "FactoryError",
    "Pairs",
    "Picture",
    "Plan",
    "Preview",
    "Published",
    "Run",
    "Status",
    "Table",
    "Trace",
    "Verification",
    "init",
    "named_queries",
    "open",
    "open_dataset",
    "trace",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check_files()
    module = "factory.errors" if name == "FactoryError" else "factory.api"
    return getattr(import_module(module), name)


def check_files() -> None:
    """Raise ImportError if the factory_boy package has overwritten files of this package."""
    if not hasattr(import_module("factory.errors"), "UserError"):
        raise ImportError(
            "factory_boy has overwritten files of preference-factory, because both packages are "
            "imported as `factory`: install the two packages in separate environments"
        )


def __dir__() -> list[str]:
    return [*globals(), *__all__]
