"""Read chat templates and count tokens without importing transformers."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import MissingExtra
from factory.models.checkpoint import Checkpoint
from factory.models.config import read_json

if TYPE_CHECKING:
    from jinja2 import Template
    from tokenizers import Tokenizer


def chat_template(path: Path, field: str) -> str | None:
    """Return the default chat template in a model folder as Jinja text, or None if there is none.

    Raises ModelError if `tokenizer_config.json` is not JSON. `field` is the recipe field that names
    the folder.
    """
    file = path / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = read_json(path / "tokenizer_config.json", field).get("chat_template")
    if isinstance(template, list):
        named = {item["name"]: item["template"] for item in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def token_counter(model: Checkpoint) -> Callable[[Sequence[Mapping[str, Any]]], int]:
    """Return a function that counts the tokens in a list of chat messages.

    The function uses only `tokenizer.json` and Jinja, because importing AutoTokenizer takes
    seconds. For a model without a `tokenizer.json`, the function uses AutoTokenizer.
    """
    file = model.path / "tokenizer.json"
    if not file.is_file():
        return _slow_counter(model)
    tokenizer = _fast_tokenizer(file)
    specials = special_tokens(model)
    template = compile_template(chat_template(model.path, model.field) or "")

    def count(messages: Sequence[Mapping[str, Any]]) -> int:
        text = template.render(messages=messages, add_generation_prompt=True, **specials)
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return count


def special_tokens(model: Checkpoint) -> dict[str, str]:
    """Return the special tokens that a chat template can print, by the names of transformers."""
    settings = read_json(model.path / "tokenizer_config.json", model.field)
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    return {name: token for name in names if (token := _token(settings.get(name)))}


def text_counter(model: Checkpoint) -> Callable[[str], int]:
    """Return a function that counts the tokens in an answer, including its end token."""
    file = model.path / "tokenizer.json"
    if file.is_file():
        fast = _fast_tokenizer(file)
        return lambda text: len(fast.encode(text, add_special_tokens=False).ids) + 1
    slow = _auto_tokenizer(model.path)
    return lambda text: len(slow.encode(text, add_special_tokens=False)) + 1


def _fast_tokenizer(file: Path) -> "Tokenizer":
    """Load a tokenizer without the truncation and padding that a training may have saved with
    it."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _slow_counter(model: Checkpoint) -> Callable[[Sequence[Mapping[str, Any]]], int]:
    tokenizer = _auto_tokenizer(model.path)
    return lambda messages: len(
        tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
    )


def _auto_tokenizer(path: Path) -> Any:
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingExtra("transformers", "train") from None
    return AutoTokenizer.from_pretrained(path)


def compile_template(text: str) -> "Template":
    """Return a compiled chat template that renders messages exactly as transformers does.

    The code follows transformers.utils.chat_template_utils (5.19). Importing transformers would
    take longer than the rest of `factory plan`. Rendering raises jinja2.TemplateError if the
    template refuses the messages.
    """
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def to_json(value: Any, indent: int | None = None, **options: Any) -> str:
        return json.dumps(value, **{"ensure_ascii": False, "indent": indent, **options})

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    # The {% generation %} blocks mark the assistant's tokens for training and print nothing, so a
    # condition that is always true replaces them.
    text = re.sub(r"\{%(-?)\s*generation\s*(-?)%\}", r"{%\1 if true \2%}", text)
    text = re.sub(r"\{%(-?)\s*endgeneration\s*(-?)%\}", r"{%\1 endif \2%}", text)
    return environment.from_string(text)


def _token(value: Any) -> str | None:
    return value.get("content") if isinstance(value, dict) else value
