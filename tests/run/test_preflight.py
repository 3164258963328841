"""Tests of the checks before a run: what a judge's labels need from its tokenizer and engine."""

import pytest
from toys import QUICKSTART

from factory.engines import LabelTree
from factory.errors import RubricError
from factory.recipe import Judge, TransformersEngine, VllmEngine
from factory.run import preflight

RUBRIC = """---
scale: [0, 1000]
labels: {labels}
parser: 'Score: (.+)'
---
{{prompt}} {{answer}}
"""
SERVER = {"name": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "small"}


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
    said = refusal("[1, 2, 10]", engine=SERVER, **EXPECTED)
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
