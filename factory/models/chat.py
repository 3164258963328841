"""The conversation that a chat template receives, made from a row of the table `prompts`.

Engines, token counts, training rows, datasets, and exports all use this conversation, so that they
show a model the same prompt.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
"""A message for a chat template. Only the content of a message with tool calls can be None."""


@dataclass(frozen=True)
class Conversation:
    """The arguments of a chat template: messages, tools, and the prompt's own settings."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    """Other arguments of the template, such as `enable_thinking`."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Conversation":
        """Return the conversation of a row that has the columns messages, tools, and
        template_kwargs of the table `prompts`."""
        return cls(
            [chat_message(message) for message in row["messages"]],
            json.loads(row["tools"]) if row["tools"] else None,
            json.loads(row["template_kwargs"]) if row["template_kwargs"] else {},
        )


def chat_message(stored: Mapping[str, Any]) -> Message:
    """Return a stored message as chat templates read it.

    Tool calls become a list of objects. Their arguments become an object even if the prompt file
    has them as JSON text, as in OpenAI's API: templates expect an object, and a vLLM server passes
    an object. The reasoning appears under both names that templates use, as in vLLM.
    """
    calls = stored.get("tool_calls")
    message = {
        name: value
        for name, value in stored.items()
        if value is not None or (name == "content" and calls)
    }
    if calls:
        message["tool_calls"] = [_tool_call(call) for call in json.loads(calls)]
    if "reasoning" in message:
        message["reasoning_content"] = message["reasoning"]
    return message


def _tool_call(call: Any) -> Any:
    if not isinstance(call, dict):
        return call
    if isinstance(call.get("function"), dict):
        return {**call, "function": _tool_call(call["function"])}
    try:
        arguments = json.loads(call["arguments"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return call
    return {**call, "arguments": arguments} if isinstance(arguments, dict) else call
