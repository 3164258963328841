"""Find the tokens that surround messages, and check that the end of a turn ends an answer."""

import re
from contextlib import suppress
from functools import cache
from typing import Any

from factory.errors import MissingExtra, ModelError
from factory.models.chat import Conversation
from factory.models.checkpoint import Checkpoint
from factory.models.config import read_json
from factory.models.templates import read_templates
from factory.models.tokens import auto_tokenizer, special_tokens

_PROMPT, _ANSWER = "A prompt", "An answer"
_ASKED = [{"role": "user", "content": _PROMPT}]


def check_prompt_shown(model: Checkpoint) -> None:
    """Raise ModelError if the chat template leaves out the user's message."""
    shown = _rendered(model, _ASKED)
    if shown is not None and _PROMPT not in shown:
        raise ModelError(
            model.field,
            "the chat template does not print the user's message, so the model would not see the "
            "prompts",
            "use the chat template with which the model was trained",
        )


def check_turn_end(model: Checkpoint) -> None:
    """Raise ModelError if the token that ends an assistant's turn does not end an answer.

    Such a model would continue after its answer and write the user's next turn. The end of a
    turn is the first added token that the chat template prints after an answer.
    """
    added = read_json(model.path / "tokenizer.json", model.field).get("added_tokens") or []
    numbers = {token["content"]: token["id"] for token in added if token["content"].strip()}
    specials = special_tokens(model.path, model.field)
    messages = [{"role": "user", "content": _PROMPT}, {"role": "assistant", "content": _ANSWER}]
    _, shown, after = (_rendered(model, messages) or "").rpartition(_ANSWER)
    any_added = "|".join(map(re.escape, sorted(numbers, key=len, reverse=True)))
    end = re.search(any_added, after) if shown and numbers else None
    if end is None or end[0] == specials.get("eos_token") or numbers[end[0]] in model.stop_tokens:
        return
    with suppress(MissingExtra, ModelError):  # the tokenizer's class can have a default
        if end[0] == auto_tokenizer(model).eos_token:
            return
    raise ModelError(
        model.field,
        f"the chat template ends a turn with {end[0]}, but this token does not end an answer",
        f"add {numbers[end[0]]} to the list eos_token_id in the model's generation_config.json "
        "(copy a model of the Hub to a folder first)",
    )


@cache
def control_tokens(model: Checkpoint) -> tuple[str, ...]:
    """Return the texts that structure a conversation if they occur in a prompt.

    These are the special tokens, and other added tokens that end an answer or that the chat
    template prints around a message. Empty for a model whose weights are only on a server.
    """
    if model.declared:
        return ()
    frame = (_rendered(model, _ASKED) or "").replace(_PROMPT, "")
    return tuple(
        token["content"]
        for token in model.added_tokens
        if token.get("special")
        or token.get("id") in model.stop_tokens
        or (token["content"].strip() and token["content"] in frame)
    )


def _rendered(model: Checkpoint, messages: list[dict[str, Any]]) -> str | None:
    """Return a conversation as the chat template prints it, or None if there is no template or if
    it refuses the conversation."""
    templates = read_templates(model.path, model.field)
    if templates is None:
        return None
    specials = special_tokens(model.path, model.field)
    try:
        return templates.render(Conversation(messages), specials, add_generation_prompt=False)
    except Exception:  # a template can raise any exception to refuse a conversation
        return None
