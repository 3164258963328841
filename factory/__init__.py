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

_API = "factory.api"
_RESULTS = "factory.results"

_MODULES = {
    "VIEWS": _API,
    "Dataset": _API,
    "Diagnosis": _RESULTS,
    "Diff": _RESULTS,
    "DryRun": _RESULTS,
    "Export": _RESULTS,
    "Factory": _API,
    "FactoryError": "factory.errors",
    "Pairs": _RESULTS,
    "Picture": _RESULTS,
    "Plan": _RESULTS,
    "Preview": _RESULTS,
    "Published": _RESULTS,
    "Run": _RESULTS,
    "Status": _RESULTS,
    "Table": _RESULTS,
    "Trace": _RESULTS,
    "Verification": _RESULTS,
    "init": _API,
    "named_queries": _API,
    "open": _API,
    "open_dataset": _API,
    "trace": _API,
    "verify": _API,
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
