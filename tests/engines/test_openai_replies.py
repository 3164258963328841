"""Tests of reading a server's replies, which can contain anything."""

import json

import pytest

from factory.engines.openai_replies import (
    BadChoice,
    Choice,
    OddReply,
    Usage,
    quote,
    read_completion,
    read_models,
    read_version,
)


def choice(index=0, text="good", **fields):
    message = {"role": "assistant", "content": text}
    return {"index": index, "message": message, "finish_reason": "stop", **fields}


def reply(*choices, **fields):
    return {"choices": list(choices), **fields}


def message(**fields):
    return reply(choice(message={"role": "assistant", **fields}))


def logprobs(said):
    return reply(choice(logprobs=said))


def raw(body):
    return body if isinstance(body, bytes) else json.dumps(body).encode()


CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
TOKEN = {"token": "a", "logprob": -1.0, "top_logprobs": []}

USABLE = {
    "plain": (reply(choice()), "good"),
    "list content": (message(content=[{"type": "text", "text": "go"}, {"text": "od"}]), "good"),
    "list of strings": (message(content=["go", "od"]), "good"),
    "null content": (message(content=None), ""),
    "no content": (message(reasoning="Hm."), ""),
    "no content but calls": (message(tool_calls=[CALL]), ""),
    "null calls": (message(content="good", tool_calls=None), "good"),
    "no index": (reply({k: v for k, v in choice().items() if k != "index"}), "good"),
    "null index": (reply(choice(None)), "good"),
    "text as index": (reply(choice("x")), "good"),
    "index out of range": (reply(choice(7)), "good"),
    "negative index": (reply(choice(-1)), "good"),
    "bool index": (reply(choice(True)), "good"),
    "one choice too many": (reply(choice(0), choice(1, "surplus")), "good"),
    "eos": (reply(choice(finish_reason="eos")), "good"),
    "eos_token": (reply(choice(finish_reason="eos_token")), "good"),
    "end_turn": (reply(choice(finish_reason="end_turn")), "good"),
    "max_tokens": (reply(choice(finish_reason="max_tokens")), "good"),
    "no usage": (reply(choice(), usage=None), "good"),
    "text as usage": (reply(choice(), usage="many"), "good"),
    "list as usage": (reply(choice(), usage=[1]), "good"),
    "text as counts": (reply(choice(), usage={"prompt_tokens": "many"}), "good"),
    "negative counts": (reply(choice(), usage={"prompt_tokens": -1}), "good"),
    "huge counts": (reply(choice(), usage={"completion_tokens": 2**70}), "good"),
    "fractions as counts": (reply(choice(), usage={"completion_tokens": 1.5}), "good"),
    "odd details": (reply(choice(), usage={"prompt_tokens_details": "x"}), "good"),
    "infinite count": (b'{"usage": {"prompt_tokens": 1e999}, ' + raw(reply(choice()))[1:], "good"),
    "odd reasoning": (message(content="good", reasoning={"a": 1}), "good"),
    "odd token ids": (reply(choice(token_ids="abc")), "good"),
    "list as logprobs": (logprobs([1]), "good"),
    "text as logprobs": (logprobs("x"), "good"),
    "no content in logprobs": (logprobs({}), "good"),
    "null in logprobs": (logprobs({"content": [None]}), "good"),
    "token without text": (logprobs({"content": [{"logprob": -1}]}), "good"),
    "text as logprob": (logprobs({"content": [{**TOKEN, "logprob": "x"}]}), "good"),
    "dict of top logprobs": (logprobs({"content": [{**TOKEN, "top_logprobs": {"a": 1}}]}), "good"),
    "null top logprobs": (logprobs({"content": [{**TOKEN, "top_logprobs": None}]}), "good"),
    "lone surrogate": (
        b'{"choices": [' + raw(choice(text="X")).replace(b"X", rb"a\ud800b") + b"]}",
        "a\ufffdb",
    ),
    "surrogate pair": (reply(choice(text="\U0001f600")), "\U0001f600"),
    "invalid UTF-8": (raw(reply(choice(text="X"))).replace(b"X", b"a\xffb"), "a\ufffdb"),
    "byte order mark in the text": (message(content="\ufeffgood"), "\ufeffgood"),
    "NUL": (message(content="a\0b"), "a\0b"),
    "NaN elsewhere": (b'{"x": NaN, ' + raw(reply(choice()))[1:], "good"),
    "error beside an answer": (reply(choice(), error=None), "good"),
}


@pytest.mark.parametrize("name", USABLE)
def test_what_is_usable_is_used(name):
    body, text = USABLE[name]
    (found,) = read_completion(raw(body), 1).choices
    assert isinstance(found, Choice)
    assert (found.text, found.finish_reason) == (text, "length" if name == "max_tokens" else "stop")
    assert found.reasoning in (None, "Hm.")
    usage = read_completion(raw(body), 1).usage
    assert usage == Usage()


BAD_CHOICES = {
    "text as choice": (reply("yes"), 'expected an answer from the server, got "yes"'),
    "null message": (reply(choice(message=None)), "expected a message from the server, got null"),
    "text as message": (reply(choice(message="yes")), "expected a message"),
    "list as message": (reply(choice(message=[])), "expected a message"),
    "empty message": (reply(choice(message={})), "expected a message with content"),
    "completion API": (reply({"text": "yes", "finish_reason": "stop"}), "expected a message"),
    "number as content": (message(content=7), "expected text from the server, got 7"),
    "object as content": (message(content={"a": 1}), 'expected text from the server, got {"a": 1}'),
    "image as content": (
        message(content=[{"type": "image_url", "image_url": "x"}]),
        "expected text",
    ),
    "null in content": (message(content=[None]), "expected text"),
    "text as calls": (message(content="x", tool_calls="look"), "expected tool calls"),
    "null call": (message(content="x", tool_calls=[None]), "expected tool calls"),
    "call without function": (
        message(content="x", tool_calls=[{"id": "1"}]),
        "expected tool calls",
    ),
    "null finish reason": (reply(choice(finish_reason=None)), "without a finish reason"),
    "number as finish reason": (reply(choice(finish_reason=3)), "without a finish reason"),
    "list as finish reason": (reply(choice(finish_reason=["stop"])), "without a finish reason"),
    "unknown finish reason": (reply(choice(finish_reason="tired")), "finish reason tired"),
    "long finish reason": (reply(choice(finish_reason="x" * 9999)), "finish reason xxx"),
    "filtered": (reply(choice(finish_reason="content_filter")), "finish reason content_filter"),
    "aborted": (reply(choice(finish_reason="abort")), "finish reason abort"),
}


@pytest.mark.parametrize("name", BAD_CHOICES)
def test_an_odd_answer_is_a_failure_that_says_what_came(name):
    body, said = BAD_CHOICES[name]
    (found,) = read_completion(raw(body), 1).choices
    assert isinstance(found, BadChoice)
    assert said in found.reason
    assert len(found.reason) < 400
    assert found.is_permanent == ("finish" in name or name == "filtered")


NO_ANSWER = {
    "nothing": (b"", "not valid JSON (an empty reply)"),
    "white space": (b" \n", "not valid JSON (an empty reply)"),
    "half": (b'{"choices": [', 'not valid JSON ({"choices": [)'),
    "text": (b"Service is starting", "not valid JSON (Service is starting)"),
    "stream": (b'data: {"choices": []}\n\n', 'not valid JSON (data: {"choices": []})'),
    "HTML": (b"<!doctype html><title>Log &amp; in</title><p>x", "(an HTML page: Log & in)"),
    "HTML without title": (b"<html><body>Bad <b>gateway</b>", "HTML or XML page: Bad gateway)"),
    "bytes": (bytes(range(256)), "not valid JSON"),
    "deep": (b"[" * 100_000, "not valid JSON"),
    "huge number": (b"1" * 10_000, "not valid JSON"),
    "null": (None, "returned no answer (null)"),
    "number": (7, "returned no answer (7)"),
    "list": ([1], "returned no answer ([1])"),
    "string": ("overloaded", "returned no answer (overloaded)"),
    "empty object": ({}, "returned no answer ({})"),
    "null choices": ({"choices": None}, 'returned no answer ({"choices": null})'),
    "no choices": (reply(), "returned no answer"),
    "object as choices": ({"choices": {"0": choice()}}, "returned no answer"),
    "text as choices": ({"choices": "good"}, "returned no answer"),
    "error": ({"error": {"message": "no GPU", "type": "x"}}, "returned no answer (no GPU)"),
    "error as text": ({"error": "no GPU"}, "returned no answer (no GPU)"),
    "message": ({"object": "error", "message": "no\nGPU"}, "returned no answer (no GPU)"),
    "detail": ({"detail": [{"msg": "too long"}, {"msg": "bad"}]}, "(too long; bad)"),
    "error as number": ({"error": 500}, 'returned no answer ({"error": 500})'),
    "surrogate in an error": (b'{"error": "a\\ud800"}', "returned no answer (a\ufffd)"),
    "long error": ({"error": "x" * 10**6}, "returned no answer (xxx"),
}


@pytest.mark.parametrize("name", NO_ANSWER)
def test_a_reply_without_an_answer_is_quoted(name):
    body, said = NO_ANSWER[name]
    with pytest.raises(OddReply) as raised:
        read_completion(raw(body), 1)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 400
    assert raised.value.status is None
    str(raised.value).encode()


@pytest.mark.parametrize(
    ("code", "status"), [(429, 429), ("503", 503), ("busy", None), (7, None), (None, None)]
)
def test_an_error_with_status_200_has_its_own_status(code, status):
    with pytest.raises(OddReply) as raised:
        read_completion(raw({"error": {"message": "busy", "code": code}}), 1)
    assert raised.value.status == status


@pytest.mark.parametrize(
    ("choices", "texts"),
    [
        ([choice(1, "b"), choice(0, "a"), choice(2, "c")], ["a", "b", "c"]),
        ([choice(1, "a"), choice(3, "c"), choice(2, "b")], ["a", "b", "c"]),
        ([choice(None, "a"), choice(None, "b"), choice(None, "c")], ["a", "b", "c"]),
        ([choice(0, "a")], ["a", None, None]),
        ([None], [None, None, None]),
        ([choice(0, "a"), choice(2, "c")], ["a", None, "c"]),
        ([choice(0, "a"), choice(0, "a"), choice(1, "b")], ["a", "b", None]),
        ([choice(0, "a"), choice(9, "x"), choice(1, "b"), choice(2, "c")], ["a", "b", "c"]),
        ([choice(None, "x"), choice(0, "a"), choice(1, "b")], ["a", "b", None]),
    ],
)
def test_answers_are_in_the_order_of_their_indexes(choices, texts):
    found = read_completion(raw(reply(*choices)), 3).choices
    assert [one and one.text for one in found] == texts


def test_counts_calls_and_log_probabilities_are_read():
    top = [{"token": "a", "logprob": -1}, {"token": "b", "logprob": float("nan")}]
    told = {"content": [{"token": "a", "logprob": -1, "top_logprobs": [*top, None, {"token": 3}]}]}
    call = {**CALL, "index": None}
    said = choice(logprobs=told, message={"role": "x", "tool_calls": [call]}, token_ids=[1, 2])
    usage = {"prompt_tokens": 7.0, "completion_tokens": 3}
    completion = read_completion(raw(reply(said, usage=usage)), 1)
    (found,) = completion.choices
    assert completion.usage == Usage(7, None, 3)
    assert (found.tool_calls, found.n_tokens) == ([CALL], 2)
    assert [(one.text, one.logprob, one.likeliest) for one in found.tokens] == [
        ("a", -1.0, {"a": -1.0})
    ]


@pytest.mark.parametrize(
    "body", [b"<html><title>Hello</title>", b"", {}, [], {"data": None}, {"data": "x"}, "x", None]
)
def test_what_is_no_list_of_models(body):
    with pytest.raises(OddReply):
        read_models(raw(body))


def test_odd_entries_in_a_list_of_models_are_left_out():
    listed = [None, "x", {"id": 3}, {}, {"id": "m", "max_model_len": "long", "owned_by": 3}]
    ((name, model),) = read_models(raw({"data": listed})).items()
    assert (name, model.context, model.owner) == ("m", None, None)


@pytest.mark.parametrize(
    ("body", "version"),
    [({"version": "0.32"}, "0.32"), ({"version": 3}, None), ([], None), (b"<html>", None)],
)
def test_the_version_of_a_server(body, version):
    assert read_version(raw(body)) == version


def test_secrets_that_a_server_repeats_are_masked(monkeypatch):
    secret = "hf_" + "abcdefgh"
    monkeypatch.setenv("HF_TOKEN", secret)
    body = raw({"error": {"message": f"wrong {secret} for https://me:pw@host/v1"}})
    assert quote(body) == "wrong *** for https://me:***@host/v1"
    (found,) = read_completion(raw(message(content={"key": secret})), 1).choices
    assert secret not in found.reason
