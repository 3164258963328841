"""The `scripted` engine, which answers with a Python function instead of a model.

It is meant for tests and for dry runs of a recipe, for example to check that the rubric renders.
The default script returns random words that depend only on the seed.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from factory import __version__
from factory.engines.protocol import Request, Result, failures
from factory.functions import find_function
from factory.recipe import ScriptedEngine

Script = Callable[[Sequence[Mapping[str, Any]], int], str]

_WORDS = "amber birch cedar delta ember fjord grove heron inlet juniper kelp larch".split()


def words(messages: Sequence[Mapping[str, Any]], seed: int) -> str:
    """Return an answer of random words, whose last line is a score from 0 to 5.

    The words and the score depend only on the seed. The parsers of the built-in rubrics read the
    last line. A score of 0 is outside most scales.
    """
    rng = random.Random(seed)
    return f"{' '.join(rng.choices(_WORDS, k=rng.randint(3, 9)))}.\nScore: {rng.randint(0, 5)}"


class _Engine:
    name = "scripted"
    version = __version__

    def __init__(self, script: Script, delay: float) -> None:
        self._script = script
        self._delay = delay

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        for request in requests:
            for draw in request.draws:
                if self._delay:
                    time.sleep(self._delay)
                yield from self._answer(request, draw)

    def _answer(self, request: Request, draw: int) -> Iterator[Result]:
        try:
            text = self._script(request.messages, request.seed + draw)
        except ConnectionError as error:
            yield from failures(request, str(error), "transient", [draw])
        except ValueError as error:
            yield from failures(request, str(error), "permanent", [draw])
        else:
            yield Result(
                request.id,
                draw,
                text=text,
                n_prompt_tokens=sum(len(str(m["content"]).split()) for m in request.messages),
                n_tokens=len(text.split()),
                finish_reason="stop",
            )


@contextmanager
def open_engine(settings: ScriptedEngine, folder: Path) -> Iterator[_Engine]:
    """Open the engine that answers with the Python function named in `settings.script`.

    The function can raise ValueError for a permanent failure, or ConnectionError for a transient
    failure, which the next run retries. `folder` is the recipe's folder.
    """
    answer = words
    if settings.script:
        answer = find_function(settings.script, folder, n_arguments=2).load()
    yield _Engine(answer, settings.delay)
