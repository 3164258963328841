"""A fixed judge with its own model and engine."""

import pytest

from factory.engines import open as engines
from factory.plan import loads, steps
from factory.recipe import ScriptedEngine
from factory.report import generation_lines
from factory.run import engine_cache

SCRIPT = "def answer(messages, seed):\n    return f'Score: {seed % 6}'"


@pytest.fixture
def judged(toy):
    """A toy recipe whose judge has its own model."""
    (toy.folder / "big").mkdir()
    (toy.folder / "big" / "scripted.json").write_text('{"size": "big"}')
    (toy.folder / "scores.py").write_text(SCRIPT)
    engine = {"name": "scripted", "script": "scores.py:answer"}
    toy.write(judge={"model": "big", "engine": engine})
    return toy


def test_one_judge_scores_all_iterations(judged):
    judged.finish()
    survey = judged.look()
    digest = survey.models["judge"].digest
    assert digest not in {survey.models[name].digest for name in ("M_0", "F_0", "M_1", "M_2")}
    for table in ("judgments", "pairs"):
        (row,) = judged.query(f"select distinct judge_model from {table}")
        assert row["judge_model"] == digest
    # One folder, because the judge's settings do not depend on the model that wrote the answers.
    assert len(list((judged.lake / "judgments").iterdir())) == 1
    assert judged.query("from scores where n_judgments = 0") == []
    assert judged.query(f"from models where digest = '{digest}'") != []
    assert judged.to_do() == set()


def test_the_judge_runs_on_the_engine_of_its_own(judged, monkeypatch):
    opened = []
    real = engines.open_engine

    def noted(settings, models, rank, *places):
        opened.append((models[0].name, settings.replicas, rank))
        return real(settings, models, rank, *places)

    monkeypatch.setattr(engine_cache, "open_engine", noted)
    judged.write(judge={"engine": {**judged.fields["judge"]["engine"], "replicas": 2}})
    survey = judged.run("loop.iterations=1")
    assert opened == [("M_0", None, 0), ("judge", 2, 0), ("F_0", None, 0), ("judge", 2, 0)]
    assert loads(survey.recipe, steps(survey.recipe)) == len(opened)


def first_missing(toy, *overrides):
    found = toy.look(*overrides).steps
    return {step.stage for step, at in found.items() if not at.done and at.waits_for is None}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("judge.engine={name: scripted}", marks=pytest.mark.slow),
        "judge.engine.script='own.py:answer'",
        pytest.param("judge.model.dtype=bfloat16", marks=pytest.mark.slow),
        pytest.param("judge={draws: 2, max_tokens: 64}", marks=pytest.mark.slow),
    ],
)
def test_another_judge_judges_again_and_samples_nothing(judged, change):
    (judged.folder / "own.py").write_text("def answer(messages, seed): return 'Score: 1'\n")
    judged.finish()
    again = first_missing(judged, change)
    assert "judgments" in again
    assert "samples" not in again


@pytest.mark.parametrize(
    "change",
    [
        "judge.engine.replicas=2",
        pytest.param("judge.engine.delay=0.1", marks=pytest.mark.slow),
        pytest.param("judge.engine.hang_seconds=9", marks=pytest.mark.slow),
    ],
)
def test_how_the_judge_is_run_makes_nothing_again(judged, change):
    judged.finish()
    assert judged.to_do(change) == set()


def test_other_weights_of_the_judge_judge_again(judged):
    judged.finish()
    (judged.folder / "big" / "model.safetensors").write_text("other")
    again = first_missing(judged)
    assert "judgments" in again
    assert "samples" not in again


def test_the_judge_takes_its_own_generation_config(judged):
    (judged.folder / "big" / "generation_config.json").write_text('{"top_k": 3}')
    survey = judged.look()
    assert survey.recipe.judge.top_k == 3
    assert survey.recipe.sampling.top_k is None
    sampling, judge = generation_lines(survey)
    assert "top_k 3 (the model's generation_config)" in judge
    assert "top_k" not in sampling


def test_titles_say_who_judges(judged, factory):
    told = factory("plan", judged.path, "--lake", judged.lake).out
    assert "judgments M_0 past by the judge" in told


def test_without_an_engine_of_its_own_it_runs_on_the_recipe_s(judged):
    recipe = judged.recipe("judge.engine=null")
    assert recipe.engine_of("judge") == recipe.engine == ScriptedEngine(name="scripted")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("judge.model=nowhere", "judge.model.path: nowhere is not a folder"),
        ("judge.function='gold.py:grade'", "function and model are both set"),
        ("judge.model=null", "judge.engine: the judge has an engine but no separate model"),
        ("judge.engine={name: vlm}", "judge.engine.name: got"),
        ("judge.engine.scrpt=x", "judge.engine.scrpt: unknown field: did you mean"),
        pytest.param(
            "judge.engine={name: vllm, enforce_eagre: true}",
            "did you mean enforce_eager",
            marks=pytest.mark.vllm,
        ),
    ],
)
def test_what_a_judge_cannot_be_is_said_in_a_sentence(judged, factory, change, said):
    if "vllm" in change:
        pytest.importorskip("vllm.version", reason="vllm is not installed")
        (judged.folder / "big" / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
        (judged.folder / "big" / "config.json").write_text("{}")
        (judged.folder / "big" / "tokenizer.json").write_text("{}")
        (judged.folder / "big" / "chat_template.jinja").write_text("{{ messages }}")
    ended = factory("run", judged.path, "--lake", judged.lake, "--set", change)
    assert ended.code == 2
    assert said in ended.err
    assert not judged.shards("samples")


def test_doctor_looks_at_the_judge_too(judged, factory):
    told = factory("doctor", judged.path, "--lake", judged.lake).out
    assert "judge's engine" in told


def test_a_server_has_a_name_of_its_own_for_the_judge(judged, factory):
    judged.fields["engine"] = {"name": "openai", "base_url": "http://localhost:1/v1", "model": "s"}
    del judged.fields["judge"]["engine"]
    judged.write()
    ended = factory("plan", judged.path, "--lake", judged.lake)
    assert ended.code == 2
    assert (
        "judge.engine: the judge has a separate model, but the recipe's openai engine" in ended.err
    )
