"""Tests of engines in separate processes. The scripted engine simulates crashes and hangs."""

from pathlib import Path

import pytest

from factory.engines import Request
from factory.engines import fleet as processes
from factory.engines.worker import Start
from factory.errors import EngineError
from factory.models import Checkpoint
from factory.recipe import Generation, ScriptedEngine

MODEL = Checkpoint("M_0", Path("m0"), "digest", "float32")

POISON = """
import os
def answer(messages, seed):
    if "poison" in messages[0]["content"]:
        os._exit(7)
    return "fine"
"""

ALWAYS = "import os\ndef answer(messages, seed):\n    os._exit(7)\n"

STOPS = """
import time
def answer(messages, seed):
    if "stop" in messages[0]["content"]:
        time.sleep(1000)
    return "fine"
"""


def request(name, text="hello", draws=(0, 1)):
    messages = [{"role": "user", "content": text}]
    return Request(name, messages, tuple(draws), 0, Generation(), MODEL)


def answered(tmp_path, source, asked, **settings):
    (tmp_path / "script.py").write_text(source)
    settings = ScriptedEngine(name="scripted", script="script.py:answer", **settings)
    start = Start(settings, (MODEL,), 0, tmp_path)
    with processes.open_fleet(start, [{}] * (settings.replicas or 1), tmp_path / "logs") as fleet:
        return list(fleet.generate(iter(asked)))


def test_a_request_that_ends_the_engine_each_time_fails_and_the_rest_goes_on(tmp_path):
    asked = [request(f"r{i}", "poison" if i == 20 else "hello") for i in range(60)]
    results = answered(tmp_path, POISON, asked)
    assert sorted((r.request_id, r.draw) for r in results) == sorted(
        (one.id, draw) for one in asked for draw in one.draws
    )
    failed = [result for result in results if result.error is not None]
    assert {result.request_id for result in failed} == {"r20"}
    expected = "the engine died each time it ran this request: the process exited with code 7"
    assert {result.error for result in failed} == {expected}
    assert all("code 7" in result.error for result in failed)
    assert {result.error_kind for result in failed} == {"permanent"}


def test_an_engine_that_always_dies_is_given_up(tmp_path):
    with pytest.raises(EngineError, match=r"died 2 times .*max_restarts.*code 7"):
        answered(tmp_path, ALWAYS, [request(f"r{i}") for i in range(50)], max_restarts=1)


@pytest.mark.slow
def test_an_engine_that_hangs_on_one_request_goes_on_without_it(tmp_path):
    asked = [request(f"r{i}", "stop" if i == 3 else "hello") for i in range(10)]
    results = answered(tmp_path, STOPS, asked, hang_seconds=1.0)
    failed = {result.request_id for result in results if result.error is not None}
    assert failed == {"r3"}
    assert any("generated no token for 1 s" in (result.error or "") for result in results)


def test_more_draws_than_an_engine_has_room_for_are_asked_in_parts(tmp_path):
    results = answered(tmp_path, POISON, [request("many", draws=range(200))])
    assert sorted(result.draw for result in results) == list(range(200))


@pytest.mark.slow
def test_engines_beside_each_other_make_the_same_lake(toy):
    toy.finish()
    alone = sorted(path.name for path in toy.lake.glob("pairs/*/*.parquet"))
    toy.lake = toy.folder / "other"
    toy.run("engine.replicas=2")
    assert sorted(path.name for path in toy.lake.glob("pairs/*/*.parquet")) == alone
    assert not list((toy.lake / "logs").iterdir())


def test_no_more_is_read_than_there_is_room_for(tmp_path):
    read = []

    def asked():
        for i in range(1000):
            read.append(i)
            yield request(f"r{i}")

    (tmp_path / "script.py").write_text(POISON)
    settings = ScriptedEngine(name="scripted", script="script.py:answer", delay=0.02)
    start = Start(settings, (MODEL,), 0, tmp_path)
    with processes.open_fleet(start, [{}], tmp_path / "logs") as fleet:
        next(fleet.generate(asked()))
        assert len(read) <= 64
