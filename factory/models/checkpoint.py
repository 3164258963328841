"""The checkpoint of a model: its folder, digest, dtype, adapter, and configuration.

This module loads no weights and imports neither torch nor an engine.
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from factory.fingerprint import file_digest, files_digest
from factory.models.config import CONTEXT_LENGTHS, read_json, text_config


@dataclass(frozen=True)
class Checkpoint:
    """A model's checkpoint: its folder, digest, and optional LoRA adapter."""

    name: str
    """The name of the model in the loop (M_0, F_0, M_1, …), or the name of a judge."""
    path: Path
    """The folder with the weights, the configuration, and the tokenizer."""
    digest: str
    """Hash of the weights, adapter, tokenizer, chat template, configuration, dtype, and engine
    settings that affect the model's answers."""
    dtype: str
    """Number type of the weights when the model runs, such as `bfloat16`."""
    adapter: Path | None = None
    """The folder of the LoRA adapter, if the model has one."""
    folder: Path | None = None
    """The lake folder of a trained model."""
    base: str = dataclasses.field(default="", compare=False)
    """The digest of the base weights without the adapter."""
    declared: str | None = None
    """The declared revision of a model whose weights are only on a server. The revision cannot be
    verified, and there are no files to read."""
    field: str = dataclasses.field(default="model.path", compare=False)
    """The recipe field to name in error messages; for a fully trained model, the model's name."""

    @cached_property
    def generation_config(self) -> dict[str, Any]:
        """The sampling defaults in the model's `generation_config.json`."""
        return self._json("generation_config.json")

    @property
    def stop_tokens(self) -> list[int]:
        """IDs of the tokens that end an answer, in addition to the tokenizer's own end token.

        Chat models often have several.
        """
        stops = self.generation_config.get("eos_token_id")
        if stops is None:
            stops = text_config(self.config).get("eos_token_id")
        return [stops] if isinstance(stops, int) else list(stops or [])

    @cached_property
    def has_plain_stop(self) -> bool:
        """Whether a stop token is an added token that the tokenizer does not treat as special.

        Decoding keeps the text of such a token.
        """
        if not self.stop_tokens:
            return False
        named = _contents(list(self._json("tokenizer_config.json").values()))
        added = self._json("tokenizer.json").get("added_tokens", [])
        plain = {token["id"] for token in added if not token["special"]}
        plain -= {token["id"] for token in added if token["content"] in named}
        return not plain.isdisjoint(self.stop_tokens)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The content of the model's `config.json`."""
        return self._json("config.json")

    def _json(self, name: str) -> dict[str, Any]:
        return {} if self.declared else read_json(self.path / name, self.field)

    @property
    def context_length(self) -> int | None:
        """Maximum number of tokens in a prompt and its answer together, or None if it is
        unknown."""
        config = text_config(self.config)
        return next((n for name in CONTEXT_LENGTHS if (n := config.get(name) or 0) > 0), None)

    @cached_property
    def special_tokens(self) -> tuple[str, ...]:
        """The added tokens that the tokenizer treats as special: decoding can drop them.

        Empty for a model whose weights are only on a server.
        """
        return tuple(token["content"] for token in self.added_tokens if token.get("special"))

    @cached_property
    def added_tokens(self) -> list[dict[str, Any]]:
        """The tokens that `tokenizer.json` adds or, without it, `tokenizer_config.json`."""
        added = self._json("tokenizer.json").get("added_tokens")
        if added is not None:
            return list(added)
        by_id = self._json("tokenizer_config.json").get("added_tokens_decoder") or {}
        return [{"id": int(number), **token} for number, token in by_id.items()]

    @cached_property
    def tokenizer_digest(self) -> str:
        """Hash of the tokenizer and chat template files, which determine the length of a prompt."""
        names = (
            *("tokenizer*", "chat_template*", "additional_chat_templates/*"),
            *("special_tokens_map.json", "added_tokens.json"),
        )
        files = [path for name in names for path in sorted(self.path.glob(name))]
        return files_digest((path.name, file_digest(path)) for path in files)


def _contents(value: Any) -> set[str]:
    """Return the special tokens named in a value of `tokenizer_config.json`: a text, an object with
    the text as `content`, or a list of them."""
    if isinstance(value, list):
        return {token for item in value for token in _contents(item)}
    text = value.get("content") if isinstance(value, dict) else value
    return {text} if isinstance(text, str) else set()
