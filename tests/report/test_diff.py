"""Tests of comparing two sets of pairs: every reason with handwritten rows, and real lakes."""

import json
import shutil

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from factory.lake import Views, load_query
from factory.report import NO_CANDIDATES, PAIR_COLUMNS, QUERIES

COLUMNS = [name for name in PAIR_COLUMNS.split(", ") if name != "pair_id"]


class Given:
    """Handwritten pairs and candidates of A and B, which replace the Parquet files."""

    def __init__(self, views):
        self.views = views
        self.considered, self.candidates = [], []
        self.known = {"A": (True, True), "B": (True, True)}

    def pair(self, source, chosen, rejected, *, outcome="kept", roles=("current", "past"), **more):
        """Add a pair. Each side is a sample's name and score, such as ("x", 4)."""
        row = {
            "source": source,
            "outcome": outcome,
            "prompt_id": "p",
            "iteration": 0,
            "judge_model": "judge",
        }
        for side, answer, role in zip(
            ("chosen", "rejected"), (chosen, rejected), roles, strict=True
        ):
            row |= {f"{side}_id": answer[0], f"score_{side}": answer[1], f"{side}_role": role}
            row[f"{side}_model"] = f"model as {role}"
        row |= more
        self.considered.append({"pair_id": f"{row['chosen_id']}>{row['rejected_id']}", **row})
        return self

    def candidate(self, source, sample_id, score=3.0, role="current", **more):
        row = {"prompt_id": "p", "iteration": 0, "model": f"model as {role}", "is_cut_off": False}
        named = {"source": source, "sample_id": sample_id, "score": score, "role": role}
        self.candidates.append(row | named | more)
        return self

    def of_datasets(self):
        self.known = {"A": (False, False), "B": (False, False)}
        return self

    def ask(self):
        text = pa.string()
        columns = dict.fromkeys(("source", "outcome", "pair_id", *COLUMNS), text)
        columns |= {"iteration": pa.int32()}
        columns |= {"score_chosen": pa.float64(), "score_rejected": pa.float64()}
        schema = pa.schema(list(columns.items()))
        self.views.register("considered", pa.Table.from_pylist(self.considered, schema))
        schema = self.views.con.sql(NO_CANDIDATES).to_arrow_table().schema
        self.views.register("offered", pa.Table.from_pylist(self.candidates, schema))
        known = [
            {"source": source, "has_outcomes": outcomes, "has_candidates": candidates}
            for source, (outcomes, candidates) in self.known.items()
        ]
        self.views.register("known", pa.Table.from_pylist(known))
        for name in QUERIES:
            self.views.define(name, load_query(f"report/{name}"))
        return self.views.con.sql("from diff order by all").to_arrow_table().to_pylist()

    def only(self):
        (row,) = self.ask()
        return row["status"], row["reason"], row["detail"]


@pytest.fixture
def given():
    with Views() as views:
        yield Given(views)


X, Y, Z = ("x", 4.0), ("y", 2.0), ("z", 3.5)

# same and flipped


def test_the_same_pair(given):
    given.pair("A", X, Y).pair("B", X, Y)
    assert given.only() == ("same", "same scores", "")


def test_the_same_pair_with_another_score(given):
    given.pair("A", X, Y).pair("B", X, ("y", 1.0))
    assert given.only() == ("same", "other scores", "A 4 and 2; B 4 and 1")


def test_the_same_pair_by_another_judge(given):
    given.pair("A", X, Y).pair("B", X, ("y", 1.0), judge_model="other")
    assert given.only() == ("same", "other judge", "A 4 and 2; B 4 and 1")


def test_flipped(given):
    given.pair("A", X, Y).pair("B", ("y", 3.0), ("x", 1.0))
    assert given.only() == ("flipped", "other scores", "A 4 and 2; B 3 and 1")


def test_flipped_by_another_judge(given):
    given.pair("A", X, Y).pair("B", ("y", 3.0), ("x", 1.0), judge_model="other")
    assert given.only()[:2] == ("flipped", "other judge")


# lost and gained


def test_lost_says_what_came_of_it_in_b(given):
    given.pair("A", X, Y).pair("B", ("x", 3.0), ("y", 3.0), outcome="tie")
    assert given.only() == ("lost", "tie in B", "A 4 and 2; B 3 and 3")


def test_gained_says_what_came_of_it_in_a(given):
    given.pair("A", X, ("z", None), outcome="unscored").pair("B", X, Y)
    assert given.only() == (
        "gained",
        "unscored in A",
        "B 4 and 2; A 4 and no score, of other answers",
    )


def test_lost_of_several_considered_the_same_answers_tell(given):
    given.pair("A", X, Y).pair("B", ("a", 3.0), ("b", 3.0), outcome="identical")
    given.pair("B", ("y", 3.0), ("x", 3.0), outcome="inverted")
    assert given.only() == ("lost", "inverted in B", "A 4 and 2; B 3 and 3, exchanged")
    given.pair("B", X, Y, outcome="small margin")
    assert given.only()[1] == "small margin in B"


def test_lost_where_b_keeps_fewer_of_the_prompt(given):
    given.pair("A", X, Y).pair("A", Z, ("v", 0.0)).pair("B", X, Y)
    assert [row["reason"] for row in given.ask()] == ["fewer pairs in B", "same scores"]


def test_lost_where_the_policy_considered_nothing(given):
    given.pair("A", X, Y).candidate("B", "x").pair("B", *(X, Y), prompt_id="q")
    assert ("lost", "not considered in B") in {(r["status"], r["reason"]) for r in given.ask()}


def test_lost_with_its_prompt(given):
    given.pair("A", X, Y).pair("B", X, Y, prompt_id="q")
    told = {(row["status"], row["reason"]) for row in given.ask()}
    assert told == {("lost", "prompt not in B"), ("gained", "prompt not in A")}


def test_lost_to_another_iteration(given):
    given.pair("A", X, Y).pair("B", X, Y, iteration=1)
    told = {(row["status"], row["reason"], row["detail"]) for row in given.ask()}
    assert told == {
        ("lost", "other iteration in B", "iteration 1 of B"),
        ("gained", "other iteration in A", "iteration 0 of A"),
    }


def test_lost_with_its_iteration(given):
    given.pair("A", X, Y).pair("A", X, Y, prompt_id="q", iteration=1).pair("B", X, Y)
    assert {row["reason"] for row in given.ask()} == {"same scores", "iteration not in B"}


@pytest.mark.parametrize(
    ("known", "reason"),
    [((True, False), "not considered in B"), ((False, False), "not in B")],
)
def test_lost_where_less_is_known(given, known, reason):
    given.pair("A", X, Y).pair("B", X, Y, prompt_id="q")
    given.known["B"] = known
    assert next(row for row in given.ask() if row["status"] == "lost")["reason"] == reason


# changed


def test_changed_by_scores(given):
    given.pair("A", X, Y).pair("B", Z, Y)
    given.candidate("A", "z", 3.5).candidate("B", "x", 3.25)
    assert given.only() == (
        "changed chosen",
        "other scores",
        "chosen: current 4 (3.25 in B), now current 3.5",
    )


def test_changed_by_the_score_of_the_new_one(given):
    given.pair("A", X, Y).pair("B", X, ("z", 1.0), judge_model="other")
    given.candidate("A", "z", 3.5, "past").candidate("B", "y", 2.0, "past")
    assert given.only() == (
        "changed rejected",
        "other judge",
        "rejected: past 2, now past 1 (3.5 in A)",
    )


def test_changed_by_the_policy(given):
    given.pair("A", X, Y).pair("B", Z, Y, roles=("future", "past"))
    given.candidate("A", "z", 3.5, "future").candidate("B", "x", 4.0)
    assert given.only() == (
        "changed chosen",
        "future instead of current",
        "chosen: current 4, now future 3.5",
    )


@pytest.mark.parametrize(("score", "reason"), [(4.0, "equal scores"), (3.5, "other choice")])
def test_changed_among_the_same_candidates(given, score, reason):
    given.pair("A", X, Y).pair("B", ("z", score), Y)
    given.candidate("A", "z", score).candidate("B", "x", 4.0)
    assert given.only()[1] == reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"sample_id": "x", "score": None}, "no score in B"),
        ({"sample_id": "x", "is_cut_off": True}, "cut off in B"),
        ({"sample_id": "v"}, "no candidate in B"),
        ({"sample_id": "v", "model": "other"}, "other model as current"),
        ({"sample_id": "v", "role": "past"}, "no current in B"),
    ],
)
def test_changed_since_the_old_one_cannot_be_taken(given, row, reason):
    given.pair("A", X, Y).pair("B", Z, Y).candidate("A", "z", 3.5).candidate("B", **row)
    assert given.only()[:2] == ("changed chosen", reason)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"sample_id": "z", "score": None}, "no score in A"),
        ({"sample_id": "z", "is_cut_off": True}, "cut off in A"),
        ({"sample_id": "v"}, "no candidate in A"),
        ({"sample_id": "v", "model": "other"}, "other model as current"),
        ({"sample_id": "v", "role": "past"}, "no current in A"),
    ],
)
def test_changed_since_the_new_one_could_not_be_taken(given, row, reason):
    given.pair("A", X, Y).pair("B", Z, Y).candidate("B", "x", 4.0).candidate("A", **row)
    assert given.only()[:2] == ("changed chosen", reason)


def test_changed_both_with_a_reason_each(given):
    given.pair("A", X, Y).pair("B", Z, ("v", 1.0))
    given.candidate("B", "x", 3.0).candidate("A", "z", 3.5)
    given.candidate("B", "y", 2.0, "past").candidate("A", "u", 2.0, "past")
    assert given.only() == (
        "changed both",
        "chosen: other scores; rejected: no candidate in A",
        "chosen: current 4 (3 in B), now current 3.5; rejected: past 2, now past 1",
    )


def test_changed_both_for_one_reason(given):
    given.pair("A", X, Y).pair("B", Z, ("v", 1.0), roles=("future", "current")).of_datasets()
    given.considered[0] |= {"chosen_role": "past", "rejected_role": "past"}
    given.considered[1] |= {"rejected_role": "future"}
    assert given.only()[:2] == ("changed both", "future instead of past")


def test_changed_with_one_answer_on_the_other_side_is_changed_both(given):
    given.pair("A", X, Y).pair("B", ("z", 4.0), ("x", 1.0)).of_datasets()
    assert given.only() == (
        "changed both",
        "other scores",
        "chosen: current 4 (1 in B), now current 4; rejected: past 2, now past 1 (4 in A)",
    )


def test_datasets_say_what_their_rows_say(given):
    given.of_datasets().pair("A", X, Y).pair("B", Z, Y)
    assert given.only()[1] == "other answer"
    given.considered[1]["chosen_model"] = "other"
    assert given.only()[1] == "other model as current"
    given.considered[1]["chosen_role"] = "future"
    assert given.only()[1] == "future instead of current"


def test_equal_scores_where_only_one_set_has_candidates(given):
    given.known["B"] = (True, False)
    given.pair("A", X, Y).pair("B", ("z", 4.0), Y).candidate("A", "z", 4.0).candidate("A", "x", 4.0)
    assert given.only()[1] == "equal scores"
    given.candidates[0]["score"] = given.considered[1]["score_chosen"] = 3.0
    assert given.only()[1] == "other answer"


def test_several_pairs_of_a_prompt(given):
    # The same pairs match first, then flipped pairs, then the remaining pairs in the order of ids.
    given.of_datasets()
    a = [("a1", "a2"), ("k", "l"), ("m", "n"), ("o", "p")]
    b = [("n", "m"), ("k", "l"), ("b1", "b2")]
    for source, pairs in (("A", a), ("B", b)):
        for chosen, rejected in pairs:
            given.pair(source, (chosen, 4.0), (rejected, 2.0))
    matched = {(row["status"], row["a_pair_id"], row["b_pair_id"]) for row in given.ask()}
    assert matched == {
        ("same", "k>l", "k>l"),
        ("flipped", "m>n", "n>m"),
        ("changed both", "a1>a2", "b1>b2"),
        ("lost", "o>p", None),
    }


# real lakes


SCRIPT = "def answer(messages, seed):\n    return f'{seed % 97}\\nScore: {seed % 6}'"


JUDGED_MORE = ("judge.draws=4", "loop.iterations=1", "loop.chunks=2")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return finished runs of a toy recipe, of variants with another policy and more judgments, and
    a build."""
    from toys import Toy

    from factory.lake import Lake
    from factory.progress import Silent
    from factory.run import build_pairs, write_build

    toy = Toy(tmp_path_factory.mktemp("diff") / "toy", n_prompts=30)
    toy.script(SCRIPT)
    toy.finish()
    for changes in (("loop.policy=self_rewarding",), JUDGED_MORE):
        toy.run(*changes)
    changed = toy.recipe("pairs.min_margin=3")
    survey = build_pairs(toy.recipe(), changed, Lake(toy.lake), "wide", Silent())
    toy.wide = write_build(survey, "wide")
    return toy


@pytest.fixture
def diff(made, factory):
    def call(*args):
        return factory("diff", *args, "--lake", made.lake)

    return call


def counted(told):
    return {(row["status"], row["reason"]): row["pairs"] for row in told["counts"]}


def kept(toy, *changes):
    query = "from pairs where outcome = 'kept' and phase = 'D2'"
    return {row["pair_id"]: row for row in toy.query(query, *changes)}


def test_a_recipe_and_itself_differ_in_nothing(made, diff):
    told = diff(made.path, made.path, "--json").json()
    assert counted(told) == {("same", "same scores"): len(kept(made))}
    assert told["examples"] == []


def test_a_build_by_the_folder_of_its_dataset(made, diff):
    told = diff(made.path, made.wide, "--json", "--limit", "1000").json()
    own = kept(made)
    lost = {pair for pair, row in own.items() if row["margin"] < 3}
    assert lost
    assert counted(told) == {
        ("same", "same scores"): len(own) - len(lost),
        ("lost", "small margin in B"): len(lost),
    }
    assert {row["a_pair_id"] for row in told["examples"]} == lost
    assert told["a"]["has_candidates"]
    assert told["b"] == {
        "pairs": str(made.wide),
        "kept": len(own) - len(lost),
        "considered": told["a"]["considered"],
        "has_candidates": False,
    }


def test_a_dataset_outside_its_lake_has_no_outcomes(made, diff, tmp_path):
    moved = shutil.copytree(made.wide, tmp_path / "wide")
    told = diff(made.path, moved, "--json").json()
    assert {reason for _, reason in counted(told)} == {"same scores", "not in B"}
    assert told["b"]["considered"] is None
    assert "kept; outcomes and candidates unknown" in diff(made.path, moved).out


def test_two_policies(made, diff):
    told = diff(made.path, made.path, "--set-b", "loop.policy=self_rewarding", "--json").json()
    counts = counted(told)
    before, after = kept(made), kept(made, "loop.policy=self_rewarding")
    assert counts["same", "same scores"] == len(before.keys() & after.keys())
    assert counts["changed chosen", "no future in B"] > 0
    assert sum(counts.values()) - sum(
        n for (status, _), n in counts.items() if status == "gained"
    ) == len(before)
    back = diff(made.path, made.path, "--set-a", "loop.policy=self_rewarding", "--json").json()
    assert counted(back)["changed chosen", "no future in A"] > 0


@pytest.mark.slow
def test_more_judgments_are_other_scores(made, diff):
    sets = [word for change in JUDGED_MORE for word in ("--set-b", change)]
    told = diff(made.path, made.path, *sets, "--json", "--limit", "1000").json()
    later = [row for row in kept(made).values() if row["iteration"] == 1]
    assert counted(told)["lost", "iteration not in B"] == len(later)
    scores = {row["sample_id"]: row["score"] for row in made.query("from candidates", *JUDGED_MORE)}
    changed = [
        row
        for row in told["examples"]
        if (row["status"], row["reason"]) == ("changed chosen", "other scores")
    ]
    assert changed
    for row in changed:
        was, now = row["a_score_chosen"], scores[row["a_chosen_id"]]
        said = f"chosen: {row['a_chosen_role']} {was:.4g}"
        said += f" ({now:.4g} in B), now" if now != was else ", now"
        assert row["detail"].startswith(said)


@pytest.mark.slow
def test_each_recipe_in_its_lake(made, diff, toy):
    toy.script(SCRIPT)
    toy.write(loop={"iterations": 1})
    toy.run()
    told = diff(made.path, toy.path, "--lake-b", toy.lake, "--json").json()
    assert told["a"]["kept"] == len(kept(made))
    assert told["b"]["kept"] == len(kept(toy))
    assert any(reason == "prompt not in B" for _, reason in counted(told))


def test_the_sql_gives_the_same_rows_in_plain_duckdb(made, diff):
    for a, b in ((made.path, made.wide), (made.wide, made.path), (made.wide, made.wide)):
        sql = diff(a, b, "--sql").out
        told = diff(a, b, "--json", "--limit", "1000").json()
        with duckdb.connect() as con:
            rows = con.sql(sql).to_arrow_table().to_pylist()
        assert sum(counted(told).values()) == len(rows)
        assert [row for row in rows if row["status"] != "same"] == told["examples"]
    assert json.loads(diff(made.wide, made.wide, "--sql", "--json").out) == {"sql": sql}


def test_it_is_read_by_people(made, diff):
    told = diff(made.path, made.wide, "--limit", "1").out
    first, second, *rest = told.splitlines()
    assert first == f"A  {made.path}: {len(kept(made))} kept of 30 considered"
    assert second.endswith("kept of 30 considered; candidates unknown")
    assert any(line.split() == ["status", "reason", "pairs"] for line in rest)
    assert told.count("lost: small margin in B") == 1
    assert "\x1b" not in told
    assert "lost: " not in diff(made.path, made.wide, "--limit", "0").out


@pytest.mark.slow
def test_a_first_example_of_every_reason(made, diff):
    args = (made.path, made.path, "--set-b", "loop.policy=self_rewarding", "--json")
    counts = counted(diff(*args).json())
    reasons = [key for key in counts if key[0] != "same"]
    shown = diff(*args, "--limit", len(reasons)).json()["examples"]
    assert [(row["status"], row["reason"]) for row in shown] == reasons


# what cannot be compared


def test_what_cannot_be_compared_is_said_in_a_sentence(made, diff, factory, toy, tmp_path):
    def refused(said, *args):
        ended = diff(*args)
        assert ended.code == 2
        assert said in ended.err
        assert ended.err.startswith("factory: ")

    refused("no such file: give the path to a recipe", made.path, tmp_path / "none")
    refused("give a recipe, or a dataset folder", made.path, tmp_path)
    refused(
        "cannot apply the override seed=1 to a dataset folder",
        made.path,
        made.wide,
        "--set-b",
        "seed=1",
    )
    refused("has no final pairs (D2) for this recipe: run `factory run`", made.path, toy.path)
    refused("has no final pairs", made.path, made.path, "--set-b", "pairs.min_margin=3")
    refused("none does not exist", made.path, made.path, "--lake-b", tmp_path / "none")
    refused("seeds: unknown field", made.path, made.path, "--set-a", "seeds=1")


def test_files_that_are_no_dataset(made, diff, tmp_path):
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "train.parquet"
    pq.write_table(pa.table({"prompt": ["x"]}), file)
    ended = diff(made.wide, tmp_path)
    assert ended.code == 2
    assert f"{file}: the dataset has no column pair_id" in ended.err
    file.write_text("no parquet")
    ended = diff(made.wide, tmp_path)
    assert ended.code == 2
    assert "the dataset cannot be read" in ended.err


@pytest.mark.parametrize("where", [slice(4, 400), slice(-400, -8)])
def test_a_dataset_with_a_broken_file(made, diff, tmp_path, where):
    moved = shutil.copytree(made.wide, tmp_path / "wide")
    for file in moved.glob("data/*.parquet"):
        content = bytearray(file.read_bytes())
        content[where] = b"\xff" * len(content[where])
        file.write_bytes(content)
    ended = diff(moved, made.wide)
    assert ended.code == 2
    assert "be read" in ended.err


@pytest.mark.slow
def test_a_lake_with_a_broken_shard(toy, factory):
    toy.write(loop={"iterations": 1})
    toy.finish()
    before = factory("diff", toy.path, toy.path, "--lake", toy.lake)
    assert before.code == 0
    for shard in toy.shards("verdicts"):
        content = bytearray(shard.read_bytes())
        content[4:400] = b"\xff" * 396
        shard.write_bytes(content)
    ended = factory("diff", toy.path, toy.path, "--lake", toy.lake)
    assert ended.code == 2
    assert "cannot be read" in ended.err
    assert "run `factory verify` to find damaged files" in ended.err


def test_prompts_that_changed_since_the_run(toy, factory):
    toy.write(loop={"iterations": 1})
    toy.finish()
    lines = toy.prompts.read_text().splitlines()
    toy.prompts.write_text("\n".join(reversed(lines)) + "\n")
    ended = factory("diff", toy.path, toy.path, "--lake", toy.lake)
    assert ended.code == 2
    assert "run `factory run` first" in ended.err
    toy.run()
    assert factory("diff", toy.path, toy.path, "--lake", toy.lake).code == 0
