"""The `reference` engine, which returns each prompt's reference answer and uses no model."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from factory import __version__
from factory.engines.protocol import Request, Result


class _Engine:
    name = "reference"
    version = __version__

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        for request in requests:
            for draw in request.draws:
                text = request.context["reference"]
                yield Result(request.id, draw, text=text, finish_reason="stop")


@contextmanager
def open_engine() -> Iterator[_Engine]:
    """Open the engine that answers each prompt with the prompt's reference answer."""
    yield _Engine()
