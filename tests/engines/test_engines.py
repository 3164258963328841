"""Tests of the transformers engine: one result per draw, independent seeds, and failed results."""

import dataclasses
import math

import pytest

torch = pytest.importorskip("torch")

from toys import QUICKSTART  # noqa: E402

from factory.engines import Request, scripted  # noqa: E402
from factory.engines.sampling import Choices, SeededSampling  # noqa: E402
from factory.engines.transformers import open_engine  # noqa: E402
from factory.models import Checkpoint  # noqa: E402
from factory.recipe import Generation, ScriptedEngine, TransformersEngine  # noqa: E402

MODEL = Checkpoint("M_0", QUICKSTART / "m0", "digest", "float32")
GENERATION = Generation(temperature=1.0, top_p=0.9, max_tokens=12)


def request(name, text, draws=(0, 1, 2), generation=GENERATION):
    messages = [{"role": "user", "content": text}]
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


def distribution(generation, scores, n=4000, **options):
    sampling = SeededSampling(range(n), generation, torch.device("cpu"), **options)
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


CUT = [
    ({"top_k": 2}, [2.0, 1.0, None, None]),
    ({"top_k": 9}, [2.0, 1.0, 0.0, -1.0]),
    ({"min_p": 0.3}, [2.0, 1.0, None, None]),  # 0.64, 0.24, 0.09, 0.03
    ({"min_p": 0.1}, [2.0, 1.0, 0.0, None]),
    ({"top_k": 3, "top_p": 0.95}, [2.0, 1.0, 0.0, None]),
    # top-p comes last. It sees 0.67 + 0.24 after min-p, and 0.73 + 0.27 after top-k.
    ({"min_p": 0.1, "top_p": 0.9}, [2.0, 1.0, None, None]),
    ({"top_k": 2, "top_p": 0.7}, [2.0, None, None, None]),
    ({"repetition_penalty": 2.0}, [1.0, 1.0, 0.0, -2.0]),  # the prompt has tokens 0 and 3
    ({"repetition_penalty": 2.0, "top_k": 2}, [1.0, 1.0, None, None]),
]


@pytest.mark.parametrize(("settings", "kept"), CUT)
def test_the_sampler_cuts_in_the_order_of_vllm(settings, kept):
    generation = Generation(**{"temperature": 1.0, "top_p": 1.0, "max_tokens": 1, **settings})
    scores = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    left = torch.tensor([-torch.inf if score is None else score for score in kept])
    found = distribution(generation, scores, prompts=[[0, 3]] * 4000)
    assert torch.allclose(found, torch.softmax(left, dim=-1), atol=0.03)
    assert (found[left == -torch.inf] == 0).all()


@pytest.mark.vllm
def test_the_sampler_does_what_vllm_does():
    ops = pytest.importorskip("vllm.v1.sample.ops.topk_topp_sampler", exc_type=ImportError)
    scores = torch.randn((1, 40), generator=torch.Generator().manual_seed(0)) * 2
    generation = Generation(temperature=0.7, top_p=0.8, top_k=12, max_tokens=1)
    left = ops.apply_top_k_top_p_pytorch(
        scores.clone() / 0.7, torch.tensor([12]), torch.tensor([0.8])
    )
    found = distribution(generation, scores)
    assert torch.allclose(found, torch.softmax(left[0], dim=-1), atol=0.03)
    assert ((found > 0) <= (left[0] > -torch.inf)).all()


def test_a_token_that_was_written_is_penalised_from_then_on():
    greedy = Generation(temperature=0.0, top_p=1.0, max_tokens=3, repetition_penalty=4.0)
    sampling = SeededSampling([0, 1], greedy, torch.device("cpu"), prompts=[[3], [0]])
    scores = torch.tensor([[2.0, 1.0, 0.4, 1.5]]).repeat(2, 1)
    chosen = [sampling(None, scores).argmax(dim=-1).tolist() for _ in range(3)]
    assert chosen == [[0, 3], [1, 1], [0, 0]]
    # The recorded log-probabilities are the model's, before the penalty.
    assert torch.allclose(sampling.logprobs[0][0], torch.log_softmax(scores, dim=-1)[0, 0])


def test_a_penalised_draw_does_not_depend_on_the_padding_before_its_prompt():
    generation = GENERATION.model_copy(update={"repetition_penalty": 3.0, "min_p": 0.02})

    def said(asked):
        with open_engine(TransformersEngine(batch_size=24), [MODEL]) as engine:
            engine._pad = engine._stops[0]  # as in many models; a penalty on it would be visible
            return {(r.request_id, r.draw): r.text for r in engine.generate(iter(asked))}

    together = said(requests(generation))
    assert together != said(requests())
    alone = [said([one]) for one in requests(generation)]
    assert {key: text for texts in alone for key, text in texts.items()} == together


def test_choices_hold_the_answer_to_one_of_them_and_to_its_probability():
    choices = Choices([[1], [2, 3], [2]], ends=[0])
    generation = Generation(temperature=1.0, top_p=1.0, max_tokens=2)
    n = 4000
    sampling = SeededSampling(range(n), generation, torch.device("cpu"), choices=choices)
    scores = torch.tensor([[3.0, 1.0, 0.0, 0.5, 4.0]]).repeat(n, 1)
    first = sampling(None, scores).argmax(dim=-1)
    assert set(first.tolist()) == {1, 2}
    assert abs((first == 1).float().mean() - math.e / (math.e + 1)) < 0.03
    second = sampling(None, scores).argmax(dim=-1)
    assert set(second[first == 1].tolist()) == {0}
    assert set(second[first == 2].tolist()) == {0, 3}


JUDGED = (
    (QUICKSTART / "rubric.md")
    .read_text()
    .rpartition("---\n")[2]
    .strip()
    .format(prompt="Copy the letters of stone.", answer="stome.")
)
LABELS = ("0", "1", "2", "3", "4", "5")


def judging(**asked):
    judge = Generation(temperature=1.0, top_p=1.0, max_tokens=32)
    return dataclasses.replace(request("j", JUDGED, range(64), judge), **asked)


def test_a_judgment_is_held_to_its_choices():
    results = answers([judging(choices=LABELS)])
    assert {result.text for result in results.values()} <= set(LABELS)
    assert {result.finish_reason for result in results.values()} == {"stop"}
    assert all(
        result.n_tokens == 2 and result.score_logprobs is None for result in results.values()
    )


def test_the_log_probabilities_of_the_labels_are_the_shares_of_the_scores():
    results = answers([judging(choices=LABELS, labels=LABELS, score_at="^([0-5])$")])
    (said,) = {
        str(result.score_logprobs): result.score_logprobs for result in results.values()
    }.values()
    shares = {row["label"]: math.exp(row["logprob"]) for row in said}
    assert set(shares) == set(LABELS)
    assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
    drawn = [result.text for result in results.values()]
    for label, share in shares.items():
        assert drawn.count(label) / 64 == pytest.approx(share, abs=0.2)


def test_the_labels_are_looked_at_where_the_score_stands():
    results = answers([judging(labels=LABELS, score_at="Score: ([0-5])$")])
    scored = [result for result in results.values() if result.score_logprobs is not None]
    assert len(scored) > 32
    for result in scored:
        best = max(result.score_logprobs, key=lambda row: row["logprob"])
        assert best["logprob"] < 0
        assert sum(math.exp(row["logprob"]) for row in result.score_logprobs) <= 1.001
    likeliest = [max(r.score_logprobs, key=lambda row: row["logprob"])["label"] for r in scored]
    agree = [r.text.endswith(label) for r, label in zip(scored, likeliest, strict=True)]
    assert sum(agree) > len(scored) / 2


def test_an_answer_without_a_score_has_no_log_probabilities_of_one():
    results = answers([judging(labels=LABELS, score_at="No such thing: ([0-5])")])
    assert {str(result.score_logprobs) for result in results.values()} == {"None"}


def test_the_scripted_engine_says_the_same_for_the_same_seed(tmp_path):
    def said():
        with scripted.open_engine(ScriptedEngine(name="scripted"), tmp_path) as engine:
            return [result.text for result in engine.generate(iter(requests()))]

    assert said() == said()
    assert len(set(said())) == 24
