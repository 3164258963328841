"""Tests of checks before a run that concern what a model sees and writes."""

import json
import shutil

import pytest
from toys import QUICKSTART

from factory.errors import FactoryError
from factory.models import Checkpoint, as_run
from factory.recipe import Generation, Judge, OpenaiEngine, TransformersEngine, VllmEngine
from factory.run.preflight import _check_server
from factory.stages import judgments, samples

TAGS = ("<think>", "</think>")
SERVER = OpenaiEngine(name="openai", base_url="http://127.0.0.1:1/v1", model="m")


@pytest.fixture
def model(tmp_path):
    """Return a function that makes a model with a chat template and special tokens."""

    def make(template="{{ messages[0].content }}", special=()):
        folder = shutil.copytree(QUICKSTART / "m0", tmp_path / "m0", dirs_exist_ok=True)
        (folder / "chat_template.jinja").write_text(template)
        file = folder / "tokenizer.json"
        tokenizer = json.loads(file.read_text())
        tokenizer["added_tokens"] += [
            {**tokenizer["added_tokens"][0], "content": text, "id": 10_000 + place, "special": True}
            for place, text in enumerate(special)
        ]
        file.write_text(json.dumps(tokenizer))
        return Checkpoint("M_0", folder, "digest", "float32")

    return make


DATED = "{{ strftime_now('%Y') }}"


@pytest.mark.parametrize(
    ("template", "special", "reasoning", "fault"),
    [
        (DATED, (), None, "model.path: the chat template prints the current date"),
        ("x", TAGS, TAGS, "sampling.reasoning: servers remove the tag </think>"),
        ("x", TAGS[:1], TAGS, "sampling.reasoning: servers remove the tag <think>"),
        ("x", TAGS, None, None),
        ("x", (), TAGS, None),
    ],
)
def test_a_server_that_would_show_or_return_something_else_is_refused(
    model, template, special, reasoning, fault
):
    generation = Generation(reasoning=reasoning)
    checkpoint = model(template, special)
    for engine in (TransformersEngine(), VllmEngine(name="vllm")):
        _check_server(engine, checkpoint, generation, "sampling")
    if fault is None:
        _check_server(SERVER, checkpoint, generation, "sampling")
    else:
        with pytest.raises(FactoryError) as caught:
            _check_server(SERVER, checkpoint, generation, "sampling")
        assert str(caught.value).startswith(fault)


def test_a_declared_model_is_taken_at_its_word():
    declared = Checkpoint("judge", QUICKSTART / "no", "digest", "unknown", declared="v1")
    _check_server(SERVER, declared, Generation(reasoning=TAGS), "judge")


@pytest.mark.parametrize(
    ("special", "reasoning", "is_new"), [(TAGS, TAGS, True), ((), TAGS, False), (TAGS, None, False)]
)
def test_only_answers_with_special_tags_have_new_keys(model, special, reasoning, is_new):
    checkpoint = model(special=special)
    settings = samples.settings(checkpoint, Generation(reasoning=reasoning), 0)
    assert ("tags" in settings) == is_new
    marked = judgments.special_tags(checkpoint, Judge(reasoning=reasoning))
    assert bool(marked) == is_new


def test_only_models_that_print_a_date_have_new_digests():
    engine = TransformersEngine()
    assert as_run("digest", engine, prints_date=False) == "digest"
    assert as_run("digest", engine, prints_date=True) == "37f6a38869e136df8c455cdb"
