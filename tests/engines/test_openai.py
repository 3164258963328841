"""Tests of the openai engine with a real vLLM server and with a simulated faulty server."""

import dataclasses
import importlib.util
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("aiohttp")

from toys import QUICKSTART

from factory.engines import Request, check_engine
from factory.engines.openai import open_engine
from factory.errors import CostLimitReached, EngineError, RecipeError
from factory.lake import Lake, verify_lake
from factory.models import Checkpoint, token_counter
from factory.recipe import Generation, Judge, OpenaiEngine
from factory.stages import load_rubric, render_rubric

MODEL = Checkpoint("M_0", QUICKSTART / "m0", "digest", "float32")
GENERATION = Generation(temperature=1.0, top_p=1.0, max_tokens=12)
WORDS = ["stone", "apple", "qzjk", "moon", "tree", "river", "ab", "lantern"]


def request(name, text, draws=(0, 1, 2), **fields):
    messages = [{"role": "user", "content": text}]
    seed = sum(map(ord, name)) * 1000
    return dataclasses.replace(
        Request(name, messages, tuple(draws), seed, GENERATION, MODEL), **fields
    )


def requests(**fields):
    return [
        request(f"r{at}", f"Reverse the letters of {w}.", **fields) for at, w in enumerate(WORDS)
    ]


def answers(settings, asked, models=(MODEL,)):
    with open_engine(settings, models) as engine:
        results = list(engine.generate(iter(asked)))
    assert len(results) == sum(len(one.draws) for one in asked)
    return {(result.request_id, result.draw): result for result in results}


def texts(settings, asked, models=(MODEL,)):
    return {key: result.text for key, result in answers(settings, asked, models).items()}


# A real server


def free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def healthy(root, process, seconds=240):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{root}/health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    return False


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Start a vLLM server with the quickstart's model, and return the engine's settings."""
    if importlib.util.find_spec("vllm") is None:  # importing it takes seconds
        pytest.skip("vllm is not installed")
    port = free_port()
    # vLLM 0.32 on a CPU applies the adapter in its last slot to requests without an adapter
    # (vllm-project/vllm#48421). With more slots than adapters, the last one stays empty.
    options = (
        "--dtype float32 --enforce-eager --max-model-len 160 --served-model-name small "
        "--enable-lora --max-lora-rank 8 --max-loras 3"
    )
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *options.split()]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
    }
    log = tmp_path_factory.mktemp("vllm") / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--model", str(QUICKSTART / "m0")],
            stdout=out,
            stderr=out,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        root = f"http://127.0.0.1:{port}"
        assert healthy(root, process), log.read_text()[-3000:]
        yield OpenaiEngine(name="openai", base_url=f"{root}/v1", model="small")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def real(test):
    """Mark a test that asks a real vLLM: one worker runs them all, and starts the server once."""
    return pytest.mark.vllm(test)


@real
def test_a_server_answers_every_draw_and_says_how(served):
    with open_engine(served, [MODEL]) as engine:
        assert (engine.name, engine.version.split()[0]) == ("openai", "vllm")
        results = list(engine.generate(iter(requests())))
    assert {(r.request_id, r.draw) for r in results} == {
        (one.id, draw) for one in requests() for draw in (0, 1, 2)
    }
    count = token_counter(MODEL)
    lengths = {one.id: count(one.messages) for one in requests()}
    for result in results:
        assert result.error is None
        assert result.finish_reason == "stop"
        assert result.n_prompt_tokens == lengths[result.request_id]
        # Each letter, the full stop, and the end of the answer are one token each.
        assert result.n_tokens == len(result.text.replace(" ", "")) + 1
    assert len({result.text for result in results}) > 10


@real
def test_a_draw_is_the_same_asked_alone_and_in_a_run(served):
    together = texts(served, requests())
    one_by_one = served.model_copy(update={"native_n": False})
    assert texts(one_by_one, requests()) == together
    some = texts(served, requests(draws=(1, 2)))
    assert some == {key: text for key, text in together.items() if key[1] > 0}
    gap = texts(served, requests(draws=(0, 2)))
    assert gap == {key: text for key, text in together.items() if key[1] != 1}


@real
def test_greedy_draws_are_asked_one_by_one(served):
    greedy = GENERATION.model_copy(update={"temperature": 0.0})
    found = texts(served, requests(generation=greedy))
    assert all(len({found[one.id, draw] for draw in one.draws}) == 1 for one in requests())


@real
def test_settings_of_sampling_reach_the_server(served):
    likeliest = GENERATION.model_copy(update={"top_k": 1})
    found = texts(served, requests(generation=likeliest))
    assert all(len({found[one.id, draw] for draw in one.draws}) == 1 for one in requests())


@real
def test_a_request_that_does_not_fit_fails_and_the_others_go_on(served):
    long = request("long", "Copy the letters of " + "a" * 300 + ".")
    # vLLM accepts this request, but would truncate the answers at the end of its context.
    tight = request("tight", "Copy the letters of " + "a" * 142 + ".")
    results = answers(served, [*requests()[:2], long, tight, *requests()[2:4]])
    for draw in long.draws:
        assert results["long", draw].error_kind == results["tight", draw].error_kind == "permanent"
        assert "maximum context length is 160 tokens" in results["long", draw].error
        assert "the server's context length is 160" in results["tight", draw].error
    assert sum(result.error is None for result in results.values()) == 12


RUBRIC = load_rubric(Judge(rubric="rubric.md"), QUICKSTART)
LABELS = tuple("012345")


def judging(answer, **fields):
    item = {"prompt": "Reverse the letters of stone.", "answer": answer}
    (message,) = render_rubric(RUBRIC, item)
    generation = GENERATION.model_copy(update={"max_tokens": 32})
    return request(answer, message["content"], generation=generation, **fields)


@real
def test_a_score_has_the_log_probabilities_of_its_labels(served):
    asked = [judging(answer) for answer in ("enots.", "enst.", "stone", "zzzz")]
    wanted = {"labels": LABELS, "score_at": RUBRIC.parser}
    results = answers(served, [dataclasses.replace(one, **wanted) for one in asked])
    scored = 0
    for result in results.values():
        if result.score_logprobs is None:
            continue
        scored += 1
        logprobs = {row["label"]: row["logprob"] for row in result.score_logprobs}
        assert set(logprobs) <= set(LABELS)
        assert result.text[-1] in logprobs
        assert 0.5 < sum(map(math.exp, logprobs.values())) < 1.0001
    assert scored >= 6
    assert {key: result.text for key, result in results.items()} == texts(served, asked)


@real
def test_choices_hold_the_answer_to_a_label(served):
    asked = [judging(answer, choices=LABELS) for answer in ("enots.", "zzzz")]
    results = answers(
        served, [dataclasses.replace(one, labels=LABELS, score_at=r"^(\d)$") for one in asked]
    )
    assert all(result.text in LABELS for result in results.values())
    assert all(
        result.text in {row["label"] for row in result.score_logprobs}
        for result in results.values()
    )


def random_adapter(folder, seed=0):
    """Create a LoRA adapter that changes the answers of the quickstart's model."""
    peft = pytest.importorskip("peft")
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(QUICKSTART / "m0", dtype=torch.float32)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(model, config)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:  # initialized to zero, which would change nothing
            torch.nn.init.normal_(weight, std=0.5)
    adapted.save_pretrained(folder)
    return Checkpoint("M_1", MODEL.path, f"{seed:064x}", "float32", folder)


@real
def test_an_adapter_is_given_to_the_server_and_asked_by_its_name(served, tmp_path):
    adapted = random_adapter(tmp_path / "adapter")
    mixed = [
        one
        for base in requests()
        for one in (base, dataclasses.replace(base, id=f"{base.id}+", model=adapted))
    ]
    found = texts(served, mixed, [MODEL, adapted])
    assert {key: text for key, text in found.items() if "+" not in key[0]} == texts(
        served, requests()
    )
    changed = [found[one.id, 0] != found[f"{one.id}+", 0] for one in requests()]
    assert sum(changed) > len(changed) / 2
    # The server already has the adapter, and the engine finds it without opening it first.
    assert texts(served, mixed) == found


@real
def test_an_adapter_that_the_server_does_not_take(served, tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
    missing = Checkpoint("M_1", MODEL.path, "f" * 64, "float32", folder)
    with pytest.raises(EngineError, match=r"M_1 .*--enable-lora, and --max-lora-rank 4"):
        answers(served, requests(), [missing])


# A simulated server


class StandIn:
    """A simulated server with one model, `small`.

    `behave(body)` returns None to answer a request normally, "hang up" to close the connection, or
    a status, a body, and optional headers.
    """

    def __init__(self, behave=lambda body: None, delay=0.0):
        self.behave, self.delay = behave, delay
        self.asked = []
        self.gone = False
        self.open = self.most_open = 0
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def handler(stand_in):  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                if stand_in.gone and stand_in.asked:
                    self.close_connection = True
                    return
                self.reply(200, {"object": "list", "data": [{"id": "small", "owned_by": "us"}]})

            def do_POST(self):
                length = int(self.headers["Content-Length"])
                content = self.rfile.read(length)
                if len(content) < length:  # the client canceled the request
                    self.close_connection = True
                    return
                body = json.loads(content)
                stand_in.count(1)
                stand_in.asked.append(body)
                time.sleep(stand_in.delay)
                said = stand_in.behave(body)
                stand_in.count(-1)
                if said == "hang up":
                    self.close_connection = True
                elif said is None:
                    self.reply(200, completion(body))
                else:
                    self.reply(*said)

            def reply(self, status, said, **headers):
                content = json.dumps(said).encode()
                self.send_response(status)
                headers = {"Content-Type": "application/json", **headers}
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.wfile.write(content)
                except OSError:
                    self.close_connection = True

        return Handler

    def count(self, change):
        with self.lock:
            self.open += change
            self.most_open = max(self.most_open, self.open)

    def settings(self, **fields):
        base_url = f"http://127.0.0.1:{self.server.server_port}/v1"
        return OpenaiEngine(
            **{"name": "openai", "base_url": base_url, "model": "small", "max_retries": 1, **fields}
        )

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def completion(body, **fields):
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": f"answer {body['seed'] + index}", **fields},
            "finish_reason": "stop",
        }
        for index in range(body.get("n", 1))
    ]
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": 3 * len(choices),
        "total_tokens": 0,
        "prompt_tokens_details": {"cached_tokens": 5},
    }
    return {"id": "c", "object": "chat.completion", "choices": choices, "usage": usage}


def refused(message):
    return {"error": {"message": message, "type": "any", "code": None}}


@pytest.fixture
def stand_in():
    opened = []

    def start(*args, **kwargs):
        opened.append(StandIn(*args, **kwargs))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_other_servers_are_asked_nothing_that_they_need_not_know(stand_in):
    server = stand_in()
    (one,) = requests()[:1]
    results = answers(server.settings(), [one])
    assert [result.text for result in results.values()] == [
        f"answer {one.seed + draw}" for draw in one.draws
    ]
    (body,) = server.asked
    assert body == {
        "model": "small",
        "messages": [{"role": "user", "content": "Reverse the letters of stone."}],
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 12,
        "seed": one.seed,
        "n": 3,
    }


def test_a_server_that_is_busy_is_asked_again(stand_in):
    server = stand_in(
        lambda body: (
            (429, refused("slow down"), {"retry-after": "0.01"}) if len(server.asked) < 3 else None
        )
    )
    found = texts(server.settings(max_retries=3), [request("r", "Say hello.", [0])])
    assert found["r", 0].startswith("answer")
    assert len(server.asked) == 3


def test_a_server_that_goes_on_failing_is_a_failure_for_now(stand_in):
    server = stand_in(lambda body: (500, refused("out\nof order")))
    results = answers(server.settings(), [request("r", "Say hello.", [0, 1])])
    assert len(server.asked) == 2
    for result in results.values():
        assert result.error == "the server failed (500: out of order)"
        assert result.error_kind == "transient"


def test_a_request_that_a_server_refuses_is_a_failure_for_good(stand_in):
    bad = (400, refused("too " + "long " * 100))
    server = stand_in(lambda body: bad if "bad" in body["messages"][0]["content"] else None)
    results = answers(server.settings(), [request("a", "good"), request("b", "bad", [0])])
    assert results["b", 0].error_kind == "permanent"
    assert results["b", 0].error.startswith("the server refused the request (400: too long long")
    assert len(results["b", 0].error) < 350
    assert [result.error for key, result in results.items() if key[0] == "a"] == [None] * 3


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_ends_the_step(stand_in, monkeypatch, status):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    server = stand_in(lambda body: (status, refused("wrong key sk-very-secret")))
    expected = (
        rf"refused the API key \({status}: wrong key \*\*\*\): set the environment variable MY_KEY"
    )
    with pytest.raises(EngineError, match=expected) as raised:
        answers(server.settings(key="MY_KEY"), requests())
    assert "secret" not in str(raised.value)


def test_a_key_that_is_not_set_is_named(stand_in, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = stand_in(lambda body: (401, refused("who are you?")))
    with pytest.raises(EngineError, match=r"you\?\), and OPENAI_API_KEY is not set: set the"):
        answers(server.settings(), requests())


def test_the_key_is_in_no_row(stand_in, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    server = stand_in(lambda body: (400, refused("x" * 290 + " sk-very-secret is not allowed")))
    results = answers(server.settings(), requests())
    assert "secret" not in repr(results)
    assert "sk-" not in repr(results)
    assert "***" in results["r0", 0].error


def test_a_model_that_is_gone_ends_the_step(stand_in):
    server = stand_in(lambda body: (404, refused("The model `small` does not exist.")))
    with pytest.raises(EngineError, match="404: The model `small` does not exist"):
        answers(server.settings(), requests())


def test_a_lost_connection_is_a_failure_for_now(stand_in):
    server = stand_in(lambda body: "hang up")
    results = answers(server.settings(), [request("r", "Say hello.", [0])])
    assert results["r", 0].error == "the connection was lost (ServerDisconnectedError)"
    assert results["r", 0].error_kind == "transient"
    assert len(server.asked) == 2


def test_a_server_that_dies_ends_the_step(stand_in):
    server = stand_in(lambda body: "hang up")
    server.gone = True
    with pytest.raises(EngineError, match="cannot be reached"):
        answers(server.settings(max_retries=0), requests())


def test_a_slow_answer_is_a_failure_for_now(stand_in):
    server = stand_in(delay=0.5)
    results = answers(server.settings(timeout=0.1, max_retries=0), [request("r", "Hello.", [0])])
    assert results["r", 0].error == "the server did not answer within 0.1 seconds"
    assert results["r", 0].error_kind == "transient"


def test_a_server_that_cannot_be_reached():
    settings = OpenaiEngine(name="openai", base_url=f"http://127.0.0.1:{free_port()}/v1", model="m")
    with pytest.raises(EngineError, match=r"cannot be reached .*: start the server, or correct"):
        answers(settings, requests())


def test_a_model_that_is_not_served(stand_in):
    with pytest.raises(EngineError, match=r"does not serve the model other: choose .* \(small\)"):
        answers(stand_in().settings(model="other"), requests())


def test_a_model_with_other_weights_is_not_taken_for_the_served_one(stand_in):
    trained = dataclasses.replace(MODEL, name="M_1", digest="other")
    with pytest.raises(EngineError, match="M_1 has different weights: train adapters"):
        answers(stand_in().settings(), requests(), [trained])


def test_a_server_that_gives_one_answer_for_many(stand_in):
    server = stand_in(lambda body: (200, completion({**body, "n": 1})))
    results = answers(server.settings(), [request("r", "Say hello.")])
    expected = "expected 3 answers from the server, got 1: set engine.native_n to false"
    assert [results["r", draw].error for draw in (0, 1, 2)] == [None, expected, expected]
    found = texts(server.settings(native_n=False), [request("r", "Say hello.")])
    assert len(set(found.values())) == 3


def test_reasoning_and_tool_calls_are_kept(stand_in):
    function = {"name": "look", "arguments": '{"at": "moon"}'}
    call = {"id": "1", "type": "function", "function": function}
    shown = {**call, "function": {**function, "arguments": {"at": "moon"}}}
    server = stand_in(
        lambda body: (200, completion(body, reasoning_content="Hm.", tool_calls=[call]))
    )
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    said = [
        {"role": "assistant", "content": None, "tool_calls": [shown]},
        {"role": "tool", "content": "full", "tool_call_id": "1"},
    ]
    one = request("r", "Hello.", [4], tools=tools, template_kwargs={"enable_thinking": True})
    one = dataclasses.replace(one, messages=[*one.messages, *said])
    result = answers(server.settings(), [one])["r", 4]
    assert result.reasoning == "Hm."
    assert json.loads(result.tool_calls) == [call]
    (body,) = server.asked
    assert body["tools"] == tools
    assert body["chat_template_kwargs"] == {"enable_thinking": True}
    assert body["messages"][1] == {"role": "assistant", "content": None, "tool_calls": [call]}
    assert body["seed"] == one.seed + 4


def test_what_the_server_tells_of_all_answers_is_not_said_of_each(stand_in):
    several = answers(stand_in().settings(), [request("r", "Hello.", [0, 1])])
    for result in several.values():
        assert (result.n_prompt_tokens, result.n_cached_tokens) == (7, None)
        # Counted from the text: each letter and the end of the answer are one token each.
        assert result.n_tokens > len("answer")
    alone = answers(stand_in().settings(), [request("r", "Hello.", [0])])["r", 0]
    assert (alone.n_prompt_tokens, alone.n_cached_tokens, alone.n_tokens) == (7, 5, 3)


def test_prices_make_costs(stand_in):
    asked = [request("r", "Hello.", [0, 1]), request("s", "Hello.", [0])]
    priced = stand_in().settings(price_prompt=3.0, price_generated=10.0)
    costs = {key: result.cost for key, result in answers(priced, asked).items()}
    # 7 prompt tokens, and 3 per answer. The prompt of two answers costs only once.
    assert costs["r", 0] == costs["r", 1] == pytest.approx((7 * 3 + 6 * 10) / 2e6)
    assert costs["s", 0] == pytest.approx((7 * 3 + 3 * 10) / 1e6)
    unpriced = answers(stand_in().settings(), asked)
    assert {result.cost for result in unpriced.values()} == {None}


def test_an_answer_that_was_filtered_is_a_failure_for_good(stand_in):
    def filtered(body):
        said = completion(body)
        said["choices"][0]["finish_reason"] = "content_filter"
        return 200, said

    result = answers(stand_in(filtered).settings(), [request("r", "Hello.", [0])])["r", 0]
    assert result.error == "the server stopped the answer with finish reason content_filter"
    assert result.error_kind == "permanent"


def scored(tokens, content):
    """Return a behavior of StandIn: a judgment with these tokens and their log-probabilities."""

    def behave(body):
        assert (body["logprobs"], body["top_logprobs"]) == (True, 20)
        told = [
            {
                "token": token,
                "logprob": math.log(0.5),
                "top_logprobs": [
                    {"token": token, "logprob": math.log(0.5)},
                    {"token": " 1", "logprob": math.log(0.2)},
                    {"token": "1", "logprob": math.log(0.1)},
                    {"token": "one", "logprob": math.log(0.1)},
                ],
            }
            for token in tokens
        ]
        said = completion(body, content=content)
        said["choices"][0]["logprobs"] = {"content": told}
        return 200, said

    return behave


@pytest.mark.parametrize(
    "tokens",
    [
        ["4", " of", " 5", ".", " Score", ":", " 3", "<end>"],
        ["4", "of", "5", ".", "Score", ":", "3", "<end>"],  # decoded by SentencePiece
        ["Score", ":", " 2", "4 ", "of", "", " 5.", " Sco", "re:", " ", "3"],  # after reasoning
    ],
)
def test_a_score_is_found_among_the_tokens(stand_in, tokens):
    server = stand_in(scored(tokens, "4 of 5. Score: 3"))
    one = request("r", "Judge.", [0], labels=LABELS, score_at=r"Score: (\d)")
    (result,) = answers(server.settings(), [one]).values()
    logprobs = {row["label"]: math.exp(row["logprob"]) for row in result.score_logprobs}
    assert logprobs == pytest.approx({"3": 0.5, "1": 0.3})


def test_an_answer_without_a_score_has_no_log_probabilities(stand_in):
    one = request("r", "Judge.", [0], labels=LABELS, score_at=r"Score: (\d)")
    for tokens, content in ((["No", " idea"], "No idea"), (["Score", ": 3"], "Score: 3")):
        (result,) = answers(stand_in(scored(tokens, content)).settings(), [one]).values()
        assert result.score_logprobs is None
        assert result.text == content


@pytest.mark.parametrize(
    ("labels", "tokens", "split"),
    [
        (("1", "10"), ["Score", ":", " 1", "0"], "10"),
        (("4", "4.5"), ["Score", ":", " 4", ".", "5"], "4.5"),
        (("-1", "1"), ["Score", ":", " -", "1"], "-1"),
        (("good", "bad"), ["Score", ":", " go", "od"], "good"),
        (("1", "10"), ["Score", ":", " 10"], None),
        (("1", "10"), ["Score", ":", " 1"], None),
        (("4", "5"), ["Score", ":", " 4", ".", "5"], None),
    ],
)
def test_a_label_that_the_server_splits_stops_the_run(stand_in, labels, tokens, split):
    server = stand_in(scored(tokens, "".join(tokens)))
    one = request("r", "Judge.", [0], labels=labels, score_at=r"Score: (.+)")
    if split is None:
        (result,) = answers(server.settings(), [one]).values()
        found = {row["label"]: math.exp(row["logprob"]) for row in result.score_logprobs}
        assert found[tokens[2].strip()] >= 0.5 - 1e-9
        return
    with pytest.raises(EngineError, match=f"splits the label {split} into several tokens"):
        answers(server.settings(), [one])


def test_no_more_requests_are_in_flight_than_there_is_room_for(stand_in):
    server = stand_in(delay=0.05)
    read = []

    def asked():
        for at in range(24):
            read.append(threading.current_thread())
            yield request(f"r{at}", "Hello.", [0])

    with open_engine(server.settings(concurrency=4), [MODEL]) as engine:
        results = engine.generate(asked())
        next(results)
        assert len(read) <= 8
        assert len(list(results)) == 23
    assert 1 < server.most_open <= 4
    assert set(read) == {threading.main_thread()}


def test_a_straggler_holds_up_nobody(stand_in):
    others_came = threading.Event()

    def behave(body):
        if body["messages"][0]["content"] == "slow":
            others_came.wait(10)

    asked = [request("slow", "slow", [0]), *(request(f"r{at}", "Hi.", [0]) for at in range(20))]
    order = []
    with open_engine(stand_in(behave).settings(concurrency=2), [MODEL]) as engine:
        for result in engine.generate(iter(asked)):
            order.append(result.request_id)
            if len(order) == 20:
                others_came.set()
    assert order[-1] == "slow"


def threads():
    """Return the names of the engine's threads, including those that resolve host names."""
    names = {thread.name for thread in threading.enumerate()}
    return {name for name in names if name.startswith(("openai", "asyncio"))}


class Stop(Exception):
    pass


def leave_by_closing(results):
    results.close()


def leave_by_raising(results):
    raise Stop


def leave_by_interrupt(results):
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    list(results)


@pytest.fixture
def interruptible():
    """Python's own handler of SIGINT. A shell starts its background jobs with SIGINT ignored, and
    the tests inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("leave", [leave_by_closing, leave_by_raising, leave_by_interrupt])
def test_leaving_early_gives_up_what_is_in_flight(stand_in, leave):
    left = threading.Event()
    first, *others = (request(f"r{at}", str(at), [0]) for at in range(10))

    def behave(body):
        if body["messages"][0]["content"] != "0":
            left.wait(30)

    server = stand_in(behave)
    began = time.monotonic()
    try:
        with open_engine(server.settings(concurrency=4), [MODEL]) as engine:
            results = engine.generate(iter([first, *others]))
            assert next(results).request_id == "r0"
            assert threads()
            leave(results)
    except (Stop, KeyboardInterrupt):
        assert leave is not leave_by_closing
    else:
        assert leave is leave_by_closing
    assert time.monotonic() - began < 5
    assert not threads()
    left.set()


def test_what_reading_the_requests_raises_comes_through(stand_in):
    def asked():
        yield request("r", "Hello.", [0])
        raise Stop

    with (
        pytest.raises(Stop),
        open_engine(stand_in(delay=0.2).settings(), [MODEL]) as engine,
    ):
        list(engine.generate(asked()))
    assert not threads()


# A dataset without training


def answer_and_judge(body):
    """Answer with a number, which a judgment of the quickstart's rubric also ends with."""
    number = body["seed"] % 6
    said = completion(body)
    for choice in said["choices"]:
        text = f"abc {choice['index']}. Score: {(number + choice['index']) % 6}"
        choice["message"]["content"] = text
    return 200, said


@pytest.fixture
def served_recipe(small, stand_in):
    """A recipe for the simulated server that trains no model, and the server."""
    server = stand_in(answer_and_judge)
    url = server.settings().base_url
    small.fields["engine"] = {"name": "openai", "base_url": url, "model": "small"}
    small.fields.pop("train", None)
    small.fields["loop"] = {"iterations": 0}
    small.write()
    return small, server


WITH_FILES = str(QUICKSTART / "m0")
DECLARED = {"declared": "2026-05"}


@pytest.mark.parametrize(
    "model",
    [pytest.param(WITH_FILES, marks=pytest.mark.slow), DECLARED],
    ids=["files", "declared"],
)
@pytest.mark.parametrize(
    "train", [None, pytest.param({"lora": {}}, marks=pytest.mark.slow)], ids=["no train", "lora"]
)
def test_a_server_makes_a_dataset_without_training(served_recipe, factory, model, train, tmp_path):
    toy, server = served_recipe
    toy.fields["model"] = model
    toy.write(**({"train": train} if train else {}))
    ended = factory("run", toy.path, "--lake", toy.lake, "--json")
    assert ended.code == 0, ended.err
    (gap,) = ended.json()["gaps"]
    assert (gap["phase"], gap["prompts"]) == ("D1", 24)
    assert gap["kept"] > 10
    assert {body["model"] for body in server.asked} == {"small"}
    digests = {row["digest"] for row in toy.query("from models")}
    assert digests == {row["model"] for row in toy.query("select distinct model from samples")}
    checked = factory("doctor", toy.path, "--lake", toy.lake, "--json").json()["checks"]
    assert {row["mark"] for row in checked if row["name"] in ("server", "training")} == {"ok"}
    out = ("--to", "trl", "--out", tmp_path / "trl")
    exported = factory("export", toy.path, "--lake", toy.lake, *out, "--json").json()
    trained = "MODEL" if model == DECLARED else WITH_FILES
    assert exported["command"].endswith(f"--model_name_or_path {trained}")


@pytest.mark.slow
def test_a_declared_model_is_published_as_what_it_is(served_recipe, factory, tmp_path):
    toy, _ = served_recipe
    toy.fields["model"] = DECLARED
    toy.write(prompts={"license": "MIT"})
    assert factory("run", toy.path, "--lake", toy.lake).code == 0
    folder = tmp_path / "published"
    ended = factory(
        *("publish", toy.path, "--lake", toy.lake, "--repo", "org/toy", "--dry-run", folder),
        *("--allow", "similar", "--allow", "personal"),
    )
    assert ended.code == 0, ended.err
    card = (folder / "README.md").read_text()
    assert "| M_0 | `small` on a server, declared revision 2026-05 |" in card
    assert "M_0 is `small`." in card
    (model,) = json.loads((folder / "lineage.json").read_text())["models"]
    assert (model["name"], model["served"], model["revision"]) == ("M_0", "small", "2026-05")
    assert "path:" not in (folder / "recipe.yaml").read_text()


@pytest.mark.slow
def test_another_declared_revision_asks_again(served_recipe):
    toy, _ = served_recipe
    toy.fields["model"] = DECLARED
    toy.write()
    toy.run()
    assert toy.to_do() == set()
    toy.fields["model"] = {"declared": "2026-06"}
    toy.write()
    assert "samples" in toy.to_do()


# The environment of the engine


@pytest.mark.parametrize(
    ("variables", "base_url", "said"),
    [
        ({"OPENAI_API_KEY": "sk-a\nb"}, "http://h/v1", "OPENAI_API_KEY contains"),
        ({"OPENAI_API_KEY": "sk-\u00e4"}, "http://h/v1", "OPENAI_API_KEY contains"),
        ({"OPENAI_PROJECT_ID": "a\x00"}, "http://h/v1", None),
        ({"http_proxy": "socks5://p:1"}, "http://h/v1", "http_proxy is socks5://p:1, but"),
        ({"ALL_PROXY": "socks5h://p:1"}, "https://h/v1", "ALL_PROXY is socks5h://p:1, but"),
        (
            {"http_proxy": "http://me:pw@p:port"},
            "http://h/v1",
            "http_proxy is http://me:***@p:port",
        ),
        ({"http_proxy": "socks5://p:1"}, "https://h/v1", None),
        ({"http_proxy": "socks5://p:1", "no_proxy": "h"}, "http://h/v1", None),
        ({"http_proxy": "p:3128"}, "http://h/v1", None),
        ({"SSL_CERT_FILE": "/nowhere.pem"}, "https://h/v1", "SSL_CERT_FILE is /nowhere.pem, which"),
        ({"SSL_CERT_FILE": __file__}, "https://h/v1", "which contains no certificates"),
        ({"SSL_CERT_DIR": "/nowhere"}, "https://h/v1", "SSL_CERT_DIR is /nowhere, which"),
        ({"SSL_CERT_FILE": "/nowhere.pem"}, "http://h/v1", None),
    ],
)
def test_an_environment_that_does_not_work_is_refused(monkeypatch, variables, base_url, said):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in variables.items():
        if "\0" not in value:  # an environment variable cannot contain it
            monkeypatch.setenv(name, value)
    settings = OpenaiEngine(name="openai", base_url=base_url, model="m")
    if said is None:
        check_engine(settings, 0, "judge.engine")
        return
    with pytest.raises(RecipeError, match=r"^judge\.engine\.(key|base_url): ") as raised:
        check_engine(settings, 0, "judge.engine")
    assert said in str(raised.value)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://h:99999/v1",
            "http://h:port/v1",
            "http://[::1/v1",
            "http://h/v1#x",
            "http://:80/v1",
        ),
        *("http://h/v1/chat/completions", "http://h/v1/completions/", "http://h /v1", "ftp://h/v1"),
        *("http://h/v1\n", "http://h\0/v1", f"http://{'h' * 70}/v1", "http://.h/v1"),
    ],
)
def test_an_address_that_cannot_be_right_is_refused(url):
    with pytest.raises(ValueError, match="base_url"):
        OpenaiEngine(name="openai", base_url=url, model="m")


@pytest.mark.parametrize("end", ["", "/", "//", "?api-version=3"])
def test_paths_are_joined_to_the_address(stand_in, end):
    server = stand_in()
    address = server.settings().base_url + end
    results = answers(server.settings(base_url=address), requests()[:1])
    assert [result.error for result in results.values()] == [None] * 3


# A limit on the cost


PRICES = {"price_prompt": 0.0, "price_generated": 1e6}
"""An answer of a stand-in has 3 tokens and costs 3. The largest possible answer costs 12."""


def test_nothing_is_asked_that_could_exceed_the_limit(stand_in):
    server = stand_in()
    asked = [request(f"r{at}", "Hello.", [0]) for at in range(20)]
    settings = server.settings(max_cost=40, concurrency=4, **PRICES)
    found = []
    with (
        pytest.raises(CostLimitReached, match=r"^engine.max_cost: 30 of 40 .* up to 12: raise"),
        open_engine(settings, [MODEL]) as engine,
    ):
        found.extend(engine.generate(iter(asked)))
    assert len(found) == 0 or found[-1].cost == 3
    assert len(server.asked) == 10
    assert server.most_open <= 3


def test_what_was_spent_before_counts(stand_in):
    server = stand_in()
    settings = server.settings(max_cost=40, **PRICES)
    with (
        pytest.raises(CostLimitReached),
        open_engine(settings, [MODEL], spent=25.0) as engine,
    ):
        list(engine.generate(iter([request(f"r{at}", "Hello.", [0]) for at in range(9)])))
    assert len(server.asked) == 2


def test_an_unknown_cost_counts_as_the_largest(stand_in):
    def behave(body):
        return 200, {**completion(body), "usage": None}

    settings = stand_in(behave).settings(max_cost=100, **PRICES)
    (result,) = answers(settings, [request("r", "Hello.", [0])]).values()
    assert (result.text is not None, result.cost) == (True, 12)


def test_a_limit_needs_prices():
    with pytest.raises(ValueError, match="price_generated"):
        OpenaiEngine(name="openai", base_url="http://h", model="m", max_cost=1, price_prompt=1)


def test_a_run_stops_at_its_limit_and_goes_on_once_it_is_raised(served_recipe, factory):
    toy, server = served_recipe
    del toy.fields["probe"]  # a function judges it
    toy.fields["engine"] |= {"max_cost": 100, **PRICES}
    toy.write()
    ended = factory("run", toy.path, "--lake", toy.lake)
    assert ended.code == 1
    assert "engine.max_cost: " in ended.err
    assert "answers are missing: raise engine.max_cost" in ended.err
    n_asked = len(server.asked)
    assert factory("run", toy.path, "--lake", toy.lake).code == 1
    assert len(server.asked) == n_asked
    toy.fields["engine"]["max_cost"] = 1e6
    toy.write()
    assert factory("run", toy.path, "--lake", toy.lake).code == 0
    (rows,) = toy.query("select (select count(*) from samples) + count(*) as n from judgments")
    assert sum(body.get("n", 1) for body in server.asked) == rows["n"]


def test_odd_replies_become_failed_rows(stand_in):
    odd = {
        "a": (200, refused("no GPU left")),
        "b": (200, "<html><title>Log in</title>"),
        "c": (200, {"choices": [{"index": 0, "message": None, "finish_reason": "stop"}]}),
        "d": (200, {**refused("busy"), "error": {"message": "busy", "code": 503}}),
    }
    server = stand_in(lambda body: odd.get(body["messages"][0]["content"]))
    asked = [request(name, name, [0]) for name in [*odd, "good"]]
    found = {key[0]: one.error for key, one in answers(server.settings(), asked).items()}
    assert found["good"] is None
    assert found["a"] == "the server returned no answer (no GPU left)"
    assert "an HTML page: Log in" in found["b"]
    assert found["c"] == "expected a message from the server, got null"
    assert found["d"].startswith("the server failed (")
    assert sum(body["messages"][0]["content"] == "d" for body in server.asked) == 2


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_repeats_only_requests_of_the_last_second(
    served_recipe, stand_in
):
    """1,200 requests and 20 kills."""
    toy, _ = served_recipe
    answered: dict[tuple[str, int], float] = {}
    repeated: list[float] = []
    kills: list[float] = []

    def behave(body):
        for index in range(body.get("n", 1)):
            draw = json.dumps(body["messages"]), body["seed"] + index
            if draw in answered:
                repeated.append(answered[draw])
            answered[draw] = time.monotonic()
        return answer_and_judge(body)

    server = stand_in(behave, delay=0.1)
    toy.fields["engine"] = server.settings(concurrency=4).model_dump(exclude_unset=True)
    toy.fields["sampling"]["draws"] = 12
    del toy.fields["probe"]  # a function judges it
    toy.fields["judge"]["draws"] = 1
    toy.write()
    rng = random.Random(0)
    process = None
    while process is None or process.returncode != 0:
        process = toy.process("run", str(toy.path), "--lake", str(toy.lake), start_new_session=True)
        n_answered = len(answered)
        while process.poll() is None and len(answered) == n_answered:
            time.sleep(0.01)
        if len(kills) < 20:
            time.sleep(rng.uniform(0.3, 1.5))
            assert process.poll() is None, "the run ended before the last kill"
            os.killpg(process.pid, signal.SIGKILL)
            kills.append(time.monotonic())
        _, err = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), err
    assert len(kills) == 20
    (rows,) = toy.query(
        "select (select count(*) from samples) as answers, count(*) as judgments from judgments"
    )
    assert len(answered) == rows["answers"] + rows["judgments"] >= 1100
    # A repeated request was pending at a kill, or its answer came within the second before one.
    excused = [any(at - 0.5 <= kill < at + 1 for kill in kills) for at in repeated]
    assert all(excused)
    assert verify_lake(Lake(toy.lake)).faults == []
    print(f"{len(repeated)} of {len(answered)} requests repeated after {len(kills)} kills")
