"""Count tokens without importing transformers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.errors import MissingExtra, ModelError, one_line
from factory.models.chat import Conversation
from factory.models.checkpoint import Checkpoint
from factory.models.config import read_json
from factory.models.templates import SPECIAL_TOKENS, read_templates


def token_counter(model: Checkpoint) -> Callable[[Conversation | Sequence[Mapping[str, Any]]], int]:
    """Return a function that counts the tokens in a prompt: a conversation, or plain messages."""
    encode = prompt_encoder(model)
    return lambda prompt: len(encode(_conversation(prompt), True))


def prompt_encoder(model: Checkpoint) -> Callable[[Conversation, bool], list[int]]:
    """Return a function that converts a conversation to tokens, with or without the generation
    prompt.

    The function uses only `tokenizer.json`, because importing AutoTokenizer takes seconds. It uses
    AutoTokenizer for a model without a `tokenizer.json`.
    """
    render = prompt_renderer(model)
    encode = _encoder(model)
    return lambda conversation, prompting: encode(render(conversation, prompting))


def prompt_renderer(model: Checkpoint) -> Callable[[Conversation, bool], str]:
    """Return a function that converts a conversation to text, with or without the generation
    prompt.

    The function uses only Jinja, because importing AutoTokenizer takes seconds. It uses
    AutoTokenizer for a model whose chat template reads special tokens that only transformers knows.
    """
    templates = read_templates(model.path, model.field)
    if templates is None:
        raise ModelError(model.field, f"{model.path.name} has no chat template")
    specials = special_tokens(model.path, model.field)
    templates.check(model.field)
    if any(templates.mention(name) for name in SPECIAL_TOKENS if name not in specials):
        specials = auto_tokenizer(model).special_tokens_map
    return lambda conversation, prompting: templates.render(
        conversation, specials, add_generation_prompt=prompting
    )


def _conversation(prompt: Conversation | Sequence[Mapping[str, Any]]) -> Conversation:
    if isinstance(prompt, Conversation):
        return prompt
    return Conversation([dict(message) for message in prompt])


def special_tokens(path: Path, field: str) -> dict[str, str]:
    """Return the special tokens that a tokenizer's files name, as in transformers 5.19."""
    settings = read_json(path / "tokenizer_config.json", field)
    if "added_tokens_decoder" not in settings:
        settings = settings | read_json(path / "special_tokens_map.json", field)
    named = {name: _token(settings.get(name)) for name in SPECIAL_TOKENS}
    return {name: token for name, token in named.items() if token is not None}


def check_prompting(path: Path, field: str) -> None:
    """Raise ModelError if a model's chat template or its `tokenizer.json` is not valid."""
    if (templates := read_templates(path, field)) is not None:
        templates.check(field)
    if (path / "tokenizer.json").exists():
        fast_tokenizer(Checkpoint(path.name, path, "", "", field=field))


def text_counter(model: Checkpoint) -> Callable[[str], int]:
    """Return a function that counts the tokens in an answer, including its end token."""
    encode = _encoder(model)
    return lambda text: len(encode(text)) + 1


def _encoder(model: Checkpoint) -> Callable[[str], list[int]]:
    """Return a function that converts a text to tokens, without adding special tokens.

    It ignores the truncation and padding that a training may have saved with the tokenizer.
    """
    fast = fast_tokenizer(model)
    return lambda text: list(fast.encode(text, add_special_tokens=False).ids)


def fast_tokenizer(model: Checkpoint) -> Any:
    """Return a model's tokenizer as a `tokenizers.Tokenizer`, without truncation and padding.

    Reads `tokenizer.json`, or lets transformers convert the vocabulary files of an older tokenizer.
    Raises ModelError if the files are not a tokenizer.
    """
    from tokenizers import Tokenizer

    file = model.path / "tokenizer.json"
    if not file.is_file():
        fast = getattr(auto_tokenizer(model), "backend_tokenizer", None)
        if fast is None:
            raise ModelError(
                model.field,
                f"transformers cannot convert the tokenizer of {model.path.name}",
                "save it as tokenizer.json",
            )
    else:
        try:
            fast = Tokenizer.from_file(str(file))
        except Exception as error:  # the package raises no more specific type
            raise ModelError(
                model.field,
                f"tokenizer.json is not a tokenizer ({error})",
                "download the model again",
            ) from None
    fast.no_truncation()
    fast.no_padding()
    return fast


def auto_tokenizer(model: Checkpoint) -> Any:
    """Return the tokenizer that transformers loads for a model.

    Raises MissingExtra without transformers, and ModelError if transformers cannot load it.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingExtra("transformers", "train") from None
    try:
        return AutoTokenizer.from_pretrained(model.path, trust_remote_code=False)
    except Exception as error:  # every tokenizer class checks its files differently
        raise ModelError(
            model.field,
            f"transformers cannot load the tokenizer of {model.path.name} ({one_line(error, 200)})",
            "install the package that the message names, or add a tokenizer.json",
        ) from None


def _token(value: Any) -> str | None:
    return value.get("content") if isinstance(value, dict) else value
