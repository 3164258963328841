"""The policies choose the sides that the papers describe, and only true preferences are kept."""

import random
from pathlib import Path

import pyarrow as pa
import pytest

from factory.lake import TABLES, Query, Views, load_query, pair_id
from factory.pairs import Policy, choice, define_policy, make_choice, shipped_policies
from factory.pairs.policy import _load
from factory.plan import steps
from factory.recipe import Recipe

PAST_DRAW = 1024
"""First draw of the past role at iteration 0, where past and current are the same model."""

CANDIDATES = pa.schema(
    [
        ("iteration", pa.int32()),
        ("prompt_id", pa.string()),
        ("split", pa.string()),
        ("role", pa.string()),
        ("draw", pa.int32()),
        ("sample_id", pa.string()),
        ("text", pa.string()),
        ("score", pa.float64()),
        ("expected_score", pa.float64()),
        ("spread", pa.float64()),
        ("n_judgments", pa.int32()),
        ("model", pa.string()),
        ("n_prompt_tokens", pa.int32()),
        ("n_tokens", pa.int32()),
        ("finish_reason", pa.string()),
    ]
)


def candidate(role, draw, score, text=None, prompt="p", **more):
    sample = f"{prompt}/{role}{draw}"
    return {
        "prompt_id": prompt,
        "split": "train",
        "role": role,
        "draw": draw + PAST_DRAW * (role == "past"),
        "sample_id": sample,
        "text": sample if text is None else text,
        "score": score,
        "n_judgments": 3 if score is not None else 0,
        "model": f"model of {role}",
        "n_prompt_tokens": 5,
        "n_tokens": draw,
        "finish_reason": "stop",
        "spread": 0.0,
        "expected_score": score,
        **more,
    }


def scored(*, prompt="p", **scores):
    """Return candidates with these scores by role, one draw per score."""
    return [
        candidate(role, draw, score, prompt=prompt)
        for role, of_role in scores.items()
        for draw, score in enumerate(of_role)
    ]


def with_pairs(**spec):
    """Return a recipe with these fields of `pairs`."""
    fields = {
        "name": "r",
        "model": "m",
        "prompts": {"files": ["p"]},
        "judge": {"expected_score": True},
    }
    return Recipe.model_validate({**fields, "pairs": spec})


def considered(policy, candidates, **spec):
    """Return the rows of `pairs` that a policy builds from candidates."""
    prompts = [
        {"prompt_id": prompt, "split": "train"}
        for prompt in sorted({row["prompt_id"] for row in candidates})
    ]
    settings = {"build": "b", "iteration": 1, "phase": "D2", "judge_model": "judge"}
    with Views() as views:
        views.register("candidate_rows", pa.Table.from_pylist(candidates, CANDIDATES))
        views.register("prompt_rows", pa.Table.from_pylist(prompts))
        views.define("candidates", "from candidate_rows")
        views.define("samples", "from candidate_rows")
        views.define("prompts", "from prompt_rows")
        define_policy(views, make_choice(with_pairs(**spec), policy))
        views.read_texts("from policy")
        query, schema = load_query("pairs/pairs"), TABLES["pairs"]
        return [
            row for batch in views.stream(query, schema, **settings) for row in batch.to_pylist()
        ]


def build(policy, candidates, **spec):
    """Return the same rows by prompt, for policies with one pair per prompt."""
    rows = considered(policy, candidates, **spec)
    prompts = sorted({row["prompt_id"] for row in candidates})
    assert [row["prompt_id"] for row in rows] == prompts, (
        "every prompt that was considered has one row"
    )
    return {row["prompt_id"]: row for row in rows}


def shipped(name):
    """Return a policy that ships with the factory."""
    return _load(name, Path())


def sides(policy, *candidates, outcome="kept", **spec):
    """Return the chosen and the rejected sample of a single prompt, without the prompt's name."""
    row = build(shipped(policy), list(candidates), **spec)["p"]
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


# spin


def test_spin_sets_the_reference_against_the_first_answer_whatever_its_score():
    candidates = scored(reference=[5], current=[3, 1, 4])
    assert sides("spin", *candidates) == ("reference0", "current0")
    assert sides("spin", *reversed(candidates), ties="hash") == ("reference0", "current0")


def test_spin_takes_the_first_answer_that_has_a_score():
    candidates = scored(reference=[5], current=[None, 4, 3])
    assert sides("spin", *candidates) == ("reference0", "current1")


@pytest.mark.parametrize(
    ("reference", "current", "outcome"),
    [(3, 3, "tie"), (2, 3, "inverted"), (None, 3, "unscored"), (3, None, "unscored")],
)
def test_spin_keeps_the_pairs_that_its_judge_agrees_with(reference, current, outcome):
    sides("spin", *scored(reference=[reference], current=[current]), outcome=outcome)


def test_spin_may_set_the_reference_against_several_answers():
    rows = considered(shipped("spin"), scored(reference=[5], current=[3, 1, 4, 2]), per_prompt=2)
    assert {(row["chosen_id"], row["rejected_id"], row["outcome"]) for row in rows} == {
        ("p/reference0", "p/current0", "kept"),
        ("p/reference0", "p/current1", "kept"),
    }


def test_a_policy_may_take_the_references_of_extremes():
    sql = "select prompt_id, best_reference.id as chosen_id, worst_reference.id as rejected_id"
    candidates = scored(reference=[4], current=[1])
    row = build(Policy("own.sql", f"{sql} from extremes", ("reference", "current")), candidates)
    assert (row["p"]["chosen_id"], row["p"]["rejected_id"]) == ("p/reference0", "p/reference0")


# rejection sampling


def test_rejection_sampling_takes_the_best_answer_and_no_rejected_one():
    candidates = scored(past=[5], current=[2, 4, 4, 1], future=[5])
    assert sides("rejection_sampling", *candidates) == ("current1", None)


@pytest.mark.parametrize("score", [0, 3])
def test_a_single_scored_answer_is_kept_without_a_rejected_one(score):
    row = build(shipped("rejection_sampling"), scored(current=[score]))["p"]
    assert row == {
        "pair_id": pair_id("p", "p/current0", None),
        "build": "b",
        "prompt_id": "p",
        "iteration": 1,
        "phase": "D2",
        "split": "train",
        "outcome": "kept",
        "chosen_id": "p/current0",
        "rejected_id": None,
        "score_chosen": score,
        "score_rejected": None,
        "margin": None,
        "n_judgments_chosen": 3,
        "n_judgments_rejected": None,
        "chosen_role": "current",
        "rejected_role": None,
        "chosen_model": "model of current",
        "rejected_model": None,
        "judge_model": "judge",
        "prompt_tokens": 5,
        "chosen_tokens": 0,
        "rejected_tokens": None,
    }


def test_an_answer_without_a_score_or_a_text_is_not_learned_from():
    assert sides("rejection_sampling", *scored(current=[None]), outcome="unscored") == (None, None)
    blank = candidate("current", 0, 5, " \n")
    assert sides("rejection_sampling", blank, outcome="empty") == ("current0", None)


def test_rejection_sampling_may_take_several_answers_of_a_prompt():
    rows = considered(shipped("rejection_sampling"), scored(current=[1, 5, 3, 4]), per_prompt=2)
    assert {row["chosen_id"] for row in rows} == {"p/current1", "p/current3"}


# ties and missing candidates


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
    row = build(Policy("wrong", wrong, ("current",)), scored(current=[1, 4]))["p"]
    assert (row["outcome"], row["margin"]) == ("inverted", -3)


# the columns of pairs


def test_a_pair_says_where_its_sides_came_from():
    row = build(shipped("temporal"), scored(past=[0, 1], current=[2, 3], future=[4, 5]))["p"]
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
    assert build(shipped("temporal"), scored(current=[None]))["p"]["pair_id"] == pair_id(
        "p", None, None
    )


def test_prompts_do_not_mix():
    candidates = scored(prompt="a", past=[0], current=[1, 2]) + scored(
        prompt="b", past=[3], current=[4, 5], future=[6]
    )
    rows = build(shipped("temporal"), candidates)
    assert (rows["a"]["chosen_id"], rows["a"]["rejected_id"]) == ("a/current1", "a/past0")
    assert (rows["b"]["chosen_id"], rows["b"]["rejected_id"]) == ("b/future0", "b/past0")


# comparison with the papers' rules in Python


def best(rows):
    return min(rows, key=lambda row: (-row["score"], row["draw"]), default=None)


def worst(rows):
    return min(rows, key=lambda row: (row["score"], row["draw"]), default=None)


def first(rows):
    return min(rows, key=lambda row: row["draw"], default=None)


def method(policy, candidates):
    """Return the chosen and the rejected sample by the papers' rules, in plain Python."""
    role = {
        name: [row for row in candidates if row["role"] == name and row["score"] is not None]
        for name in ("past", "current", "future", "reference")
    }
    if policy == "spin":
        return first(role["reference"]), first(role["current"])
    chosen, rejected = best(role["current"]), worst(role["current"])
    if policy == "self_rewarding" or chosen is None:
        return chosen, rejected
    future, past = best(role["future"]), worst(role["past"])
    if policy != "anchored_rejection" and future and future["score"] > chosen["score"]:
        chosen = future
    if policy != "future_guided" and past and past["score"] < rejected["score"]:
        rejected = past
    return chosen, rejected


def verdict(chosen, rejected):
    if chosen is None or rejected is None:
        return "unscored"
    if not chosen["text"].strip() or not rejected["text"].strip():
        return "empty"
    if chosen["score"] == rejected["score"]:
        return "tie"
    if chosen["score"] < rejected["score"]:
        return "inverted"
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
        ("anchored_rejection", ["past", "current", "future"]),
        ("future_guided", ["past", "current", "future"]),
        ("spin", ["reference", "current"]),
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
    found = build(shipped(policy), rows)

    outcomes = set()
    for prompt, candidates in by_prompt.items():
        pair, (chosen, rejected) = found[prompt], method(policy, candidates)
        assert pair["chosen_id"] == (chosen and chosen["sample_id"])
        assert pair["rejected_id"] == (rejected and rejected["sample_id"])
        assert pair["outcome"] == verdict(chosen, rejected)
        outcomes.add(pair["outcome"])
    inverted = {"inverted"} if policy == "spin" else set()  # spin does not choose by score
    assert outcomes == {"kept", "tie", "unscored", "identical", "empty"} | inverted

    samples = {row["sample_id"]: row for row in rows}
    for pair in found.values():
        if pair["outcome"] == "kept":
            chosen, rejected = samples[pair["chosen_id"]], samples[pair["rejected_id"]]
            assert chosen["score"] > rejected["score"]
            assert pair["margin"] == chosen["score"] - rejected["score"] > 0
            assert chosen["text"].strip() != rejected["text"].strip()
            assert chosen["text"].strip()
            assert rejected["text"].strip()


# settings of the recipe's `pairs`


def outcome(candidates, **spec):
    return build(shipped("self_rewarding"), candidates, **spec)["p"]["outcome"]


@pytest.mark.parametrize(("least", "expected"), [(0, "kept"), (1, "kept"), (1.01, "small margin")])
def test_a_margin_may_be_too_small(least, expected):
    assert outcome(scored(current=[2, 3]), min_margin=least) == expected


@pytest.mark.parametrize(
    ("least", "expected"), [(0, "kept"), (1.41, "kept"), (1.42, "within noise")]
)
def test_a_margin_may_be_within_the_judges_noise(least, expected):
    # Spreads of 1 and 0 over 3 judgments each are pooled to sqrt(1/2); the margin is 1.
    noisy = [candidate("current", 0, 2, spread=1.0), candidate("current", 1, 3)]
    assert outcome(noisy, min_margin_to_noise=least) == expected


def test_judgments_that_agree_have_no_noise():
    assert outcome(scored(current=[2, 3]), min_margin_to_noise=100) == "kept"


@pytest.mark.parametrize(("most", "expected"), [(2, "kept"), (1.9, "length ratio")])
def test_a_side_may_be_too_much_longer(most, expected):
    sides_ = [candidate("current", 0, 5, n_tokens=10), candidate("current", 1, 1, n_tokens=20)]
    assert outcome(sides_, max_length_ratio=most) == expected


@pytest.mark.parametrize(("most", "expected"), [(0.6, "kept"), (0.59, "similar")])
def test_sides_may_be_too_much_alike(most, expected):
    # Three of five words in common.
    alike = [candidate("current", 0, 5, "a b c d"), candidate("current", 1, 1, "C  b\na e")]
    assert outcome(alike, max_similarity=most) == expected


def test_truncated_answers_are_no_candidates_where_they_are_dropped():
    cut = [
        candidate("current", 0, 5, finish_reason="length"),
        candidate("current", 1, 4),
        candidate("current", 2, 1),
    ]
    assert sides("self_rewarding", *cut) == ("current0", "current2")
    assert sides("self_rewarding", *cut, drop_truncated=True) == ("current1", "current2")


def test_length_control_takes_the_shortest_good_and_the_longest_bad_answer():
    answers = [
        candidate("current", 0, 10, n_tokens=50),
        candidate("current", 1, 9, n_tokens=10),
        candidate("current", 2, 7, n_tokens=1),
        candidate("current", 3, 3, n_tokens=90),
        candidate("current", 4, 2, n_tokens=70),
        candidate("current", 5, 0, n_tokens=5),
    ]
    assert sides("self_rewarding", *answers) == ("current0", "current5")
    # ρ = 0.2: scores of 8 and more, and of 2 and less (Meta-Rewarding's bounds).
    assert sides("self_rewarding", *answers, length_control=0.2) == ("current1", "current4")
    assert sides("self_rewarding", *answers, length_control=0.0) == ("current0", "current5")


@pytest.mark.parametrize(
    ("ties", "chosen"), [("draw", "current0"), ("shorter", "current1"), ("longer", "current2")]
)
def test_ties_are_broken_as_the_recipe_says(ties, chosen):
    tied = [
        candidate("current", 0, 5, n_tokens=7),
        candidate("current", 1, 5, n_tokens=2),
        candidate("current", 2, 5, n_tokens=9),
        candidate("current", 3, 1),
    ]
    assert sides("self_rewarding", *tied, ties=ties)[0] == chosen
    assert sides("self_rewarding", *reversed(tied), ties=ties)[0] == chosen


def test_ties_by_hash_prefer_no_draw():
    rows = [row for n in range(60) for row in scored(prompt=f"p{n:02}", current=[5, 5, 5, 1])]
    found = build(shipped("self_rewarding"), rows, ties="hash")
    chosen = {pair["chosen_id"].split("/")[1] for pair in found.values()}
    assert chosen == {"current0", "current1", "current2"}
    assert found == build(shipped("self_rewarding"), rows[::-1], ties="hash")


def test_the_expected_score_may_decide():
    rows = [
        candidate("current", 0, 3, expected_score=2.0),
        candidate("current", 1, 3, expected_score=2.5),
        candidate("current", 2, 5, expected_score=None),
    ]
    pair = build(shipped("self_rewarding"), rows, score="expected")["p"]
    assert (pair["chosen_id"], pair["rejected_id"]) == ("p/current1", "p/current0")
    assert (pair["score_chosen"], pair["margin"]) == (2.5, 0.5)


def test_a_prompt_may_give_several_pairs():
    rows = scored(past=[0, 1], current=[1, 2, 3, 4, 5], future=[6, 3])
    pairs = considered(shipped("temporal"), rows, per_prompt=4)
    # Two places, at most half of the five current answers. The second best future answer (3) does
    # not beat the second best current answer (4). The second worst past answer is no worse than the
    # second worst current answer.
    assert {(pair["chosen_id"], pair["rejected_id"]) for pair in pairs} == {
        ("p/future0", "p/past0"),
        ("p/current3", "p/past1"),
    }
    assert len({pair["pair_id"] for pair in pairs}) == 2


# policies of the user


OWN = """
-- Chosen: the best current answer.
-- Roles: current
select prompt_id, arg_max(sample_id, score) as chosen_id, {rejected} as rejected_id
from eligible group by prompt_id
"""


def own(toy, sql):
    (toy.folder / "own.sql").write_text(sql)
    toy.write(loop={"policy": "own.sql", "iterations": 1})


def test_a_policy_of_the_users_own(toy, factory):
    own(toy, OWN.format(rejected="arg_min(sample_id, score)"))
    assert factory("run", toy.path, "--lake", toy.lake).code == 0
    outcomes = {row["outcome"] for row in toy.query("from pairs")}
    assert "kept" in outcomes
    assert toy.to_do() == set()
    own(toy, OWN.format(rejected="arg_min(sample_id, score)") + "-- a comment")
    assert toy.to_do() == set()
    own(toy, OWN.format(rejected="arg_min(sample_id, score + 0)"))
    assert toy.to_do() == {"pairs"} | toy.to_do() - {"samples", "judgments", "verdicts"}


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (OWN.format(rejected="null::varchar"), "returned no rejected_id (prompt_id "),
        (OWN.format(rejected="'nowhere'"), "returned rejected_id nowhere, which is no candidate"),
        (
            OWN.format(rejected="3"),
            "expected the column rejected_id of type VARCHAR, but it has the type INTEGER",
        ),
        (OWN.format(rejected="nothing"), "is not a valid SQL query: Binder Error"),
        (
            OWN.replace("group by", "grup by").format(rejected="1"),
            "is not a valid SQL query: Parser Error",
        ),
        (
            OWN.replace("as chosen_id", "as best").format(rejected="''"),
            "expected the column chosen_id of type VARCHAR, but it is missing",
        ),
        (
            OWN.replace("-- Roles: current", "").format(rejected="''"),
            "add a `-- Roles:` comment with `current` and any other",
        ),
        (
            OWN.replace("Roles: current", "Roles: judge").format(rejected="''"),
            "add a `-- Roles:` comment with",
        ),
        (
            (
                "-- Roles: current\nselect prompt_id, a.sample_id as chosen_id, b.sample_id as "
                "rejected_id from eligible a join eligible b using (prompt_id) "
                "where a.sample_id < b.sample_id"
            ),
            "3 pairs, and pairs.per_prompt is 1",
        ),
        (
            (
                "-- Roles: current\nselect prompt_id, any_value(sample_id) as chosen_id, "
                "any_value(sample_id) as rejected_id from eligible group by prompt_id"
            ),
            "returned the same sample on both sides",
        ),
        (
            (
                "-- Roles: current\n-- Trains: sft\n"
                "select prompt_id, best_current.id as chosen_id, "
                "worst_current.id as rejected_id from extremes"
            ),
            ", and it trains by SFT, without that side (prompt_id ",
        ),
        (
            "-- Roles: current\n-- Trains: kto\nselect 1",
            "got the comment `-- Trains: kto` in the file own.sql: use dpo to train on pairs",
        ),
        (
            (
                "-- Roles: current\nselect 'x' as prompt_id, sample_id as chosen_id, "
                "sample_id as rejected_id from eligible limit 1"
            ),
            "returned a prompt that has no candidates",
        ),
    ],
)
def test_what_a_policy_may_not_return_is_said_in_a_sentence(toy, factory, sql, said):
    toy.script("def answer(messages, seed):\n    return f'{seed} Score: {seed % 6}'")
    toy.write(sampling={"draws": 3}, judge={"scale": [0, 5], "parser": "Score: (\\d)"})
    own(toy, sql)
    ended = factory("run", toy.path, "--lake", toy.lake)
    assert ended.code == 2, ended.err
    assert said in ended.err
    assert not toy.shards("pairs")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("-- Roles: current\n-- café".encode("latin-1"), "line 2 is not UTF-8 text: byte 0xe9"),
        ("-- Roles: current".encode("utf-16"), "it is UTF-16, not UTF-8 text"),
    ],
)
def test_a_policy_that_is_not_utf8_is_refused_with_its_line(toy, factory, content, said):
    own(toy, "")
    (toy.folder / "own.sql").write_bytes(content)
    ended = factory("plan", toy.path, "--lake", toy.lake)
    assert ended.code == 2
    assert f"loop.policy: the file own.sql cannot be read ({said})" in ended.err


def test_a_byte_order_mark_does_not_hide_the_roles_of_a_policy(toy):
    own(toy, "")
    (toy.folder / "own.sql").write_bytes(b"\xef\xbb\xbf-- Roles: past, current\r\nselect 1")
    policy = _load("own.sql", toy.folder)
    assert (policy.roles, policy.sql) == (("past", "current"), "-- Roles: past, current\nselect 1")


def test_an_unknown_policy_is_named_with_those_that_ship(toy, factory):
    toy.write(loop={"policy": "temporl"})
    ended = factory("run", toy.path, "--lake", toy.lake)
    assert ended.code == 2
    assert "loop.policy: got 'temporl': expected one of anchored_rejection, future_g" in ended.err


@pytest.mark.parametrize(
    ("policy", "trainings", "roles"),
    [
        ("temporal", 4, {"past", "current", "future"}),
        ("future_guided", 4, {"current", "future"}),
        ("anchored_rejection", 2, {"past", "current"}),
        ("self_rewarding", 2, {"current"}),
        ("spin", 2, {"reference", "current"}),
        ("rejection_sampling", 2, {"current"}),
    ],
)
def test_the_plan_knows_which_models_a_policy_needs(toy, policy, trainings, roles):
    toy.write(loop={"policy": policy})
    found = steps(toy.recipe())
    assert sum(step.stage == "train" for step in found) == trainings
    assert {step.role for step in found if step.stage == "samples"} == roles


def test_a_policy_of_the_users_own_may_find_no_candidate(toy, factory):
    """A prompt whose past answers all failed gets an outcome instead of an error."""
    toy.script(
        "def answer(messages, seed):\n"
        "    text = messages[-1]['content']\n"
        "    if 'number 3' in text and 'Score' not in text: raise ValueError\n"
        "    return f'{seed} Score: {seed % 6}'"
    )
    toy.write(judge={"parser": "Score: (\\d)"}, max_failed=0.5)
    own(
        toy,
        "-- Roles: past, current\nselect prompt_id, best_current.id as chosen_id, "
        "worst_past.id as rejected_id from extremes",
    )
    told = factory("run", toy.path, "--lake", toy.lake)
    assert told.code == 0, told.err
    outcomes = {row["outcome"] for row in toy.query("from pairs")}
    assert {"kept", "unscored"} <= outcomes


@pytest.mark.slow
def test_an_own_policy_may_read_more_than_the_candidates(toy):
    """Different meta of a prompt keeps the candidates, but may change the chosen pairs."""
    toy.write_prompts(12)
    own(
        toy,
        "-- Roles: current\nselect prompt_id, best_current.id as chosen_id, worst_current.id as "
        "rejected_id from extremes join prompts using (prompt_id) where meta is null",
    )
    toy.run()
    before = toy.query("select count(*) as n from pairs")
    lines = toy.prompts.read_text().splitlines()
    toy.prompts.write_text("\n".join([lines[0].replace("}", ', "meta": {"a": 1}}'), *lines[1:]]))
    toy.run()
    assert toy.query("select count(*) as n from pairs")[0]["n"] == before[0]["n"] - 1


def test_statements_between_candidates_and_pairs_are_part_of_the_pairs_key_and_comments_are_not(
    toy, monkeypatch
):
    toy.finish()
    real = choice.load_query

    def changed(address, more):
        query = real(address)
        return Query(address, query.text + more) if address == "pairs/extremes" else query

    monkeypatch.setattr(choice, "load_query", lambda address: changed(address, "-- a comment"))
    assert toy.to_do() == set()
    monkeypatch.setattr(choice, "load_query", lambda address: changed(address, " limit 1000000"))
    assert "pairs" in toy.to_do()


def test_scores_that_nobody_makes_cannot_decide(toy, factory):
    for change, said in [
        ("pairs.score=expected", "pairs.score: got 'expected', but the judge does not compute"),
        ("pairs={min_margin_to_noise: 1}", ""),
    ]:
        ended = factory("plan", toy.path, "--lake", toy.lake, "--set", change)
        assert (ended.code, said in ended.err) == (2 if said else 0, True)
    toy.write(judge={"draws": 1})
    ended = factory("plan", toy.path, "--set", "pairs.min_margin_to_noise=1")
    assert ended.code == 2
    assert "the noise cannot be estimated from a single judgment" in ended.err


def test_an_answer_of_unknown_length_is_the_last_of_its_band():
    rows = [
        candidate("current", 0, 5, n_tokens=None),
        candidate("current", 1, 5, n_tokens=9),
        candidate("current", 2, 3, n_tokens=1),
        candidate("current", 3, 1, n_tokens=None),
    ]
    assert sides("self_rewarding", *rows, length_control=0.3) == ("current1", "current3")


@pytest.mark.parametrize("policy", shipped_policies())
@pytest.mark.parametrize("per_prompt", [1, 3])
def test_policies_that_ship_have_no_fault(policy, per_prompt):
    random_ = random.Random(3)
    rows = [
        row
        for number in range(150)
        for row in random_candidates(random_, f"p{number:03}", shipped(policy).roles)
    ]
    with Views() as views:
        views.register("candidate_rows", pa.Table.from_pylist(rows, CANDIDATES))
        views.define("candidates", "from candidate_rows")
        define_policy(views, make_choice(with_pairs(per_prompt=per_prompt), shipped(policy)))
        assert views.all(load_query("pairs/policy_faults")) == []
