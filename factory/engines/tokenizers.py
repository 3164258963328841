"""Load a model's tokenizer, and decode answers with their reasoning tags."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from factory.models import read_templates


def load_tokenizer(path: Path, field: str, **options: Any) -> Any:
    """Return the tokenizer of a model folder, with chat templates that print a fixed date.

    `field` is the recipe field that names the folder, and `options` are those of AutoTokenizer.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, **options)
    if templates := read_templates(path, field):
        tokenizer.chat_template = templates.for_tokenizer
    return tokenizer


class AnswerDecoder:
    """Decodes answers to text, and drops all special tokens except reasoning tags."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special = {
            number: token.content
            for number, token in tokenizer.added_tokens_decoder.items()
            if token.special
        }
        self._dropped = lru_cache(self._find_dropped)

    def __call__(self, tokens: Sequence[int], tags: tuple[str, str] | None = None) -> str:
        """Return the text of an answer. `tags` are the opening and closing reasoning tags."""
        dropped = self._dropped(tags)
        text: str = self._tokenizer.decode(
            tokens if dropped is None else [token for token in tokens if token not in dropped],
            skip_special_tokens=dropped is None,
        )
        return text

    def _find_dropped(self, tags: tuple[str, str] | None) -> frozenset[int] | None:
        """Return the special tokens to drop, or None to drop all because no tag is special."""
        if tags is None or {*tags}.isdisjoint(self._special.values()):
            return None
        return frozenset(number for number, text in self._special.items() if text not in tags)
