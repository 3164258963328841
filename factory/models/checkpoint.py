"""A model on disk: its digest, dtype, adapter, and configuration.

Loads no weights and imports neither torch nor an engine.
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from factory.fingerprint import file_digest, files_digest
from factory.models.config import read_json


@dataclass(frozen=True)
class Checkpoint:
    """One set of weights, on disk."""

    name: str
    """What the recipe calls it: M_0, F_0, M_1, …"""
    path: Path
    """The folder with weights, configuration and tokenizer."""
    digest: str
    """Of weights, adapter, tokenizer, chat template, configuration, dtype, and of what else decides
    the answers of the engine that runs it."""
    dtype: str
    adapter: Path | None = None
    """The folder of the LoRA adapter that is put on the weights."""
    folder: Path | None = None
    """The folder of a trained model in the lake."""
    base: str = dataclasses.field(default="", compare=False)
    """The digest of the weights alone, without an adapter."""
    declared: str | None = None
    """The declared revision of weights that only a server has. It cannot be verified, and there are
    no files."""
    field: str = dataclasses.field(default="model.path", compare=False)
    """The recipe field that names the folder, for error messages; a trained model's own name."""

    @cached_property
    def generation_config(self) -> dict[str, Any]:
        """The sampling defaults of the model's repository."""
        return self._json("generation_config.json")

    @property
    def stop_tokens(self) -> list[int]:
        """The tokens that end an answer, in addition to the tokenizer's own. Chat models often have
        several."""
        stops = self.generation_config.get("eos_token_id", self.config.get("eos_token_id"))
        return [stops] if isinstance(stops, int) else list(stops or [])

    @cached_property
    def config(self) -> dict[str, Any]:
        return self._json("config.json")

    def _json(self, name: str) -> dict[str, Any]:
        return {} if self.declared else read_json(self.path / name, self.field)

    @property
    def context_length(self) -> int | None:
        """The maximum number of tokens of a prompt and its answer; None if the config has none."""
        length = self.config.get("max_position_embeddings")
        return length if isinstance(length, int) else None

    @cached_property
    def control_tokens(self) -> tuple[str, ...]:
        """The texts that the tokenizer reads as control tokens wherever they stand, as far as its
        tokenizer.json says; none where only a server has the weights."""
        added = self._json("tokenizer.json").get("added_tokens", [])
        return tuple(token["content"] for token in added if token["special"])

    @cached_property
    def tokenizer_digest(self) -> str:
        """Of all that decides how long a prompt is."""
        names = ("tokenizer*", "chat_template*", "special_tokens_map.json", "added_tokens.json")
        files = [path for name in names for path in sorted(self.path.glob(name))]
        return files_digest((path.name, file_digest(path)) for path in files)
