"""Resuming: a run after a kill, with broken shards, or with added prompts and draws."""

import itertools
import os
import random
import signal
import time

import pyarrow.parquet as pq
import pytest

from factory.errors import StepFailed
from factory.lake import Lake, verify_lake

PAIRS = "select * exclude (build_key) from pairs order by iteration, phase, prompt_id"


def asked(toy) -> int:
    return sum(pq.read_metadata(shard).num_rows for shard in toy.shards("samples"))


def n_files(folder) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


@pytest.mark.slow
@pytest.mark.parametrize("most", [1, 12])
def test_killed_again_and_again_it_ends_with_the_pairs_of_an_undisturbed_run(toy, tmp_path, most):
    toy.add_probe()
    toy.write(shards={"rows": 5, "seconds": 0.2}, engine={"delay": 0.004})
    undisturbed = type(toy)(tmp_path / "undisturbed")
    undisturbed.add_probe()
    undisturbed.finish()

    rng = random.Random(0)
    kills = 0
    process = None
    while process is None or process.returncode != 0:
        process = toy.process("run", str(toy.path), "--lake", str(toy.lake), start_new_session=True)
        grown = n_files(toy.lake) + (rng.randint(1, 16) if most > 1 else 60)
        while kills < most and process.poll() is None and n_files(toy.lake) < grown:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.05))
        if kills < most and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        assert "Traceback" not in process.communicate()[1]
    assert kills >= min(most, 8)
    assert toy.query(PAIRS) == undisturbed.query(PAIRS)
    assert verify_lake(Lake(toy.lake)).faults == []
    assert not [
        path for path in toy.lake.rglob("*") if path.name.startswith(".factory-unfinished-")
    ]
    (twice,) = toy.query(
        "select count(*) - count(distinct (sampling, request_id, draw)) as n from samples_shards"
    )
    assert twice["n"] == 0


def test_a_termination_writes_what_was_finished(toy):
    toy.write(engine={"delay": 0.02})
    process = toy.process("run", str(toy.path), "--lake", str(toy.lake))
    deadline = time.monotonic() + 20
    while not list(toy.lake.glob("samples/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.4)
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert "finished rows are saved" in err
    assert asked(toy) > 0
    assert verify_lake(Lake(toy.lake)).faults == []


BREAKS = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "deleted": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "flipped": lambda path: path.write_bytes(
        path.read_bytes()[:200] + bytes([path.read_bytes()[200] ^ 1]) + path.read_bytes()[201:]
    ),
    "flipped in its footer": lambda path: path.write_bytes(
        path.read_bytes()[:-30] + bytes([path.read_bytes()[-30] ^ 255]) + path.read_bytes()[-29:]
    ),
}


def read_by_m0(toy, table):
    """Return a shard with M_0's samples as the current model, or with rows before or after them."""
    (keys,) = toy.query(
        "select roles.sampling_key as samples, judge_key as judgments, "
        "panel.parser_key as verdicts "
        "from roles join panel using (iteration, role, name) "
        "where name = 'M_0' and role = 'current'"
    )
    return next(
        path for path in toy.shards(table) if path.parent.name in keys.get(table, str(path))
    )


TABLES = ["prompts", "samples", "judgments", "verdicts", "pairs"]
QUICK = set(zip(TABLES, reversed(BREAKS), strict=True))
"""In the quick set, each table is broken in one way."""


@pytest.mark.parametrize(
    ("table", "broken"),
    [
        pytest.param(*each, marks=() if each in QUICK else pytest.mark.slow)
        for each in itertools.product(TABLES, BREAKS)
    ],
)
def test_a_broken_shard_is_named_and_its_rows_are_made_again(toy, factory, table, broken):
    toy.write(loop={"iterations": 1})
    toy.finish()
    before = toy.query(PAIRS)
    shard = read_by_m0(toy, table)
    BREAKS[broken](shard)

    checked = factory("verify", "--lake", toy.lake)
    assert checked.code == 1
    assert shard.name in checked.out

    # A run only reads what its unfinished steps need. A new policy reads samples down to prompts.
    toy.write(loop={"policy": "self_rewarding"})
    ran = factory("run", toy.path, "--lake", toy.lake)
    assert ran.code == 0
    toy.write(loop={"policy": "temporal"})
    again = factory("run", toy.path, "--lake", toy.lake)
    assert again.code == 0
    if table not in ("verdicts", "pairs") or "flipped" not in broken:
        assert shard.name in ran.err + again.err
        assert verify_lake(Lake(toy.lake)).faults == []
    assert toy.query(PAIRS) == before


def test_a_trained_model_that_was_touched_is_trained_again(toy, factory):
    toy.finish()
    model = next(toy.lake.glob("models/*/model/scripted.json"))
    model.write_text(model.read_text() + " ")
    checked = factory("verify", "--lake", toy.lake)
    assert checked.code == 1
    assert "models/" in checked.out
    ran = factory("run", toy.path, "--lake", toy.lake)
    assert ran.code == 0
    assert "the model will be trained again" in ran.err
    assert verify_lake(Lake(toy.lake)).faults == []


def test_added_prompts_ask_only_for_the_new_ones(toy):
    toy.write(loop={"policy": "self_rewarding", "iterations": 1})
    toy.finish()
    before = asked(toy)
    toy.write_prompts(20)
    toy.run()
    assert asked(toy) - before == 8 * 3


def test_more_draws_ask_only_for_the_new_ones(toy):
    toy.write(loop={"policy": "self_rewarding", "iterations": 1}, sampling={"draws": 4})
    toy.run()
    before = asked(toy)
    toy.write(sampling={"draws": 7})
    toy.run()
    assert asked(toy) - before == 12 * 3


@pytest.mark.slow
def test_recipes_with_four_and_seven_draws_live_beside_each_other(toy):
    four, seven = ["name=four", "sampling.draws=4"], ["name=seven", "sampling.draws=7"]
    toy.run(*four)
    pairs, models = toy.query(PAIRS, *four), toy.query("from models", *four)
    toy.run(*seven)
    assert toy.query(PAIRS, *four) == pairs
    assert toy.query("from models", *four) == models
    assert toy.to_do(*four) == set()
    (row,) = toy.query("select max(draw) as last from candidates where role = 'current'", *four)
    assert row["last"] == 3


def test_recipes_that_share_a_model_share_its_samples(toy):
    toy.write(loop={"iterations": 1, "chunks": 2})
    toy.run("name=one")
    before = asked(toy)
    toy.run("name=two", "loop.policy=self_rewarding")
    assert asked(toy) == before


def test_a_regenerated_answer_never_meets_the_old_judgment(toy):
    toy.script(
        "import pathlib\n"
        "SAID = pathlib.Path(__file__).with_name('said')\n"
        "def answer(messages, seed):\n"
        "    return f'{SAID.read_text()} {seed}\\nScore: {seed % 6}'\n"
    )
    (toy.folder / "said").write_text("old")
    toy.write(loop={"policy": "self_rewarding", "iterations": 1})
    toy.run()
    old = {row["judgment_id"] for row in toy.query("select judgment_id from judgments")}
    for shard in toy.shards("samples"):
        shard.unlink()
    (toy.folder / "said").write_text("new")
    toy.run()
    new = toy.query(
        "select judgments.judgment_id, candidates.text from candidates "
        "join judgments using (sample_id)"
    )
    assert {row["text"][:3] for row in new} == {"new"}
    assert not old & {row["judgment_id"] for row in new}
    assert len(new) == 12 * 3 * 2


FLAKY = (
    "import pathlib\n"
    "FIXED = pathlib.Path(__file__).parent / 'fixed'\n"
    "def answer(messages, seed):\n"
    "    if seed % 20 == 3 and not FIXED.exists():\n"
    "        raise {error}('no luck')\n"
    "    return f'word {seed}\\nScore: {seed % 6}'\n"
)


def test_a_transient_failure_is_asked_again_by_the_next_run(toy):
    toy.script(FLAKY.replace("{error}", "ConnectionError").replace("{seed", "{seed"))
    toy.write(max_failed=0.5, loop={"iterations": 1})
    said = (
        r"\d+ of \d+ rows are missing \(\d+ requests failed with temporary errors: no luck\): "
        "run the same command again"
    )
    with pytest.raises(StepFailed, match=said):
        toy.run()
    (failed,) = toy.query("select count(*) as n from samples where error_kind = 'transient'")
    assert failed["n"] > 0
    (toy.folder / "fixed").touch()
    toy.run()
    assert toy.query("select count(*) as n from samples where error is not null") == [{"n": 0}]


def test_a_permanent_failure_is_a_row_and_is_not_asked_again(toy):
    toy.script(FLAKY.replace("{error}", "ValueError"))
    toy.write(max_failed=0.5, loop={"iterations": 1})
    toy.run()
    failed = toy.query("select text, error, error_kind from samples where error is not null")
    assert failed
    assert failed[0] == {"text": None, "error": "no luck", "error_kind": "permanent"}
    (toy.folder / "fixed").touch()
    before = asked(toy)
    toy.run()
    assert asked(toy) == before


@pytest.mark.slow
def test_too_many_failures_stop_the_run_and_keep_what_was_finished(toy, factory):
    toy.script(FLAKY.replace("seed % 20 == 3", "seed % 3 == 0").replace("{error}", "ValueError"))
    ended = factory("run", toy.path, "--lake", toy.lake)
    assert ended.code == 1
    assert "max_failed is 0.05" in ended.err
    assert "no luck" in ended.err
    assert asked(toy) > 0
    again = factory("run", toy.path, "--lake", toy.lake)
    assert again.code == 1
    assert "no luck" in again.err
    toy.write(max_failed=0.9)
    toy.run()


@pytest.mark.slow
def test_a_second_run_on_the_same_lake_waits_and_names_the_holder(toy):
    toy.write(engine={"delay": 0.02}, loop={"iterations": 1})
    args = ("run", str(toy.path), "--lake", str(toy.lake))
    first, second = toy.process(*args), toy.process(*args)
    ends = [process.communicate(timeout=100) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0]
    said = ends[0][1] + ends[1][1]
    assert "waiting for process" in said
    assert f"process {first.pid}" in said or f"process {second.pid}" in said
    assert verify_lake(Lake(toy.lake)).faults == []
    (twice,) = toy.query(
        "select count(*) - count(distinct (sampling, request_id, draw)) as n from samples_shards"
    )
    assert twice["n"] == 0


@pytest.mark.slow
def test_a_larger_max_tokens_makes_again_only_what_was_cut_off(small):
    del small.fields["probe"]
    small.write(sampling={"max_tokens": 6}, loop={"policy": "self_rewarding"})
    small.run()

    def current(survey):
        return next(at for step, at in survey.steps.items() if step.stage == "samples")

    rows = small.query("select sample_id, finish_reason from samples where draw < 1024")
    ended = {row["sample_id"] for row in rows if row["finish_reason"] == "stop"}
    assert 0 < len(ended) < len(rows)

    planned = current(small.look("sampling.max_tokens=12"))
    assert 0 < planned.reused < planned.missing == planned.wanted
    made = current(small.run("sampling.max_tokens=12"))
    (event,) = [event for event in made.folder.events() if "answered" in event]
    assert event["answered"] == planned.missing - planned.reused
    kept = {row["sample_id"] for row in small.query("from samples", "sampling.max_tokens=12")}
    first = small.query(
        "select sample_id from samples join roles using (sampling_key) "
        "where roles.iteration = 0 and finish_reason = 'stop'"
    )
    assert {row["sample_id"] for row in first} <= kept
