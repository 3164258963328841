"""Tests of the checks before a run: a judge's labels, and what a model sees and writes."""

import json
import shutil

import pytest
from toys import QUICKSTART

from factory.checks import preflight
from factory.checks.preflight import _check_server
from factory.engines import LabelTree
from factory.errors import FactoryError, RubricError
from factory.models import Checkpoint, as_run
from factory.recipe import Generation, Judge, OpenaiEngine, TransformersEngine, VllmEngine
from factory.stages import samples

RUBRIC = """---
scale: [0, 1000]
labels: {labels}
parser: 'Score: (.+)'
---
{{prompt}} {{answer}}
"""
SERVER_FIELDS = {"name": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "small"}


@pytest.fixture
def refusal(toy, factory):
    """Return a function that runs a recipe with these labels, and returns the one-line error."""

    def refusal(labels, engine="transformers", **judge):
        (toy.folder / "own.md").write_text(RUBRIC.format(labels=labels))
        toy.fields["engine"] = engine if isinstance(engine, dict) else {"name": engine}
        toy.write(
            model=str(QUICKSTART / "m0"),
            judge={"rubric": "own.md", **judge},
            train={"with": "scripted", "lora": {}},
        )
        ended = factory("run", toy.path, "--lake", toy.lake)
        assert ended.code == 2
        assert ended.err.count("\n") == 1
        assert not toy.shards("samples")
        return ended.err

    return refusal


EXPECTED = {"expected_score": True}
CONSTRAINED = {"constrained": True}


@pytest.mark.parametrize("judge", [EXPECTED, CONSTRAINED, EXPECTED | CONSTRAINED])
def test_words_without_scores_are_refused(refusal, judge):
    said = refusal("[bad, good]", **judge)
    assert "rubric own.md: the label bad is not a number: give each label its score" in said


@pytest.mark.parametrize("judge", [EXPECTED, CONSTRAINED])
def test_a_label_that_the_tokenizer_cannot_spell_is_refused(refusal, judge):
    said = refusal("{好: 1, bad: 0}", **judge)
    assert "rubric own.md: the judge's tokenizer cannot spell the label 好: use other" in said


def test_a_server_cannot_report_labels_of_several_tokens(refusal):
    said = refusal("[1, 2, 10]", engine=SERVER_FIELDS, **EXPECTED)
    assert "the judge's tokenizer splits the label 10 into several tokens" in said
    assert "the openai engine cannot request" in said


def test_a_parser_that_finds_no_label_is_refused_for_a_constrained_judge(refusal):
    said = refusal("[1, 10]", parser="Score: (.+)", **CONSTRAINED)
    assert "judge.parser finds no score in the label 1 alone: remove judge.parser" in said


def test_vllm_reports_128_tokens_at_one_position():
    def check(n_labels, engine):
        first = LabelTree({str(label): [(label,)] for label in range(n_labels)})
        second = LabelTree({str(label): [(7, label)] for label in range(n_labels)})
        for tree in (first, second):
            preflight._check_logprobs(Judge(), tree, engine)

    check(128, VllmEngine(name="vllm"))
    check(129, TransformersEngine())
    with pytest.raises(RubricError, match=r"129 different tokens, .* at most 128"):
        check(129, VllmEngine(name="vllm"))


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
    marked = samples.decoding(checkpoint, Judge(reasoning=reasoning))
    assert bool(marked) == is_new


def test_only_models_that_print_a_date_have_new_digests():
    engine = TransformersEngine()
    assert as_run("digest", engine, prints_date=False) == "digest"
    assert as_run("digest", engine, prints_date=True) == "37f6a38869e136df8c455cdb"
