"""The named queries, with every number computed by hand from given rows of the views."""

import random
from itertools import permutations

import pyarrow as pa
import pytest

from factory.lake import TABLES, Views, load_query, query_text, shipped_queries
from factory.plan import PUBLIC_VIEWS, all_views, final_pairs


@pytest.fixture
def given():
    with Views() as views:
        views.define("judges", load_query("lake/judges").text)
        views.define("pairs", load_query("lake/pairs").text)
        views.define("final_pairs", final_pairs("D2"))
        base = load_query("lake/candidates").text
        views.define("candidates", f"select *, score as pair_score from ({base})")
        yield Given(views)


JUDGE_COLUMNS = ("judge_key", "parser_key", "n_judge_draws", "ranks_by", "opponents")


class Given:
    """Views with given rows instead of the lake's. Columns missing in a row are NULL."""

    def __init__(self, views):
        self.views = views
        self.of_parsers = []

    def rows(self, view, rows):
        schema = self.views.con.sql(f"from {view} limit 0").to_arrow_table().schema
        self.views.register(view, pa.Table.from_pylist(rows, schema))

    def pairs(self, *rows):
        self.rows("pairs", rows)

    def samples(self, *rows):
        """Register samples in their roles, with and without scores."""
        self.rows("placed", rows)
        self.rows("candidates", rows)
        self.rows(
            "panel",
            [
                {
                    **dict(zip(("iteration", "role", "name"), place, strict=True)),
                    "judge_name": "judge",
                    "title": judge["title"],
                    **{name: judge[name] for name in JUDGE_COLUMNS},
                }
                for *place, parser in sorted(
                    {
                        (row["iteration"], row["role"], row["name"], row["parser_key"])
                        for row in rows
                    }
                )
                for judge in self.of_parsers
                if judge["parser_key"] == parser
            ],
        )

    def judges(self, n_judge_draws=3, ranks_by="score", opponents=None, **names):
        """Register judges by parser: the name of the judging model, or None for a function. Call
        this before `samples`."""
        self.of_parsers = rows = [
            {
                "parser_key": parser,
                "judge_key": f"judgments by {parser}",
                "title": name or "function",
                "judge_model": name and f"digest of {name}",
                "n_judge_draws": n_judge_draws,
                "ranks_by": ranks_by,
                "opponents": opponents,
            }
            for parser, name in names.items()
        ]
        self.rows("judges", rows)

    def verdicts(self, *rows):
        """Register verdicts, each for a judgment whose text names it."""
        self.rows("verdicts", rows)
        judgments = [
            {
                "judgment_id": row["judgment_id"],
                "judge_key": row["judge_key"],
                "text": f"text of {row['judgment_id']}",
            }
            for row in rows
        ]
        self.rows("judgments", judgments)

    def ask(self, name):
        query = shipped_queries()[name].sql
        return self.views.read_only(query).to_arrow_table().to_pylist()

    def only(self, name):
        (row,) = self.ask(name)
        return row


def pair(
    margin=None, *, iteration=0, phase="D2", outcome="kept", roles=("current", "past"), **more
):
    chosen, rejected = roles
    return {
        "iteration": iteration,
        "phase": phase,
        "outcome": outcome,
        "split": "train",
        "margin": margin,
        "chosen_role": chosen,
        "rejected_role": rejected,
        **more,
    }


def sample(role, score=None, *, name="M_0", iteration=0, prompt="p", parser="a", **more):
    return {
        "role": role,
        "name": name,
        "iteration": iteration,
        "prompt_id": prompt,
        "parser_key": parser,
        "model": f"digest of {name}",
        "score": score,
        "pair_score": score,
        **more,
    }


def verdict(sample_id, draw, score, reason=None, parser="a"):
    return {
        "judgment_id": f"{sample_id}.{draw}",
        "sample_id": sample_id,
        "draw": draw,
        "judge_key": f"judgments by {parser}",
        "parser_key": parser,
        "score": score,
        "reason": reason,
    }


# pairs


def test_score_gap(given):
    given.pairs(
        pair(4.0, roles=("future", "past")),
        pair(2.0, roles=("future", "past")),
        pair(3.0),
        pair(0.0, outcome="tie"),
        pair(0.5, iteration=1, roles=("current", "current")),
        pair(1.0, iteration=1, roles=("future", "past")),
        pair(0.0, iteration=2, outcome="tie"),
    )
    rows = [list(row.values()) for row in given.ask("score_gap")]
    assert rows == [
        # iteration, phase, chosen, rejected, kept, mean, p10, median, p90, first mean / this mean
        [0, "D2", "all", "all", 3, 3.0, 2.2, 3.0, 3.8, 1.0],
        [0, "D2", "current", "past", 1, 3.0, 3.0, 3.0, 3.0, 1.0],
        [0, "D2", "future", "past", 2, 3.0, 2.2, 3.0, 3.8, 1.0],
        [1, "D2", "all", "all", 2, 0.75, 0.55, 0.75, 0.95, 4.0],
        [1, "D2", "current", "current", 1, 0.5, 0.5, 0.5, 0.5, None],
        [1, "D2", "future", "past", 1, 1.0, 1.0, 1.0, 1.0, 3.0],
        [2, "D2", "all", "all", 0, None, None, None, None, None],
    ]


def test_the_gap_of_each_phase_is_compared_with_its_own_first(given):
    given.pairs(
        pair(4.0, phase="D1"),
        pair(6.0, phase="D2"),
        pair(2.0, phase="D1", iteration=1),
        pair(2.0, phase="D2", iteration=1),
    )
    total = [row for row in given.ask("score_gap") if row["chosen_role"] == "all"]
    assert [row["collapse_ratio"] for row in total] == [1, 1, 2, 3]


def test_outcomes(given):
    unscored = pair(outcome="unscored", roles=(None, None))
    given.pairs(
        *[pair(1.0)] * 4, pair(1.0, split="test"), pair(0.0, outcome="tie"), *[unscored] * 2
    )
    rows = [list(row.values()) for row in given.ask("outcomes")]
    assert rows == [
        # iteration, phase, outcome, considered, share, train, test
        [0, "D2", "kept", 5, 0.625, 4, 1],
        [0, "D2", "unscored", 2, 0.25, 2, 0],
        [0, "D2", "tie", 1, 0.125, 1, 0],
    ]


def test_ties(given):
    top, low = ({"outcome": "tie", "score_chosen": score} for score in (5.0, 2 / 3))
    given.pairs(pair(0.0, **low), pair(0.0, **top), pair(0.0, **top), *[pair(1.0)] * 5)
    rows = [list(row.values()) for row in given.ask("ties")]
    assert rows == [[0, "D2", 5.0, 2, 0.25], [0, "D2", 0.667, 1, 0.125]]


def test_pair_lengths(given):
    given.pairs(
        pair(1.0, chosen_tokens=30, rejected_tokens=10),
        pair(1.0, chosen_tokens=20, rejected_tokens=10),
        pair(1.0, chosen_tokens=5, rejected_tokens=10),
        pair(1.0, chosen_tokens=5, rejected_tokens=5),
        pair(0.0, outcome="tie", chosen_tokens=500, rejected_tokens=5),
    )
    assert given.only("pair_lengths") == {
        "iteration": 0,
        "phase": "D2",
        "kept": 4,
        "chosen_tokens": 15.0,
        "rejected_tokens": 8.8,
        "ratio": 1.714,  # 60 / 35
        "chosen_longer": 0.5,
        "chosen_shorter": 0.25,
    }


# comparisons of roles


def of_role(given, role):
    """Return the row of `role_wins` for a role."""
    (row,) = [row for row in given.ask("role_wins") if row["role"] == role]
    return row


def test_role_wins_of_the_future(given):
    scores = {  # by prompt: current, future
        "won": ([1.0, 3.0], [4.0, 2.0]),
        "even": ([3.0, 1.0], [3.0, 3.0]),
        "lost": ([5.0, 1.0], [2.0, 4.0]),
        "won by more": ([0.0, None], [2.0, 1.0]),
        "never scored": ([None, None], [5.0, 5.0]),
    }
    rows = [
        sample(role, score, prompt=prompt)
        for prompt, of_roles in scores.items()
        for role, of_role in zip(("current", "future"), of_roles, strict=True)
        for score in of_role
    ]
    given.samples(*rows, sample("past", 9.0, prompt="won"))
    given.pairs(
        pair(1.0, phase="D1"),
        pair(1.0, roles=("future", "past")),
        pair(1.0, roles=("future", "past")),
        pair(1.0),
        pair(0.0, outcome="tie", roles=("future", "past")),
    )
    assert of_role(given, "future") == {
        "iteration": 0,
        "role": "future",
        "prompts": 4,
        "wins": 2,
        "ties": 1,
        "losses": 1,
        "win_share": 0.5,
        "mean_difference": 0.5,  # 1, 0, -1, 2
        "kept": 3,
        "kept_from_role": 2,
    }


def test_role_wins_of_the_past(given):
    scores = {  # by prompt: current, past
        "lower": ([2.0, 4.0], [1.0, 5.0]),
        "even": ([3.0, 4.0], [3.0, 3.0]),
        "higher": ([0.0, 4.0], [3.0, 5.0]),
        "lower by more": ([5.0, 5.0], [0.0, None]),
        "no past": ([5.0, 5.0], []),
    }
    rows = [
        sample(role, score, prompt=prompt, iteration=1)
        for prompt, of_roles in scores.items()
        for role, of_role in zip(("current", "past"), of_roles, strict=True)
        for score in of_role
    ]
    given.samples(*rows, sample("future", -9.0, prompt="even", iteration=1))
    given.pairs(pair(1.0, iteration=1), pair(1.0, iteration=1, roles=("future", "current")))
    assert of_role(given, "past") == {
        "iteration": 1,
        "role": "past",
        "prompts": 4,
        "wins": 2,
        "ties": 1,
        "losses": 1,
        "win_share": 0.5,
        "mean_difference": -0.75,  # -1, 0, 3, -5
        "kept": 2,
        "kept_from_role": 1,
    }


def test_before_there_are_pairs_their_counts_are_null(given):
    given.samples(sample("current", 1.0), sample("future", 2.0), sample("past", 0.0))
    for role in ("future", "past"):
        assert of_role(given, role)["wins"] == 1
        assert of_role(given, role)["kept_from_role"] is None


def test_self_preference(given):
    given.judges(a="M_1", probe=None)
    given.samples(
        sample("current", 4.0, name="M_1"),
        sample("current", 2.0, name="M_1"),
        sample("past", 1.0, name="M_0"),
        sample("past", None, name="M_0"),
        sample("future", 5.0, name="F_1"),
        sample("probe", 0.0, name="M_1", parser="probe"),
    )
    rows = [list(row.values()) for row in given.ask("self_preference")]
    assert rows == [
        # iteration, judge, role, name, is_own, answers, mean, difference from the judge's own
        [0, "M_1", "current", "M_1", True, 2, 3.0, 0.0],
        [0, "M_1", "future", "F_1", False, 1, 5.0, 2.0],
        [0, "M_1", "past", "M_0", False, 1, 1.0, -2.0],
    ]


def test_a_function_prefers_none_of_its_own(given):
    given.judges(a=None)
    given.samples(sample("current", 4.0))
    row = given.only("self_preference")
    assert (row["judge"], row["is_own"], row["difference_from_own"]) == ("function", False, None)


def test_judge_and_probe(given):
    given.samples(
        sample("probe", 1.0, parser="probe"),
        sample("probe", 2.0, parser="probe"),
        sample("probe", None, parser="probe"),
        sample("current", 4.0),
        sample("current", 5.0),
        sample("past", 0.0),
        sample("future", 5.0, name="F_0"),
        sample("probe", 2.0, name="F_0", parser="probe"),
        sample("past", 0.0, iteration=1),  # another judge's score of M_0
        sample("current", 4.0, name="M_1", iteration=1),
    )
    rows = [list(row.values()) for row in given.ask("judge_and_probe")]
    assert rows == [
        # name, probe score, change since M_0, answers, judge's score, answers
        ["M_0", 1.5, 0.0, 2, 4.5, 2],
        ["F_0", 2.0, 0.5, 1, 5.0, 1],
        ["M_1", None, None, 0, 4.0, 1],
    ]


# answers


def test_length_bias(given):
    given.judges(a="M_0")
    lengths = {"short": [(3.0, 2), (4.0, 4)], "long": [(1.0, 10), (2.0, 20)]}
    given.samples(
        *(
            sample("current", score, prompt=prompt, n_tokens=n_tokens)
            for prompt, answers in lengths.items()
            for score, n_tokens in answers
        ),
        sample("current", None, n_tokens=1000),
    )
    assert given.only("length_bias") == {
        "iteration": 0,
        "role": "current",
        "name": "M_0",
        "judge": "M_0",
        "answers": 4,
        "mean_tokens": 9.0,
        "pearson": -0.575,  # -18 / sqrt(5 * 196)
        "spearman": -0.6,
        "within_prompts": 0.832,  # 6 / sqrt(1 * 52)
    }


def test_equal_values_share_their_mean_rank(given):
    given.judges(a="M_0")
    answers = [(1.0, 1), (1.0, 2), (2.0, 3)]
    given.samples(*(sample("current", score, n_tokens=tokens) for score, tokens in answers))
    assert given.only("length_bias")["spearman"] == 0.866  # 1.5 / sqrt(1.5 * 2)


def test_without_variation_there_is_no_correlation(given):
    given.judges(a="M_0")
    scores = [(0.1, 1), (0.1, 2), (0.1, 3), (0.1, 7)]
    given.samples(*(sample("current", score, n_tokens=tokens) for score, tokens in scores))
    row = given.only("length_bias")
    assert (row["pearson"], row["spearman"], row["within_prompts"]) == (None, None, None)


def test_duplicates(given):
    texts = {"p": ["a", "a \n", "b", "", None], "q": ["x", "x", "x"], "r": ["a"]}
    given.samples(
        *(
            sample("past", prompt=prompt, text=text, error=None if text is not None else "failed")
            for prompt, answers in texts.items()
            for text in answers
        ),
        sample("current", text="a"),
    )
    current, past = given.ask("duplicates")
    assert current["duplicates"] == 0  # an equal answer in another role is not a duplicate
    assert past == {
        "iteration": 0,
        "role": "past",
        "name": "M_0",
        "answers": 7,
        "duplicates": 3,
        "share": 0.429,
        "prompts": 3,
        "prompts_with_duplicates": 2,
        "prompts_with_one_answer": 1,
    }


def test_truncated(given):
    given.samples(
        sample("current", 4.0, sample_id="1", finish_reason="stop"),
        sample("current", 2.0, sample_id="2", finish_reason="length"),
        sample("current", 1.0, sample_id="3", finish_reason="length"),
        sample("current", 5.0, sample_id="4", finish_reason=None),
        sample("current", None, sample_id="5", error="failed"),
    )
    given.pairs(
        pair(1.0, chosen_id="2", rejected_id="3"),
        pair(1.0, chosen_id="1", rejected_id="3"),
        pair(0.0, chosen_id="3", rejected_id="2", outcome="tie"),
        pair(1.0, chosen_id="3", rejected_id="2", phase="D1"),
    )
    assert given.only("truncated") == {
        "iteration": 0,
        "role": "current",
        "name": "M_0",
        "answers": 4,
        "truncated": 2,
        "share": 0.5,
        "score_truncated": 1.5,
        "score_whole": 4.5,
        "chosen": 1,
        "rejected": 1,
    }


def test_score_distribution(given):
    given.judges(a="M_0", probe=None)
    scores = [0.0, 0.3, 0.5, 4.99, 5.0, 5.0, None]
    given.samples(
        *(sample("current", score) for score in scores),
        sample("probe", 100.0, parser="probe"),
        sample("probe", 100.0, parser="probe"),
    )
    rows = [list(row.values())[1:] for row in given.ask("score_distribution")]
    assert rows == [
        # role, name, judge, from, to, answers, share, histogram
        ["current", "M_0", "M_0", 0.0, 0.5, 2, 0.333, "▇" * 10],
        ["current", "M_0", "M_0", 0.5, 1.0, 1, 0.167, "▇" * 5],
        ["current", "M_0", "M_0", 4.5, 5.0, 1, 0.167, "▇" * 5],
        ["current", "M_0", "M_0", 5.0, 5.5, 2, 0.333, "▇" * 10],
        ["probe", "M_0", "function", 100.0, 101.0, 2, 1.0, "▇" * 30],
    ]


@pytest.mark.parametrize("top", [1, 3, 5, 9, 10, 100])
def test_every_score_is_in_its_bin(given, top):
    given.judges(a="M_0")
    scores = [number * top / 60 for number in range(61)]
    given.samples(*(sample("current", score) for score in scores))
    rows = given.ask("score_distribution")
    assert 10 <= len(rows) <= 26
    for row in rows:
        begin, end = row["from_score"] - 1e-9, row["to_score"] - 1e-9
        assert row["answers"] == sum(begin <= score < end for score in scores)
    assert sum(row["answers"] for row in rows) == 61


# the judge


def test_judge_agreement(given):
    given.judges(a="M_0", n_judge_draws=3)
    given.samples(*(sample("current", sample_id=name) for name in "stu"))
    given.verdicts(
        *(verdict("s", draw, 4.0) for draw in range(3)),
        verdict("s", 3, 0.0),  # the recipe uses fewer draws
        verdict("t", 0, 1.0),
        verdict("t", 1, None, "no score"),
        verdict("t", 2, 3.0),
        verdict("u", 0, 5.0),
    )
    assert given.only("judge_agreement") == {
        "iteration": 0,
        "role": "current",
        "name": "M_0",
        "judge": "M_0",
        "samples": 2,
        "verdicts": 5,
        "all_equal": 0.5,
        "pairwise_equal": 0.75,  # three of three, none of one
        "mean_spread": 0.5,  # 0 and 1
        "krippendorff_alpha": 0.529,  # 1 - (2 * 2 / 5) / (6.8 / 4)
    }


def test_krippendorffs_own_example(given):
    """The example of Computing Krippendorff's Alpha-Reliability (2011), section C, has four
    observers, twelve units, interval data, and an alpha of 0.849."""
    observers = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    given.judges(a="M_0", n_judge_draws=4)
    given.samples(*(sample("current", sample_id=f"s{unit}") for unit in range(12)))
    given.verdicts(
        *(
            verdict(f"s{unit}", draw, None if value == "." else float(value))
            for draw, values in enumerate(observers)
            for unit, value in enumerate(values)
        )
    )
    row = given.only("judge_agreement")
    assert (row["samples"], row["verdicts"]) == (11, 40)
    assert row["krippendorff_alpha"] == 0.849


def test_agreement_is_what_its_definitions_make_of_random_verdicts(given):
    random_ = random.Random(2)
    units = [
        [random_.choice([1, 2, 4, 5]) for _ in range(random_.randrange(1, 6))] for _ in range(60)
    ]
    given.judges(a="M_0", n_judge_draws=5)
    given.samples(*(sample("current", sample_id=f"s{unit}") for unit in range(60)))
    given.verdicts(
        *(
            verdict(f"s{u}", d, float(score))
            for u, unit in enumerate(units)
            for d, score in enumerate(unit)
        )
    )
    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]
    equal = [a == b for unit in units for a, b in permutations(unit, 2)]
    observed = sum(
        (a - b) ** 2 / (len(unit) - 1) for unit in units for a, b in permutations(unit, 2)
    ) / len(values)
    expected = sum((a - b) ** 2 for a, b in permutations(values, 2))
    expected /= len(values) * (len(values) - 1)
    row = given.only("judge_agreement")
    assert row["all_equal"] == round(sum(len(set(unit)) == 1 for unit in units) / len(units), 3)
    assert row["pairwise_equal"] == round(sum(equal) / len(equal), 3)
    assert row["krippendorff_alpha"] == round(1 - observed / expected, 3)


def test_equal_scores_everywhere_are_agreement_without_an_alpha(given):
    given.judges(a="M_0")
    given.samples(sample("current", sample_id="s"))
    given.verdicts(verdict("s", 0, 4.0), verdict("s", 1, 4.0))
    row = given.only("judge_agreement")
    assert (row["all_equal"], row["pairwise_equal"], row["krippendorff_alpha"]) == (1, 1, None)


def test_parse_failures(given):
    given.judges(a="M_0", n_judge_draws=5)
    given.samples(sample("current", sample_id="s"), sample("past", sample_id="t"))
    given.verdicts(
        *(verdict("s", draw, None, "several scores: 1, 5") for draw in range(4)),
        verdict("s", 4, 3.0),
        verdict("s", 5, None, "a draw that the recipe no longer asks for"),
        verdict("t", 0, None, "out of scale: 9 is not in 0 to 5"),
        verdict("t", 1, None, "out of scale: 7 is not in 0 to 5"),
        verdict("t", 2, None, "no score"),
        verdict("t", 3, 1.0),
    )
    rows = [list(row.values()) for row in given.ask("parse_failures")]
    assert rows == [
        # iteration, role, name, judge, reason, failures, share, examples
        [
            0,
            "current",
            "M_0",
            "M_0",
            "several scores",
            4,
            0.8,
            ["text of s.0", "text of s.1", "text of s.2"],
        ],
        [0, "past", "M_0", "M_0", "out of scale", 2, 0.5, ["text of t.0", "text of t.1"]],
        [0, "past", "M_0", "M_0", "no score", 1, 0.25, ["text of t.2"]],
    ]


def test_judges_are_named_by_who_they_are(given):
    panel = [
        {
            "role": "current",
            "title": "M_0",
            "judge_model": "d",
            "parser_key": "a",
            "judge_key": "j",
        },
        {"role": "past", "title": "M_0", "judge_model": "d", "parser_key": "a", "judge_key": "j"},
        {
            "role": "probe",
            "title": "function",
            "judge_model": "e",
            "parser_key": "b",
            "judge_key": "f",
        },
        {"role": "future", "title": "M_0", "judge_key": "j"},  # not judged yet
    ]
    rows = [{**row, "n_judge_draws": 3} for row in panel]
    given.views.register("panel", pa.Table.from_pylist(rows, TABLES["panel"]))
    found = given.views.con.sql("from judges order by parser_key").to_arrow_table().to_pylist()
    assert [list(row.values()) for row in found] == [
        ["a", "j", "M_0", "d", 3, None],
        ["b", "f", "function", "e", 3, None],
    ]


# the score that ranks the pairs


BY_PAIR_SCORE = ("best_of_k", "judge_and_probe", "length_bias", "role_wins", "score_distribution")


@pytest.mark.parametrize("name", [*BY_PAIR_SCORE, "truncated", "pair_quality"])
def test_a_query_reads_the_score_that_ranks_the_pairs(given, name):
    scores = [
        *(("current", "M_0", score) for score in (1.25, 2.5, 1.0)),
        *(("future", "F_0", score) for score in (3.5, 0.5, 2.0)),
        *(("past", "M_0", score) for score in (1.5, 0.25, 0.75)),
        ("probe", "M_0", 4.0),
    ]

    def ask(parsed):
        rows = [
            sample(
                role,
                parsed(score),
                name=model,
                pair_score=score,
                draw=draw,
                sample_id=f"s{draw}",
                text=f"text {draw}",
                n_tokens=draw * draw,
                finish_reason="length" if draw % 2 else "stop",
                split="train",
            )
            for draw, (role, model, score) in enumerate(scores)
        ]
        given.rows("prompts", [prompt("p")])
        given.judges(a="M_0")
        given.samples(*rows)
        given.pairs(pair(1.0, prompt_id="p"))
        return given.ask(name)

    assert ask(lambda score: score) == ask(lambda score: 5 - score) == ask(lambda _: None) != []


def test_self_preference_reads_expected_scores_that_rank_the_pairs(given):
    given.judges(a="M_0", ranks_by="expected_score")
    given.samples(
        sample("current", 1.0, expected_score=1.5),
        sample("future", 1.0, name="F_0", expected_score=2.0),
    )
    rows = {row["role"]: row for row in given.ask("self_preference")}
    assert (rows["current"]["mean_score"], rows["future"]["difference_from_own"]) == (1.5, 0.5)


@pytest.mark.parametrize(
    ("ranks_by", "equal", "consistency"),
    # Draws of two samples: parsed scores 1, 1 and 1, 3; expected scores 1, 2 and 4, 4.
    [("score", 0.5, 0.0), ("expected_score", 0.5, 0.889)],
)
def test_agreement_compares_the_scores_that_rank_the_pairs(given, ranks_by, equal, consistency):
    given.judges(a="M_0", ranks_by=ranks_by)
    given.samples(*(sample("current", 1.0, sample_id=name) for name in "st"))
    given.pairs(pair(1.0, phase="D1"))
    expected = {"s": [(1.0, 1.0), (1.0, 2.0)], "t": [(1.0, 4.0), (3.0, 4.0)]}
    given.verdicts(
        *(
            {**verdict(name, draw, score), "expected_score": value}
            for name, draws in expected.items()
            for draw, (score, value) in enumerate(draws)
        )
    )
    row = given.only("judge_agreement")
    assert (row["all_equal"], row["krippendorff_alpha"]) == (equal, consistency)
    assert given.only("pair_quality")["consistency"] == consistency


# the quality of the pairs


def test_pair_quality(given):
    given.judges(a="M_0", n_judge_draws=2)
    answers = {  # by prompt: current, future, past; a score, a text, and whether it was cut off
        "won": [(1.0, "a", 0), (2.0, "b", 1), (4.0, "c", 0), (1.0, "a", 1)],
        "even": [(3.0, "a", 0), (1.0, "b", 0), (3.0, "c", 1), (1.0, "d", 0)],
        "lost": [(3.0, "same", 0), (3.0, "same ", 0), (2.0, " same", 0), (3.0, "same", 1)],
        "failed": [(None, None, 0), (5.0, "a", 0), (None, None, 0), (None, "a", 0)],
    }
    roles = [("current", "M_0"), ("current", "M_0"), ("future", "F_0"), ("past", "M_0")]
    given.samples(
        *(
            sample(
                role,
                score,
                name=name,
                prompt=prompt,
                sample_id=f"{prompt}{place}",
                text=text,
                error=None if text else "failed",
                finish_reason=("length" if cut_off else "stop") if text else None,
            )
            for prompt, of_prompt in answers.items()
            for place, ((role, name), (score, text, cut_off)) in enumerate(
                zip(roles, of_prompt, strict=True)
            )
        ),
        sample("reference", 5.0, prompt="won", text="a", finish_reason="stop", name="reference"),
        sample("probe", 100.0, prompt="asked", text="a", parser="probe", finish_reason="length"),
    )
    given.verdicts(
        *(verdict("won0", draw, score) for draw, score in enumerate([1.0, 1.0, 5.0])),
        *(verdict("won2", draw, score) for draw, score in enumerate([3.0, 5.0])),
        *(verdict("even1", draw, score) for draw, score in enumerate([1.0, None])),
    )
    given.pairs(
        pair(1.0, phase="D1", chosen_tokens=5, rejected_tokens=5),
        pair(3.0, roles=("future", "past"), chosen_tokens=9, rejected_tokens=5),
        pair(1.0, chosen_tokens=5, rejected_tokens=9),
        pair(2.0, chosen_tokens=7, rejected_tokens=6),
        pair(0.0, outcome="tie", chosen_tokens=9, rejected_tokens=1),
    )
    first, second = given.ask("pair_quality")
    # Scores in D1: 1, 2, 1, 3, 1, 1, 3, 3, 3, 5, and 5 of the reference.
    assert first == {
        "iteration": 0,
        "phase": "D1",
        "gap": 1.0,
        "score_sd": 1.437,  # sqrt(94 / 11 - (28 / 11) ** 2)
        "gap_in_sd": 0.696,
        "lowest_score": 1.0,
        "highest_score": 5.0,
        "future_won": None,
        "chosen_longer": 0.0,
        "answers": 11,
        "truncated": 3,
        "truncated_share": 0.273,
        "failed": 1,
        "prompts": 4,
        "same_text": 2,  # the failed prompt has two answers with one text
        "same_text_share": 0.5,
        "rejudged": 1,
        "consistency": None,  # equal scores
    }
    # Also 4, 3, and 2 of the future model.
    assert second == {
        **first,
        "phase": "D2",
        "gap": 2.0,
        "score_sd": 1.342,  # sqrt(123 / 14 - (37 / 14) ** 2)
        "gap_in_sd": 1.49,
        "future_won": 0.333,
        "chosen_longer": 0.667,
        "answers": 14,
        "truncated": 4,
        "truncated_share": 0.286,
        "failed": 2,
        "rejudged": 2,
        "consistency": 0.727,  # 1 - ((0 + 2) / 2) / (11 / 3)
    }


def test_without_repeated_judgments_the_quality_has_no_consistency(given):
    given.judges(a="M_0", n_judge_draws=1)
    given.samples(sample("current", 1.0, sample_id="s"), sample("past", 2.0, sample_id="t"))
    given.verdicts(verdict("s", 0, 1.0), verdict("t", 0, 2.0), verdict("t", 1, 5.0))
    given.pairs(pair(1.0))
    row = given.only("pair_quality")
    assert (row["rejudged"], row["consistency"]) == (0, None)


@pytest.mark.parametrize("judge", [{"ranks_by": None}, {"opponents": 2}])
def test_a_judge_that_does_not_rank_or_compares_has_no_consistency(given, judge):
    given.judges(a="M_0", **judge)
    given.samples(sample("current", 1.0, sample_id="s"))
    given.verdicts(verdict("s", 0, 1.0), verdict("s", 1, 2.0))
    given.pairs(pair(1.0))
    assert given.only("pair_quality")["rejudged"] == 0


def test_the_least_consistent_judge_counts(given):
    given.samples(*(sample("current", 1.0, sample_id=name) for name in "st"))
    given.pairs(pair(1.0))
    place = {"iteration": 0, "role": "current", "name": "M_0", "n_judge_draws": 2}
    given.rows(
        "panel",
        [
            {**place, "judge_name": name, "parser_key": name, "ranks_by": "score"}
            for name in ("steady", "wild")
        ],
    )
    draws = {"steady": {"s": (1, 1), "t": (3, 3)}, "wild": {"s": (1, 3), "t": (1, 3)}}
    given.verdicts(
        *(
            verdict(sample_id, draw, float(score), parser=judge)
            for judge, samples in draws.items()
            for sample_id, scores in samples.items()
            for draw, score in enumerate(scores)
        )
    )
    assert given.only("pair_quality")["consistency"] == -0.5  # 1 - 2 / (4 / 3)


# all named queries, on lakes


def answers(toy, *overrides):
    views = all_views(toy.look(*overrides))
    return {
        name: views.read_only(query.sql).to_arrow_table().to_pylist()
        for name, query in shipped_queries().items()
    }


# rows for trainers


def prompt(prompt_id, split="train"):
    turn = {"role": "user", "content": f"Asked: {prompt_id}", "name": "somebody"}
    return {"prompt_id": prompt_id, "split": split, "iteration": 0, "messages": [turn]}


def messages(role, content):
    return [{"role": role, "content": content}]


def test_kto(given):
    given.rows("prompts", [prompt("p"), prompt("q", "test")])
    texts = [{"sample_id": name, "text": f"text of {name}"} for name in "abcd"]
    given.rows("samples", texts)
    given.pairs(
        pair(1, pair_id="1", prompt_id="p", chosen_id="a", rejected_id="b"),
        pair(1, pair_id="2", prompt_id="p", chosen_id="b", rejected_id="c"),  # b has both labels
        pair(1, pair_id="3", prompt_id="p", chosen_id="a", rejected_id="c", iteration=1),
        pair(1, prompt_id="q", chosen_id="d", rejected_id="b", outcome="tie"),
        pair(1, prompt_id="q", chosen_id="d", rejected_id="b", phase="D1"),
    )
    rows = given.ask("kto")
    assert [(row["sample_id"], row["label"], row["iteration"]) for row in rows] == [
        ("a", True, 0),
        ("c", False, 0),
    ]
    assert rows[0]["prompt"] == messages("user", "Asked: p")
    assert rows[0]["completion"] == messages("assistant", "text of a")


def test_kto_gives_a_text_one_label_per_prompt(given):
    given.rows("prompts", [prompt("p"), prompt("q")])
    texts = {"a": "yes", "b": "no", "c": " yes\n", "d": "no", "e": "yes", "f": "no"}
    given.rows("samples", [{"sample_id": name, "text": text} for name, text in texts.items()])
    given.pairs(
        pair(1, pair_id="1", prompt_id="p", chosen_id="a", rejected_id="b"),
        pair(1, pair_id="2", prompt_id="p", chosen_id="d", rejected_id="c"),
        pair(1, pair_id="3", prompt_id="q", chosen_id="f", rejected_id="e"),
    )
    assert [(row["sample_id"], row["label"]) for row in given.ask("kto")] == [
        ("e", False),
        ("f", True),
    ]


def test_best_of_k(given):
    given.rows("prompts", [prompt("p"), prompt("q", "test"), prompt("r")])
    answers = [("p", 0, 3), ("p", 1, 5), ("p", 2, 5), ("q", 0, 1), ("r", 0, None)]
    given.samples(
        *(
            sample(
                "current",
                score,
                prompt=name,
                draw=draw,
                sample_id=f"{name}{draw}",
                text=f"text {name}{draw}",
                split="test" if name == "q" else "train",
            )
            for name, draw, score in answers
        ),
        sample("future", 9, prompt="p", draw=0, sample_id="f", text="f", split="train"),
    )
    rows = given.ask("best_of_k")
    assert [(row["sample_id"], row["score"], row["split"]) for row in rows] == [
        ("p1", 5, "train"),
        ("q0", 1, "test"),
    ]
    assert rows[0]["prompt"] == messages("user", "Asked: p")
    assert rows[0]["completion"] == messages("assistant", "text p1")


def test_the_rows_for_trainers_are_of_a_real_run(toy):
    toy.finish()
    views = all_views(toy.look())

    def ask(name):
        return views.read_only(shipped_queries()[name].sql).to_arrow_table().to_pylist()

    kept = toy.query("from pairs where outcome = 'kept' and phase = 'D2'")
    labels = {row["sample_id"]: row["label"] for row in ask("kto")}
    assert {row["chosen_id"] for row in kept} >= {name for name, label in labels.items() if label}
    assert set(labels) == {row[side] for row in kept for side in ("chosen_id", "rejected_id")}
    (count,) = toy.query(
        "select count(distinct (iteration, prompt_id)) as n from candidates "
        "where role = 'current' and score is not null"
    )
    assert len(ask("best_of_k")) == count["n"]


def test_before_a_run_every_query_has_no_rows(toy):
    toy.add_probe()
    assert set(map(len, answers(toy).values())) == {0}


def test_between_the_stages_no_query_fails(toy):
    from factory.lake import Lake
    from factory.progress import Silent
    from factory.run import preview_recipe

    toy.add_probe()
    preview_recipe(toy.recipe(), Lake(toy.lake), Silent(), 3)
    rows = answers(toy)
    assert rows["duplicates"]
    assert rows["judge_agreement"]
    assert rows["outcomes"] == rows["score_gap"] == []


@pytest.mark.slow
def test_after_a_run_the_queries_agree_with_the_views(toy):
    toy.add_probe()
    toy.finish()
    rows = answers(toy)
    assert {name for name, found in rows.items() if not found} <= {
        *("parse_failures", "ties"),
        *("judge_pairs", "judge_confusion", "position_bias"),  # in test_judges
    }
    gaps = toy.query("from gaps")
    total = [row for row in rows["score_gap"] if row["chosen_role"] == "all"]
    assert [(row["kept"], row["mean_gap"]) for row in total] == [
        (row["kept"], row["gap"]) for row in gaps
    ]
    assert sum(row["considered"] for row in rows["outcomes"]) == sum(row["prompts"] for row in gaps)
    assert sum(row["ties"] for row in rows["ties"]) == sum(row["ties"] for row in gaps)
    d2 = [row for row in gaps if row["phase"] == "D2"]
    for role, column in (("future", "chosen_from_future"), ("past", "rejected_from_past")):
        kept = [row["kept_from_role"] for row in rows["role_wins"] if row["role"] == role]
        assert kept == [row[column] for row in d2]
    kept = [row["kept"] for row in gaps if row["phase"] == "D2"]
    assert len(rows["pair_texts"]) == sum(kept)
    (first, *_) = rows["pair_texts"]
    assert first["prompt"].startswith("Say number")
    assert first["margin"] == max(
        row["margin"] for row in rows["pair_texts"] if row["iteration"] == 0
    )
    (sides,) = toy.query(f"from pairs where pair_id = '{first['pair_id']}' and phase = 'D2'")
    texts = {row["sample_id"]: row["text"] for row in toy.query("from samples")}
    assert first["chosen"] == texts[sides["chosen_id"]]
    assert first["rejected"] == texts[sides["rejected_id"]]
    (scored,) = toy.query("select count(score) as n from candidates")
    assert sum(row["answers"] for row in rows["score_distribution"]) == scored["n"]
    assert {row["judge"] for row in rows["self_preference"]} == {"M_0", "M_1"}
    assert {row["judge"] for row in rows["score_distribution"]} == {"M_0", "M_1", "function"}
    (failed,) = toy.query(
        "select count(*) as n from verdicts join candidates using (sample_id, parser_key) "
        "where verdicts.score is null"
    )
    assert sum(row["failures"] for row in rows["parse_failures"]) == failed["n"]


def test_a_policy_without_the_roles_of_a_query_gives_it_no_rows(toy):
    toy.write(loop={"policy": "self_rewarding"})
    toy.finish()
    rows = answers(toy)
    assert rows["role_wins"] == []
    assert {row["phase"] for row in rows["score_gap"]} == {"D2"}


# names


def test_every_query_says_what_it_shows_and_its_grain():
    for query in shipped_queries().values():
        explanation, grain, _ = query.explanation.partition("Grain: ")
        assert grain
        assert explanation.strip().endswith(".")
        assert query.explanation.endswith(".")
        assert max(map(len, query.sql.splitlines())) <= 100


def test_no_query_has_the_name_of_a_view():
    assert not set(shipped_queries()) & set(PUBLIC_VIEWS)


def test_sql_runs_a_named_query_in_every_format(toy, factory):
    toy.finish()
    args = ("sql", toy.path, "outcomes", "--lake", toy.lake, "--format")
    rows = factory(*args, "json").json()
    assert sum(row["considered"] for row in rows) == 2 * 12
    assert "outcome" in factory(*args, "table").out
    assert factory(*args, "csv").out.startswith('"iteration","phase","outcome"')


def test_sql_lists_the_named_queries_without_a_lake(toy, factory):
    listed = factory("sql", toy.path, "--list")
    assert listed.code == 0
    rows = factory("sql", toy.path, "--list", "--format", "json").json()
    assert [row["name"] for row in rows] == list(shipped_queries())
    for row in rows:
        assert row["name"] in listed.out
        assert row["explanation"] in listed.out


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("score_gaps", "did you mean score_gap"),
        ("self-preference", "did you mean self_preference"),
        ("gaps", 'run "from gaps"'),
        ("candidate", "candidates"),
        ("xyzzy", "list the named queries with `factory sql RECIPE --list`"),
    ],
)
def test_an_unknown_word_is_a_sentence(toy, factory, word, meant):
    ended = factory("sql", toy.path, word, "--lake", toy.lake)
    assert ended.code == 2
    assert ended.err.startswith(f"factory: {word}")
    assert meant in ended.err
    assert ended.err.count("\n") == 1


def test_what_is_no_single_word_is_left_to_duckdb():
    for query in ("", "from gaps", "select 1", "(from gaps)"):
        assert query_text(query, PUBLIC_VIEWS) == query
    assert query_text(" score_gap ; ", PUBLIC_VIEWS) == shipped_queries()["score_gap"].sql
