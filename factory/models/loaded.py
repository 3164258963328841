"""Check that a model has every weight, because transformers fills missing weights with noise."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from factory.errors import ModelError


def check_loaded(path: Path, missing: Iterable[str], field: str) -> None:
    """Raise ModelError if transformers did not find some weights of the model in the folder `path`.

    `missing` are the names of these weights.
    """
    names = sorted(missing)
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise ModelError(
            field,
            f"{path.name} lacks the weights of {names[0]}{more}, so transformers would initialize "
            "them randomly",
            "download the model again, or correct its config.json",
        )


def check_all_weights(path: Path, field: str) -> None:
    """Raise ModelError if a language model lacks weights, or if transformers cannot load it.

    Imports transformers, but loads no weights. Does nothing if transformers is not installed.
    """
    try:
        from transformers import AutoModelForCausalLM
    except ImportError:
        return
    with _silent_transformers():
        try:
            _, info = AutoModelForCausalLM.from_pretrained(
                path, device_map="meta", output_loading_info=True, trust_remote_code=False
            )
        except Exception as error:  # every model class checks its config differently
            reason = " ".join(str(error).split())
            raise ModelError(
                field,
                f"transformers cannot load {path.name} ({reason[:300]})",
                "download the model again, or correct its config.json",
            ) from None
    check_loaded(path, info["missing_keys"], field)


@contextmanager
def _silent_transformers() -> Iterator[None]:
    from transformers.utils import logging

    verbosity, has_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bar:
            logging.enable_progress_bar()
