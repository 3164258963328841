"""Lines of a prompts file become prompts, or problems with a place and a reason."""

import json

import pytest

from factory.lake import TABLES
from factory.models import Conversation
from factory.recipe import Prompts
from factory.stages import Limit, Problem, read_prompts

PROMPTS = Prompts(files=["toy.jsonl"])


def encode(line):
    if isinstance(line, bytes):
        return line
    return (line if isinstance(line, str) else json.dumps(line)).encode()


def read_all(*lines, prompts=PROMPTS, limit=None):
    """Return the rows and the problems of these lines."""
    problems = []
    placed = [(f"toy.jsonl:{number}", encode(line)) for number, line in enumerate(lines, start=1)]
    return list(read_prompts(placed, prompts, limit, problems)), problems


def one(line, **settings):
    (row,), problems = read_all(line, **settings)
    assert problems == []
    return row


def reason(line, **settings):
    rows, (problem,) = read_all(line, **settings)
    assert rows == []
    assert problem.place == "toy.jsonl:1"
    return problem.reason


def chat(*messages):
    return {"messages": list(messages)}


USER = {"role": "user", "content": "Hi."}


# valid lines


def test_a_prompt_and_its_conversation_are_the_same_prompt():
    assert one({"prompt": "Hi."}) == one(chat(USER))
    assert one({"prompt": "Hi."})["prompt_id"] != one({"prompt": "Hi"})["prompt_id"]


def test_fields_that_are_null_are_as_if_not_there():
    nulls = dict.fromkeys(["messages", "reference", "tools", "meta"])
    assert one({"prompt": "Hi.", **nulls}) == one({"prompt": "Hi."})
    assert one(chat({**USER, "name": None})) == one(chat(USER))


def test_a_row_has_the_columns_of_the_table():
    row = one({"prompt": "Hi."})
    assert list(row) == TABLES["prompts"].names
    assert row["messages"] == [
        {**USER, "reasoning": None, "tool_calls": None, "tool_call_id": None, "name": None}
    ]


def test_all_that_a_line_says_is_kept():
    line = {"reference": "r", "criteria": "c", "source": "s", "license": "l"}
    row = one({"prompt": "Hi.", **line})
    assert {name: row[name] for name in line} == line


def test_meta_tools_and_template_kwargs_are_kept_as_they_were_given():
    row = one(
        {
            "prompt": "Hi.",
            "meta": {"b": 1.0, "a": "é", "c": None},
            "tools": [{"type": "function", "name": "f"}],
            "template_kwargs": {"thinking": False},
        }
    )
    assert row["meta"] == '{"a":"é","b":1.0,"c":null}'
    assert row["tools"] == '[{"type": "function", "name": "f"}]'
    assert row["template_kwargs"] == '{"thinking":false}'


def test_tools_are_part_of_the_prompt_and_meta_is_not():
    plain = one({"prompt": "Hi."})["prompt_id"]
    assert one({"prompt": "Hi.", "tools": [{"name": "f"}]})["prompt_id"] != plain
    assert one({"prompt": "Hi.", "meta": {"a": 1}})["prompt_id"] == plain
    assert one({"prompt": "Hi.", "tools": [], "meta": {}})["prompt_id"] == plain


def test_tools_with_sorted_keys_are_stored_as_in_older_lakes():
    assert one({"prompt": "Hi.", "tools": [{"a": {"b": 1}, "c": 2}]})["tools"] == (
        '[{"a":{"b":1},"c":2}]'
    )


def test_the_order_of_keys_changes_no_id():
    call = {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"b": 1, "a": 2}}]}
    turned = {"role": "assistant", "tool_calls": [{"arguments": {"a": 2, "b": 1}, "name": "f"}]}
    ids = {
        one(chat(USER, each, USER) | {"tools": tools})["prompt_id"]
        for each in (call, turned)
        for tools in ([{"x": 1, "a": 2}], [{"a": 2, "x": 1}])
    }
    assert len(ids) == 1


def test_reasoning_may_have_the_name_that_templates_give_it():
    reasoning = {"role": "assistant", "content": "3", "reasoning": "Hm."}
    content = {"role": "assistant", "content": "3", "reasoning_content": "Hm."}
    assert one(chat(USER, reasoning, USER)) == one(chat(USER, content, USER))


def test_tool_calls_are_kept_as_they_were_given():
    call = {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"b": 1, "a": 2}}]}
    answer = {"role": "tool", "content": "3", "tool_call_id": "x"}
    row = one(chat(USER, call, answer))
    assert row["messages"][1]["tool_calls"] == '[{"name": "f", "arguments": {"b": 1, "a": 2}}]'
    assert row["messages"][1]["content"] is None
    assert row["messages"][2]["tool_call_id"] == "x"


def test_source_and_license_are_the_recipes_where_the_line_has_none():
    prompts = Prompts(files=["toy.jsonl"], source="mine", license="cc0")
    row = one({"prompt": "Hi."}, prompts=prompts)
    assert (row["source"], row["license"]) == ("mine", "cc0")
    row = one({"prompt": "Hi.", "source": "theirs", "license": "mit"}, prompts=prompts)
    assert (row["source"], row["license"]) == ("theirs", "mit")
    assert one({"prompt": "Hi."})["source"] is None


def test_a_byte_order_mark_is_passed_over():
    assert one(b'\xef\xbb\xbf{"prompt": "Hi."}') == one({"prompt": "Hi."})


# invalid lines

HALF = "an escape such as \\ud83d is half of a surrogate pair"


def test_a_long_bad_line_is_not_repeated_in_full():
    long = "x" * 5_000_000
    for line in ({"prompt": "Hi.", long: 1}, chat({**USER, "role": long}), f'{{"{long}'):
        assert len(reason(line)) <= 300


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"prompt": "Hi."', "the line is not valid JSON: "),
        ("nonsense", "the line is not valid JSON: "),
        ('{"prompt": "Hi."} {}', "the line is not valid JSON: "),
        ('{"prompt": "Hi.", "prompt": "Ho."}', 'the key "prompt" is given twice'),
        ('{"prompt": "Hi.", "pr\\u006fmpt": "Ho."}', 'the key "prompt" is given twice'),
        (
            '{"messages": [{"role": "user", "content": "Hi.", "content": ""}]}',
            'the key "content" is given twice',
        ),
        ('{"prompt": "Hi.", "tools": [{"a": [{"b": 1, "b": 1}]}]}', 'the key "b" is given twice'),
        ('{"prompt": "Hi.", "meta": {"a": 1, "a": 2}}', 'the key "a" is given twice'),
        ('{"prompt": "Hi.", "template_kwargs": {"a": 1, "a": 2}}', 'the key "a" is given twice'),
        (
            chat(
                USER,
                {
                    "role": "assistant",
                    "tool_calls": [{"function": {"arguments": '{"a": 1, "a": 2}'}}],
                },
                USER,
            ),
            'in the arguments of a tool call, the key "a" is given twice',
        ),
        (b'{"prompt": "\xff"}', "the line is not valid UTF-8 (byte 0xff at position 13)"),
        ('{"prompt": "\\ud800"}', HALF),
        ('{"prompt": "Hi.", "meta": {"a": ["\\udfff"]}}', HALF),
        ('{"prompt": "Hi.", "\\udfff": 1}', HALF),
        ('["Hi."]', "expected an object, but the line is a list"),
        ('"Hi."', "expected an object, but the line is a string"),
        ("null", "expected an object, but the line is null"),
        ("{}", "expected either the field `prompt` or the field `messages`"),
        ('{"prompt": null}', "expected either the field `prompt` or the field `messages`"),
        (
            {"prompt": "Hi.", **chat(USER)},
            "expected either the field `prompt` or the field `messages`",
        ),
        ({"prompt": ["Hi."]}, "expected a string in the field `prompt`, but got a list"),
        ({"messages": "Hi."}, "expected a list in the field `messages`, but got a string"),
        (
            {"prompt": "Hi.", "reference": 4},
            "expected a string in the field `reference`, but got a number",
        ),
        (
            {"prompt": "Hi.", "meta": "m"},
            "expected an object in the field `meta`, but got a string",
        ),
        ({"prompt": "Hi.", "tools": {}}, "expected a list in the field `tools`, but got an object"),
        ({"prompt": "Hi.", "refrence": "r"}, "the field refrence is unknown: move it into meta"),
        (chat("Hi."), "each message must be an object, but one is a string"),
        (chat({**USER, "text": "x"}), "a message has the unknown field text"),
        (
            chat({**USER, "content": ["Hi."]}),
            "expected a string in the field `content` of a message, but got a list",
        ),
        (
            chat({**USER, "role": "human"}),
            "expected a role from system, user",
        ),
        (
            chat({"content": "Hi."}),
            "expected a role from system, user, assistant, tool, but a message has None",
        ),
        (
            chat(USER, {"role": "assistant", "content": None}, USER),
            "a message with the role assistant has no content, but only a message with tool calls",
        ),
        (
            chat({"role": "system"}, USER),
            "a message with the role system has no content, but only a message with tool calls",
        ),
        (
            chat(USER, {"role": "assistant", "tool_calls": []}, USER),
            "a message with the role assistant has no content, but only a message with tool calls",
        ),
        (
            chat(USER, {"role": "assistant", "tool_calls": "f()"}, USER),
            "expected a list of objects in the field `tool_calls` of a message",
        ),
        (
            chat(USER, {"role": "assistant", "tool_calls": ["f()"]}, USER),
            "expected a list of objects in the field `tool_calls` of a message",
        ),
        (
            chat({**USER, "reasoning": "a", "reasoning_content": "b"}),
            "a message has both fields reasoning and reasoning_content",
        ),
        ({"prompt": "Hi.", "tools": ["f"]}, "expected a list of objects in the field `tools`"),
        *(
            (
                {"prompt": "Hi.", "template_kwargs": {name: True}},
                f"the field `template_kwargs` sets {name}, which is not a setting of a template",
            )
            for name in ("tools", "add_generation_prompt", "chat_template", "truncation")
        ),
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": " \n\t"}, "the prompt is empty"),
        (chat(), "the prompt is empty"),
        (chat({"role": "user"}), "a message with the role user has no content"),
        (chat(USER, {**USER, "content": " "}), "the prompt is empty"),
        (
            chat(USER, {**USER, "role": "assistant"}),
            "the last message must have the role user or tool, but it has assistant",
        ),
        (
            chat({**USER, "role": "system"}),
            "the last message must have the role user or tool, but it has system",
        ),
    ],
)
def test_a_line_that_cannot_be_a_prompt_says_why(line, expected):
    assert reason(line).startswith(expected)


@pytest.mark.parametrize(
    "line",
    [
        '{"prompt": "Hi.", "meta": {"a": NaN}}',
        '{"prompt": "Hi.", "meta": {"a": -Infinity}}',
        '{"prompt": "Hi.", "meta": {"a": 1e999}}',
        '{"prompt": "Hi.", "tools": [NaN]}',
        '{"prompt": "Hi.", "template_kwargs": {"a": NaN}}',
        '{"messages": [{"role": "user", "content": "Hi.", "tool_calls": [NaN]}]}',
    ],
)
def test_a_number_that_is_not_json_is_a_problem_and_no_crash(line):
    assert reason(line)


def test_a_line_nested_too_deep_is_a_problem_and_no_crash():
    assert reason("[" * 100_000)


def test_a_prompt_given_twice_is_one_and_names_its_first_place():
    rows, problems = read_all({"prompt": "Hi."}, {"prompt": "Ho."}, chat(USER), {"prompt": "Hi."})
    assert len(rows) == 2
    assert problems == [
        Problem("toy.jsonl:3", "duplicate of the prompt at toy.jsonl:1"),
        Problem("toy.jsonl:4", "duplicate of the prompt at toy.jsonl:1"),
    ]


def test_a_problem_stops_no_other_line():
    rows, problems = read_all("nonsense", {"prompt": "Hi."}, "[]", {"prompt": "Ho."})
    assert [row["messages"][0]["content"] for row in rows] == ["Hi.", "Ho."]
    assert [problem.place for problem in problems] == ["toy.jsonl:1", "toy.jsonl:3"]


# the length limit


def words(conversation):
    return sum(len(message["content"].split()) for message in conversation.messages)


def test_a_prompt_may_be_as_long_as_the_limit_and_no_longer():
    limit = Limit(words, 3, "(the context is 8)")
    assert one({"prompt": "one two three"}, limit=limit)
    assert reason({"prompt": "one two three four"}, limit=limit) == (
        "the prompt has 4 tokens, but at most 3 are allowed (the context is 8)"
    )


def test_all_that_a_template_sees_counts():
    seen = []

    def count(conversation):
        seen.append(conversation)
        return 1

    line = {"prompt": "Hi.", "tools": [{"type": "f", "name": "g"}], "template_kwargs": {"x": 1}}
    one(line, limit=Limit(count, 3, ""))
    assert seen == [Conversation([USER], line["tools"], {"x": 1})]


def test_a_chat_template_that_refuses_a_conversation_is_its_problem():
    def refuse(messages):
        raise ZeroDivisionError("no system messages here")

    assert reason({"prompt": "Hi."}, limit=Limit(refuse, 3, "")) == (
        "the model's chat template rejected the messages: no system messages here"
    )
