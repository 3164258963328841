"""Engines: every draw answered once, seeds that neighbours do not touch, failures as results."""

import pytest

torch = pytest.importorskip("torch")

from conftest import QUICKSTART  # noqa: E402

from factory.checkpoint import Checkpoint  # noqa: E402
from factory.engines import Request, function, scripted  # noqa: E402
from factory.engines.transformers import SeededSampling, open_engine  # noqa: E402
from factory.functions import find_function  # noqa: E402
from factory.recipe import Generation, ScriptedEngine, TransformersEngine  # noqa: E402

MODEL = Checkpoint("M_0", QUICKSTART / "m0", "digest", "float32")
GENERATION = Generation(temperature=1.0, top_p=0.9, max_tokens=12)


def request(name, text, draws=(0, 1, 2), generation=GENERATION):
    messages = [{"role": "user", "content": text, "name": None}]
    return Request(name, messages, tuple(draws), sum(map(ord, name)) * 1000, generation, MODEL)


WORDS = ["stone", "apple", "qzjk", "moon", "tree", "river", "ab", "lantern"]


def requests(generation=GENERATION):
    return [
        request(f"r{place}", f"Reverse the letters of {word}.", generation=generation)
        for place, word in enumerate(WORDS)
    ]


def answers(asked, **settings):
    with open_engine(TransformersEngine(**settings), [MODEL]) as engine:
        results = list(engine.generate(iter(asked)))
    assert len(results) == sum(len(one.draws) for one in asked)
    return {(result.request_id, result.draw): result for result in results}


def texts(asked, **settings):
    return {key: result.text for key, result in answers(asked, **settings).items()}


def test_a_draw_does_not_depend_on_its_neighbours_in_the_batch():
    together = texts(requests(), batch_size=24)
    assert len(set(together.values())) > 10
    assert texts(requests(), batch_size=7) == together
    assert texts(list(reversed(requests())), batch_size=5, window=1) == together
    alone = {}
    for one in requests():
        for draw in one.draws:
            alone.update(texts([request(one.id, one.messages[0]["content"], [draw])]))
    assert alone == together


def test_a_real_model_answers_and_says_how(capsys):
    result = answers([request("r", "Copy the letters of stone.", [0])])["r", 0]
    assert result.text.endswith(".")
    assert result.error is None
    assert result.finish_reason == "stop"
    assert 2 <= result.n_tokens <= 12
    assert result.n_prompt_tokens > 8
    assert -40 < result.cumulative_logprob < 0


def test_an_answer_cut_off_says_so():
    short = GENERATION.model_copy(update={"max_tokens": 2})
    result = answers([request("r", "Copy the letters of stone.", [0], short)])["r", 0]
    assert result.finish_reason == "length"
    assert result.n_tokens == 2


def test_greedy_answers_are_the_most_likely_ones():
    greedy = GENERATION.model_copy(update={"temperature": 0.0})
    results = answers(requests(greedy))
    assert all(len({results[one.id, d].text for d in one.draws}) == 1 for one in requests())
    sampled = answers(requests())
    best, other = (sum(r.cumulative_logprob for r in set_.values()) for set_ in (results, sampled))
    assert best > other


def test_a_request_that_does_not_fit_fails_and_the_others_go_on():
    asked = [*requests()[:2], request("long", "Copy the letters of " + "a" * 300 + ".", [0, 1])]
    results = answers(asked)
    for draw in (0, 1):
        assert results["long", draw].error_kind == "permanent"
        assert "too long" in results["long", draw].error
    assert sum(result.error is None for result in results.values()) == 6


def test_requests_are_read_no_further_than_the_window():
    read = []

    def asked():
        for one in requests():
            read.append(one.id)
            yield one

    with open_engine(TransformersEngine(batch_size=3, window=1), [MODEL]) as engine:
        next(engine.generate(asked()))
    assert len(read) == 1


def distribution(generation, scores, n=4000):
    sampling = SeededSampling(range(n), generation, torch.device("cpu"))
    chosen = sampling(None, scores.repeat(n, 1))
    counts = torch.bincount(chosen.argmax(dim=-1), minlength=scores.shape[-1])
    return counts / n


def test_the_sampler_follows_temperature_and_top_p():
    scores = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    for temperature in (0.5, 1.0, 2.0):
        generation = Generation(temperature=temperature, top_p=1.0, max_tokens=1)
        expected = torch.softmax(scores[0] / temperature, dim=-1)
        assert torch.allclose(distribution(generation, scores), expected, atol=0.03)
    nucleus = Generation(temperature=1.0, top_p=0.8, max_tokens=1)  # 0.64 + 0.24 pass 0.8
    expected = torch.softmax(torch.tensor([2.0, 1.0, -torch.inf, -torch.inf]), dim=-1)
    assert torch.allclose(distribution(nucleus, scores), expected, atol=0.03)


def test_the_scripted_engine_says_the_same_for_the_same_seed(tmp_path):
    def said():
        with scripted.open_engine(ScriptedEngine(name="scripted"), tmp_path) as engine:
            return [result.text for result in engine.generate(iter(requests()))]

    assert said() == said()
    assert len(set(said())) == 24


def valued(tmp_path, source, n=3):
    (tmp_path / "judge.py").write_text(source)
    found = find_function("judge.py:grade", tmp_path)
    asked = [
        Request(
            f"r{i}",
            [{"role": "user", "content": "Q"}, {"role": "assistant", "content": f"answer {i}"}],
            (0,),
            0,
            GENERATION,
            None,
            context={"reference": str(i), "criteria": None, "meta": {}},
        )
        for i in range(n)
    ]
    with function.open_engine(found) as engine:
        return list(engine.generate(iter(asked)))


def test_a_function_judge_sees_the_answer_and_its_reference(tmp_path):
    source = (
        "def grade(rows):\n    return [row['answer'].endswith(row['reference']) for row in rows]\n"
    )
    assert [result.value for result in valued(tmp_path, source)] == [1.0, 1.0, 1.0]


def test_a_function_that_raises_fails_only_the_row_at_fault(tmp_path):
    source = "def grade(rows):\n    return [1 / int(row['reference']) for row in rows]\n"
    results = valued(tmp_path, source)
    assert [result.value for result in results] == [None, 1.0, 0.5]
    assert results[0].error == "the function raised ZeroDivisionError: division by zero"
    assert results[0].error_kind == "permanent"


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ("[]", "returned 0 values for 1 rows"),
        ("[1, 2]", "returned 2 values for 1 rows"),
        ("['good']", "returned a str, expected a number or None"),
    ],
)
def test_a_function_that_returns_something_else_is_no_score(tmp_path, returned, reason):
    results = valued(tmp_path, f"def grade(rows):\n    return {returned}\n", n=1)
    assert results[0].value is None
    assert reason in results[0].error


def test_a_function_may_say_that_it_has_no_score(tmp_path):
    (result,) = valued(tmp_path, "def grade(rows):\n    return [None]\n", n=1)
    assert (result.value, result.error) == (None, None)
