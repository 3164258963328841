"""Tests that a stored prompt becomes the conversation that chat templates read."""

import json

import pytest

from factory.models import Conversation, chat_message

FIELDS = dict.fromkeys(("role", "content", "reasoning", "tool_calls", "tool_call_id", "name"))


def stored(**fields):
    """Return a message as the table `prompts` stores it."""
    return FIELDS | fields


def test_a_missing_field_stays_missing():
    assert chat_message(stored(role="user", content="Hi.")) == {"role": "user", "content": "Hi."}
    assert list(chat_message(stored(name="ann", role="user", content="Hi."))) == [
        "role",
        "content",
        "name",
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"name": "f", "arguments": {"b": 1, "a": 2}}, None),
        (
            {"function": {"name": "f", "arguments": '{"b": 1, "a": 2}'}},
            {"function": {"name": "f", "arguments": {"b": 1, "a": 2}}},
        ),
        (
            {"name": "f", "arguments": '{"b": 1}'},
            {"name": "f", "arguments": {"b": 1}},
        ),
        ({"name": "f", "arguments": "not JSON"}, None),
        ({"name": "f", "arguments": "3"}, None),
        ({"name": "f", "arguments": "[" * 100_000}, None),
        ({"name": "f"}, None),
        ({"function": "f"}, None),
    ],
)
def test_tool_calls_are_objects_in_the_given_order(given, expected):
    message = chat_message(stored(role="assistant", tool_calls=json.dumps([given])))
    (call,) = message["tool_calls"]
    assert json.dumps(call) == json.dumps(expected or given)
    assert message["content"] is None


def test_reasoning_has_both_names_that_templates_use():
    message = chat_message(stored(role="assistant", content="3", reasoning="Hm."))
    assert message["reasoning"] == message["reasoning_content"] == "Hm."


def test_a_message_of_an_old_lake_without_content_stays_without():
    assert chat_message(stored(role="assistant")) == {"role": "assistant"}


def test_a_conversation_has_everything_of_the_row():
    row = {
        "messages": [stored(role="user", content="Hi.")],
        "tools": '[{"type": "function", "name": "f"}]',
        "template_kwargs": '{"enable_thinking":false}',
    }
    conversation = Conversation.of(row)
    assert conversation.messages == [{"role": "user", "content": "Hi."}]
    assert json.dumps(conversation.tools) == row["tools"]
    assert conversation.settings == {"enable_thinking": False}
    bare = Conversation.of(row | {"tools": None, "template_kwargs": None})
    assert (bare.tools, bare.settings) == (None, {})
