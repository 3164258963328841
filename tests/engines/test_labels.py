"""The probabilities of a score's labels, which a tokenizer may split into several tokens.

The expected probabilities come from separate forward passes of `transformers` over the prompt and
all tokens of a label.
"""

import dataclasses
import math

import pytest

torch = pytest.importorskip("torch")

from label_probabilities import SCALES, Reference, constrained, free, random_model  # noqa: E402

from factory.engines import label_tree, transformers  # noqa: E402
from factory.engines.labels import NEGLIGIBLE, LabelTree, find_score  # noqa: E402
from factory.recipe import Generation, TransformersEngine  # noqa: E402

# The tree


def shares(rows):
    return {row["label"]: math.exp(row["logprob"]) for row in rows}


def logs(probabilities):
    return {token: math.log(probability) for token, probability in probabilities.items()}


def test_a_label_ends_where_no_longer_label_goes_on():
    labels = LabelTree({"1": [(1,)], "10": [(1, 0)], "100": [(1, 0, 0)], "2": [(2,)]})
    after = {
        (): logs({1: 0.5, 2: 0.3}),
        (1,): logs({0: 0.4}),
        (1, 0): logs({0: 0.25}),
    }
    found = shares(labels.logprobs(after))
    assert found == pytest.approx({"1": 0.5 * 0.6, "10": 0.5 * 0.4 * 0.75, "100": 0.05, "2": 0.3})
    assert sum(found.values()) == pytest.approx(0.5 + 0.3)


def test_a_token_between_two_labels_ends_the_shorter_one():
    """In "4." before a line break, the full stop does not belong to the label 4.5."""
    labels = LabelTree({"4": [(4,)], "4.5": [(4, 9, 5)]})
    after = {(): logs({4: 0.8}), (4,): logs({9: 0.5}), (4, 9): logs({5: 0.1})}
    assert shares(labels.logprobs(after)) == pytest.approx({"4": 0.8 * 0.95, "4.5": 0.8 * 0.05})


def test_the_spellings_of_a_label_are_added():
    labels = LabelTree({"excellent": [(1, 2), (3,)], "good": [(4,), (5,)]})
    after = {(): logs({1: 0.2, 3: 0.3, 4: 0.1, 5: 0.2}), (1,): logs({2: 0.9})}
    expected = {"excellent": 0.2 * 0.9 + 0.3, "good": 0.3}
    assert shares(labels.logprobs(after)) == pytest.approx(expected)


def test_only_beginnings_that_can_matter_are_asked_for():
    labels = LabelTree({"1": [(1,)], "10": [(1, 0)], "2": [(2,)], "20": [(2, 0)]})
    first = logs({1: 0.9, 2: NEGLIGIBLE / 2})
    assert labels.open_beginnings(first) == [(1,)]
    assert labels.open_beginnings(logs({3: 1.0})) == []
    # The token after 2 is unknown, so the label 2 has all of the probability.
    found = shares(labels.logprobs({(): first, (1,): logs({0: 0.5})}))
    assert found == pytest.approx({"1": 0.45, "10": 0.45, "2": NEGLIGIBLE / 2})


def test_labels_without_probability_are_omitted():
    labels = LabelTree({"1": [(1,)], "2": [(2,)], "3": [(3,)]})
    assert labels.logprobs({(): {1: 0.0, 2: -math.inf}}) == [{"label": "1", "logprob": 0.0}]


@pytest.mark.parametrize(("choices", "found"), [(("bad",), True), ((), False)])
def test_a_constrained_judge_may_write_a_label_with_unusual_tokens(choices, found):
    request = dataclasses.replace(constrained(["bad"], None), choices=choices)
    bad = LabelTree({"bad": [(3,)]})
    texts = {1: "b", 2: "ad", 3: "bad"}
    score = find_score(
        bad, request, [1, 2], lambda some: "".join(map(texts.get, some)), lambda _: {3: -2.0}
    )
    assert (score is not None) == found
    assert not found or score.logprobs == [{"label": "bad", "logprob": 0.0}]


VOCABULARY = {"1": 1, "0": 2, "Ġ": 3, "ex": 4, "cellent": 5, "Ġexcellent": 6, "5": 7, "Ġ5": 8}
VOCABULARY |= {"▁un": 9, "un": 10, "fit": 11}
TOKENS = {
    "5": ["5"],
    " 5": ["Ġ5"],
    "10": ["1", "0"],
    " 10": ["Ġ", "1", "0"],
    "excellent": ["ex", "cellent"],
    " excellent": ["Ġexcellent"],
    "unfit": ["▁un", "fit"],
    " unfit": ["▁un", "fit"],
    "": [],
    " ": ["Ġ"],
}


@pytest.mark.parametrize(
    ("label", "spellings"),
    [
        ("5", {(7,), (8,)}),
        ("10", {(1, 2)}),
        ("excellent", {(4, 5), (6,)}),
        ("unfit", {(9, 11), (10, 11)}),
        ("", set()),
    ],
)
def test_a_label_is_spelled_with_and_without_a_space_before_it(label, spellings):
    found = label_tree(VOCABULARY, TOKENS.__getitem__, [label]).spellings[label]
    assert set(found) == spellings
    assert len(found) == len(spellings)


# The transformers engine


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_model(tmp_path_factory.mktemp("random"))


@pytest.fixture(scope="module")
def reference(model):
    return Reference(model)


def answers(asked, model, **settings):
    with transformers.open_engine(TransformersEngine(**settings), [model]) as engine:
        return {(one.request_id, one.draw): one for one in engine.generate(iter(asked))}


@pytest.mark.parametrize("scale", SCALES)
def test_a_constrained_judges_labels_have_the_probabilities_of_their_tokens(
    model, reference, scale
):
    labels = SCALES[scale]
    asked = constrained(labels, model)
    expected = reference.labels(reference.prompt(asked), labels, constrained=True)
    assert sum(share.exact for share in expected.values()) > 1
    for result in answers([asked], model).values():
        assert result.text in labels
        found = shares(result.score_logprobs)
        assert sum(found.values()) == pytest.approx(1)
        assert all(expected[label].agrees(found.get(label, 0.0)) for label in labels)


@pytest.mark.slow
@pytest.mark.parametrize("scale", SCALES)
def test_a_free_judges_labels_depend_on_the_text_before_the_score(model, reference, scale):
    labels = SCALES[scale]
    asked = free(labels, model)
    scored = {}
    for result in answers([asked], model).values():
        # The text of an answer with special tokens does not show all of its tokens.
        n_shown = len(reference.encode(result.text)) + (result.finish_reason == "stop")
        if result.score_logprobs is not None and result.n_tokens == n_shown:
            scored[reference.before_score(asked, result.text)] = shares(result.score_logprobs)
    assert len(scored) > 3
    assert any(scored)
    prompt = reference.prompt(asked)
    for before, found in scored.items():
        expected = reference.labels([*prompt, *reference.encode(before)], labels)
        assert all(expected[label].agrees(found.get(label, 0.0)) for label in labels)


def test_scores_do_not_depend_on_the_batch_or_on_the_cache(model, monkeypatch):
    asked = [constrained(SCALES["1 to 10"], model, name=f"j{n}", draws=[0, 1]) for n in range(4)]
    asked += [free(SCALES["1 to 10"], model, f"a longer name {n}", draws=range(4)) for n in "abc"]

    def scores(**settings):
        results = answers(asked, model, **settings)
        return {key: shares(one.score_logprobs or []) for key, one in results.items()}

    together, alone = scores(batch_size=64), scores(batch_size=1)
    monkeypatch.setattr(transformers, "copy_to_rows", lambda *_: None)
    uncached = scores(batch_size=8)
    assert sum(map(bool, together.values())) > 10
    for key, found in together.items():
        assert alone[key] == pytest.approx(found, rel=1e-3)
        assert uncached[key] == pytest.approx(found, rel=1e-3)


def test_extra_passes_only_for_labels_of_several_tokens_and_one_row_for_equal_draws(
    model, monkeypatch
):
    rows = []
    real = transformers._Engine._read_parts

    def counted(self, batch, parts, *args):
        rows.append(len(parts))
        return real(self, batch, parts, *args)

    monkeypatch.setattr(transformers._Engine, "_read_parts", counted)
    answers([constrained(SCALES["1 to 5"], model)], model)
    assert rows == []
    answers([constrained(SCALES["1 to 10"], model)], model)
    assert rows == [1]  # four draws, whose text before the score is the same


def test_a_prompt_leaves_room_for_the_longest_label(model, reference):
    generation = Generation(temperature=1.0, top_p=1.0, max_tokens=2)
    one = dataclasses.replace(
        constrained(SCALES["0 to 100"], model, draws=[0]), generation=generation
    )
    n_prompt, context = len(reference.prompt(one)), 256

    def error(n_free):
        """Return the error for a prompt that leaves this number of tokens free."""
        text = one.messages[0]["content"] + "a" * (context - n_prompt - n_free)
        asked = dataclasses.replace(one, messages=[{"role": "user", "content": text}])
        assert len(reference.prompt(asked)) == context - n_free
        return answers([asked], model)["j", 0].error

    assert error(4) is None  # two tokens of the answer, and two more of a label
    assert "too long" in error(3)
