"""Read a recipe's prompt files into an Arrow table, and compute the files' digests.

This module passes the files and the model's tokenizer to the pure functions of
`stages.prompts.lines`.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from factory.errors import PromptsError
from factory.fingerprint import file_digest
from factory.lake import TABLES
from factory.models import Checkpoint, token_counter
from factory.recipe import Prompts, Recipe
from factory.stages.prompts import lines as prompts

BATCH = 1000
"""Number of lines that are in memory as Python objects at the same time."""


@dataclass(frozen=True)
class PromptFiles:
    """A recipe's prompt files, for either the training loop or the probe."""

    recipe: Recipe
    role: str
    """`loop` or `probe`."""
    model: Checkpoint | None
    """M_0, which counts the tokens of a prompt. None if its files are missing: then every length is
    valid, and `settings` cannot be used."""

    @property
    def _spec(self) -> Prompts:
        if self.role == "loop":
            return self.recipe.prompts
        assert self.recipe.probe is not None, "the recipe has no probe"
        return self.recipe.prompts.model_copy(update={"files": self.recipe.probe.files})

    @property
    def _most_tokens(self) -> int | None:
        """Maximum number of tokens in a prompt. None if the engine is scripted or the model's
        context length is unknown."""
        context = self.model.context_length if self.model else None
        if self.recipe.engine.name == "scripted" or context is None:
            return None
        return context - self.recipe.sampling.max_tokens

    def settings(self) -> dict[str, Any]:
        """Return the settings whose hash identifies the prompts. Raises PromptsError if a file is
        missing."""
        assert self.model is not None, "the length limit is unknown without M_0"
        paths = [path for _, path in self._paths()]
        digests = [file_digest(path) for path in paths]
        most = self._most_tokens
        tokenizer = self.model.tokenizer_digest if most is not None else None
        ordered = any(_has_tools(path) for path in paths)
        return prompts.settings(self._spec, digests, tokenizer, most, ordered=ordered)

    def _paths(self) -> list[tuple[str, Path]]:
        paths = [(name, self.recipe.resolve(name)) for name in self._spec.files]
        for name, path in paths:
            if not path.is_file():
                raise PromptsError(
                    name,
                    f"the file does not exist (looked for {path})",
                    "give the path to a JSONL file, relative to the recipe's folder",
                )
        return paths

    def read(self) -> tuple[pa.Table, list[prompts.Problem]]:
        """Read the prompt files, and return the valid prompts and the invalid lines.

        The prompts are rows of the table `prompts`. Raises PromptsError if a line is invalid and
        `on_error` is stop, or if no line is valid.
        """
        problems: list[prompts.Problem] = []
        rows = prompts.read_prompts(self._lines(), self._spec, self._limit(), problems)
        schema = TABLES["prompts"]
        batches = []
        while batch := list(itertools.islice(rows, BATCH)):
            batches.append(pa.RecordBatch.from_pylist(batch, schema))
        if problems and self._spec.on_error == "stop":
            raise PromptsError(
                "prompts.files" if self.role == "loop" else "probe.files",
                "1 line is invalid"
                if len(problems) == 1
                else f"{len(problems):,} lines are invalid",
                "set prompts.on_error to skip, or correct these lines:\n" + list_problems(problems),
            )
        if not batches:
            raise PromptsError(
                ", ".join(self._spec.files),
                "no line is a valid prompt",
                "write one JSON object per line, with the field `prompt` or `messages`",
            )
        return pa.Table.from_batches(batches, schema), problems

    def _lines(self) -> Iterator[tuple[str, bytes]]:
        for name, path in self._paths():
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield f"{name}:{number}", line

    def _limit(self) -> prompts.Limit | None:
        most = self._most_tokens
        if self.model is None or most is None:
            return None
        why = (
            f"(the model's context length is {self.model.context_length} tokens, "
            f"and sampling.max_tokens is {self.recipe.sampling.max_tokens})"
        )
        return prompts.Limit(token_counter(self.model), most, why)


def _has_tools(path: Path) -> bool:
    """Return whether the text of a prompt file contains the name of a field for tools."""
    with path.open("rb") as file:
        return any(name in line for line in file for name in (b'"tools"', b'"tool_calls"'))


def list_problems(problems: list[prompts.Problem], most: int = 10) -> str:
    """Format the problems found in prompt files as text, one per line."""
    lines = [f"{problem.place}: {problem.reason}" for problem in problems[:most]]
    if len(problems) > most:
        lines.append(f"… and {len(problems) - most} more invalid lines")
    return "\n".join(lines)
