"""The policies choose the sides that METHOD.md says, and only true preferences are kept."""

import random

import pyarrow as pa
import pytest

from factory.query import Views, sql_text
from factory.schema import TABLES, pair_id

PAST_DRAW = 1024
"""The past's draws begin here: at iteration 0 it is the current model."""

CANDIDATES = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("role", pa.string()),
        ("draw", pa.int32()),
        ("sample_id", pa.string()),
        ("text", pa.string()),
        ("score", pa.float64()),
        ("n_judgments", pa.int32()),
        ("model", pa.string()),
        ("n_prompt_tokens", pa.int32()),
        ("n_tokens", pa.int32()),
    ]
)


def candidate(role, draw, score, text=None, prompt="p"):
    sample = f"{prompt}/{role}{draw}"
    return {
        "prompt_id": prompt,
        "role": role,
        "draw": draw + PAST_DRAW * (role == "past"),
        "sample_id": sample,
        "text": sample if text is None else text,
        "score": score,
        "n_judgments": 3 if score is not None else 0,
        "model": f"model of {role}",
        "n_prompt_tokens": 5,
        "n_tokens": draw,
    }


def scored(*, prompt="p", **scores):
    """Candidates whose draws have these scores, by role."""
    return [
        candidate(role, draw, score, prompt=prompt)
        for role, of_role in scores.items()
        for draw, score in enumerate(of_role)
    ]


def build(policy, candidates):
    """The rows of `pairs` that a policy's SQL makes of candidates, by prompt."""
    prompts = [
        {"prompt_id": prompt, "split": "train"}
        for prompt in sorted({row["prompt_id"] for row in candidates})
    ]
    settings = {"build": "b", "iteration": 1, "phase": "D2", "judge_model": "judge"}
    with Views() as views:
        views.rows("candidate_rows", pa.Table.from_pylist(candidates, CANDIDATES))
        views.rows("prompt_rows", pa.Table.from_pylist(prompts))
        views.define("candidates", "from candidate_rows")
        views.define("prompts", "from prompt_rows")
        views.setting("build_settings", settings)
        views.define("policy", policy)
        schema = TABLES["pairs"]
        rows = [row for batch in views.stream("pairs", schema) for row in batch.to_pylist()]
    assert [row["prompt_id"] for row in rows] == [prompt["prompt_id"] for prompt in prompts], (
        "every prompt that was considered has one row"
    )
    return {row["prompt_id"]: row for row in rows}


def sides(policy, *candidates, outcome="kept"):
    """Chosen and rejected of a single prompt, without the prompt's name."""
    row = build(sql_text(policy), list(candidates))["p"]
    assert row["outcome"] == outcome
    return tuple(
        side and side.removeprefix("p/") for side in (row["chosen_id"], row["rejected_id"])
    )


# temporal: step 2, anchored rejection (D1)


def test_a_past_worse_than_the_worst_current_one_is_rejected():
    assert sides("temporal", *scored(past=[2, 0, 3], current=[1, 4])) == ("current1", "past1")


def test_a_past_that_is_not_worse_leaves_the_worst_current_one_rejected():
    assert sides("temporal", *scored(past=[2, 3], current=[1, 4])) == ("current1", "current0")


def test_a_past_as_bad_as_the_worst_current_one_leaves_the_current_one_rejected():
    assert sides("temporal", *scored(past=[1, 3], current=[1, 4])) == ("current1", "current0")


def test_the_best_past_one_is_never_chosen():
    assert sides("temporal", *scored(past=[5, 0], current=[1, 2])) == ("current1", "past1")


# temporal: step 4, future-guided chosen (D2)


def test_a_future_better_than_the_best_current_one_is_chosen():
    pair = sides("temporal", *scored(past=[0], current=[1, 3], future=[2, 4]))
    assert pair == ("future1", "past0")


def test_a_future_as_good_as_the_best_current_one_leaves_the_current_one_chosen():
    pair = sides("temporal", *scored(past=[0], current=[1, 3], future=[3, 2]))
    assert pair == ("current1", "past0")


def test_a_future_that_is_worse_changes_no_side():
    with_future = sides("temporal", *scored(past=[2], current=[1, 3], future=[0, 2]))
    assert with_future == sides("temporal", *scored(past=[2], current=[1, 3]))
    assert with_future == ("current1", "current0")


def test_the_worst_future_one_is_never_rejected():
    assert sides("temporal", *scored(past=[2], current=[1], future=[0, 3])) == (
        "future1",
        "current0",
    )


def test_past_and_future_make_a_pair_without_the_current_model():
    assert sides("temporal", *scored(past=[1], current=[2, 2], future=[3])) == ("future0", "past0")


# self-rewarding


def test_self_rewarding_takes_both_sides_from_the_current_model():
    candidates = scored(past=[0], current=[2, 1, 4, 3], future=[5])
    assert sides("self_rewarding", *candidates) == ("current2", "current1")


# ties and what is missing


@pytest.mark.parametrize("policy", ["temporal", "self_rewarding"])
def test_the_lowest_draw_breaks_ties(policy):
    candidates = scored(current=[3, 1, 5, 5, 1])
    assert sides(policy, *candidates) == ("current2", "current1")
    assert sides(policy, *reversed(candidates)) == ("current2", "current1")


def test_the_lowest_draw_breaks_ties_in_the_past_and_the_future():
    candidates = scored(past=[2, 0, 0], current=[1], future=[1, 5, 5])
    assert sides("temporal", *reversed(candidates)) == ("future1", "past1")


def test_draws_are_compared_as_numbers():
    candidates = [candidate("current", draw, 5) for draw in (10, 9)]
    candidates.append(candidate("current", 11, 1))
    assert sides("self_rewarding", *candidates)[0] == "current9"


@pytest.mark.parametrize("policy", ["temporal", "self_rewarding"])
def test_a_sample_without_a_score_is_no_side(policy):
    candidates = scored(past=[None], current=[None, 3, 1, None], future=[None])
    assert sides(policy, *candidates) == ("current1", "current2")


@pytest.mark.parametrize("policy", ["temporal", "self_rewarding"])
def test_a_prompt_without_any_score_is_unscored(policy):
    candidates = scored(past=[None], current=[None, None], future=[None])
    assert sides(policy, *candidates, outcome="unscored") == (None, None)


def test_a_prompt_whose_current_samples_have_no_score_is_unscored():
    candidates = scored(past=[0], current=[None, None], future=[5])
    sides("temporal", *candidates, outcome="unscored")


@pytest.mark.parametrize("policy", ["temporal", "self_rewarding"])
def test_equal_scores_are_a_tie(policy):
    sides(policy, *scored(past=[2, 2], current=[2, 2], future=[2]), outcome="tie")


def test_a_single_answer_ties_with_itself():
    assert sides("self_rewarding", *scored(current=[2]), outcome="tie") == ("current0", "current0")


@pytest.mark.parametrize(
    ("chosen", "rejected"), [("four", "four"), ("four", " four "), ("four", "four\n"), ("a", "\ta")]
)
def test_texts_that_differ_by_blanks_at_their_ends_are_identical(chosen, rejected):
    candidates = [candidate("current", 0, 5, chosen), candidate("current", 1, 1, rejected)]
    sides("self_rewarding", *candidates, outcome="identical")


@pytest.mark.parametrize("empty", ["", "  ", "\n", "\t", "\r\n \u3000"])
@pytest.mark.parametrize("side", [0, 1])
def test_a_blank_side_is_empty(empty, side):
    candidates = [candidate("current", 0, 5), candidate("current", 1, 1)]
    candidates[side]["text"] = empty
    sides("self_rewarding", *candidates, outcome="empty")


def test_a_side_without_a_text_is_empty():
    candidates = [candidate("current", 0, 5), {**candidate("current", 1, 1), "text": None}]
    sides("self_rewarding", *candidates, outcome="empty")


def test_whatever_the_policy_an_inverted_pair_is_not_kept():
    wrong = "select 'p' as prompt_id, 'p/current0' as chosen_id, 'p/current1' as rejected_id"
    row = build(wrong, scored(current=[1, 4]))["p"]
    assert (row["outcome"], row["margin"]) == ("inverted", -3)


# what a row of pairs says


def test_a_pair_says_where_its_sides_came_from():
    row = build(sql_text("temporal"), scored(past=[0, 1], current=[2, 3], future=[4, 5]))["p"]
    assert row == {
        "pair_id": pair_id("p", "p/future1", "p/past0"),
        "build": "b",
        "prompt_id": "p",
        "iteration": 1,
        "phase": "D2",
        "split": "train",
        "outcome": "kept",
        "chosen_id": "p/future1",
        "rejected_id": "p/past0",
        "score_chosen": 5.0,
        "score_rejected": 0.0,
        "margin": 5.0,
        "n_judgments_chosen": 3,
        "n_judgments_rejected": 3,
        "chosen_role": "future",
        "rejected_role": "past",
        "chosen_model": "model of future",
        "rejected_model": "model of past",
        "judge_model": "judge",
        "prompt_tokens": 5,
        "chosen_tokens": 1,
        "rejected_tokens": 0,
    }


def test_a_pair_without_sides_has_the_id_of_its_prompt():
    assert build(sql_text("temporal"), scored(current=[None]))["p"]["pair_id"] == pair_id(
        "p", None, None
    )


def test_prompts_do_not_mix():
    candidates = scored(prompt="a", past=[0], current=[1, 2]) + scored(
        prompt="b", past=[3], current=[4, 5], future=[6]
    )
    rows = build(sql_text("temporal"), candidates)
    assert (rows["a"]["chosen_id"], rows["a"]["rejected_id"]) == ("a/current1", "a/past0")
    assert (rows["b"]["chosen_id"], rows["b"]["rejected_id"]) == ("b/future0", "b/past0")


# against METHOD.md in Python


def best(rows):
    return min(rows, key=lambda row: (-row["score"], row["draw"]), default=None)


def worst(rows):
    return min(rows, key=lambda row: (row["score"], row["draw"]), default=None)


def method(policy, candidates):
    """Chosen and rejected by METHOD.md, steps 2 and 4, in plain Python."""
    role = {
        name: [row for row in candidates if row["role"] == name and row["score"] is not None]
        for name in ("past", "current", "future")
    }
    chosen, rejected = best(role["current"]), worst(role["current"])
    if policy == "self_rewarding" or chosen is None:
        return chosen, rejected
    future, past = best(role["future"]), worst(role["past"])
    if future and future["score"] > chosen["score"]:
        chosen = future
    if past and past["score"] < rejected["score"]:
        rejected = past
    return chosen, rejected


def verdict(chosen, rejected):
    if chosen is None or rejected is None:
        return "unscored"
    if not chosen["text"].strip() or not rejected["text"].strip():
        return "empty"
    if chosen["score"] == rejected["score"]:
        return "tie"
    return "identical" if chosen["text"].strip() == rejected["text"].strip() else "kept"


def random_candidates(random_, prompt, roles):
    scores = random_.choice([[0, 1, 2, 3, 4, 5], [0, 1], [2.5], [0, 1 / 3, 2 / 3, None], [None]])
    texts = random_.choice([["a", "b", "c", "d", "e", "f"], ["a", " a", "b"], ["", " ", "a"]])
    rows = [
        candidate(role, draw, random_.choice(scores), random_.choice(texts), prompt)
        for role in roles
        for draw in random_.sample(range(12), random_.randrange(0, 5))
    ]
    return rows or [candidate("current", 0, None, "a", prompt)]


@pytest.mark.parametrize(
    ("policy", "roles"),
    [
        ("temporal", ["past", "current"]),
        ("temporal", ["past", "current", "future"]),
        ("self_rewarding", ["past", "current", "future"]),
    ],
)
def test_the_queries_do_what_the_method_says(policy, roles):
    random_ = random.Random(7)
    by_prompt = {
        prompt: random_candidates(random_, prompt, roles)
        for prompt in (f"p{number:03}" for number in range(200))
    }
    rows = [row for candidates in by_prompt.values() for row in candidates]
    random_.shuffle(rows)
    found = build(sql_text(policy), rows)

    outcomes = set()
    for prompt, candidates in by_prompt.items():
        pair, (chosen, rejected) = found[prompt], method(policy, candidates)
        assert pair["chosen_id"] == (chosen and chosen["sample_id"])
        assert pair["rejected_id"] == (rejected and rejected["sample_id"])
        assert pair["outcome"] == verdict(chosen, rejected)
        outcomes.add(pair["outcome"])
    assert outcomes == {"kept", "tie", "unscored", "identical", "empty"}

    samples = {row["sample_id"]: row for row in rows}
    for pair in found.values():
        if pair["outcome"] == "kept":
            chosen, rejected = samples[pair["chosen_id"]], samples[pair["rejected_id"]]
            assert chosen["score"] > rejected["score"]
            assert pair["margin"] == chosen["score"] - rejected["score"] > 0
            assert chosen["text"].strip() != rejected["text"].strip()
            assert chosen["text"].strip()
            assert rejected["text"].strip()
