"""Runs with a full disk, a read-only lake, unusable prompts, or a missing model."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from toys import small_recipe

from factory.lake import Lake, verify_lake


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = ["unshare", "--mount", "--map-root-user", "sh", "-c", "mount -t tmpfs none /mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


needs_mount = pytest.mark.skipif(not can_mount(), reason="this machine lets nobody mount a tmpfs")


def in_a_tmpfs(toy, options, script):
    """Run a shell script in a separate mount namespace, with a tmpfs on the lake."""
    toy.lake.mkdir(exist_ok=True)
    command = f"{sys.executable} -m factory.cli"
    environment = {**os.environ, "FACTORY": command, "LAKE": str(toy.lake), "R": str(toy.path)}
    mounted = f"mount -t tmpfs -o {options} none $LAKE && {script}"
    return subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", mounted],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@needs_mount
@pytest.mark.slow
def test_a_full_disk_is_a_sentence_and_the_run_goes_on_after_space_is_made(toy):
    toy.script(
        "def answer(messages, seed):\n    return f'{seed} ' * 400 + f'\\nScore: {seed % 6}'\n"
    )
    toy.write(loop={"iterations": 1}, shards={"rows": 10})
    full = in_a_tmpfs(
        toy,
        "size=400k",
        "$FACTORY run $R --lake $LAKE >&2; echo code $?; find $LAKE -name '.factory-unfinished-*'; "
        "$FACTORY verify --lake $LAKE >&2 && echo whole; find $LAKE -name '*.parquet' | wc -l; "
        "mount -o remount,size=40m $LAKE && $FACTORY run $R --lake $LAKE >&2; echo code $?",
    )
    lines = full.stdout.splitlines()
    assert lines[0] == "code 1"
    assert lines[1] == "whole"
    assert int(lines[2]) > 0
    assert lines[3] == "code 0"
    assert "is full: free some disk space, then run the same command again" in full.stderr
    assert "Traceback" not in full.stderr


@needs_mount
def test_a_read_only_lake_is_a_sentence(toy):
    ended = in_a_tmpfs(toy, "ro", "$FACTORY run $R --lake $LAKE; echo code $?; ls -A $LAKE")
    assert ended.stdout.splitlines() == ["code 1"]
    assert "cannot write to the folder (Read-only file system)" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
@needs_mount
def test_a_finished_lake_that_became_read_only_can_be_looked_at(toy):
    ended = in_a_tmpfs(
        toy,
        "size=40m",
        "$FACTORY run $R --lake $LAKE > /dev/null 2>&1; mount -o remount,ro $LAKE; "
        "$FACTORY plan $R --lake $LAKE | tail -1; $FACTORY run $R --lake $LAKE > /dev/null; "
        "echo code $?; $FACTORY verify --lake $LAKE > /dev/null; echo code $?",
    )
    assert ended.stdout.splitlines() == ["Nothing to do.", "code 0", "code 0"]


EITHER = "expected either the field `prompt` or the field `messages`"

BAD_LINES = {
    "the line is not valid JSON": b"{",
    "the line is not valid UTF-8": b'{"prompt": "\xff"}',
    EITHER: b'{"question": 1, "prompt": null}',
    "expected a string in the field `prompt`, but got a number": b'{"prompt": 7}',
    "the prompt is empty": b'{"prompt": "  "}',
    "duplicate of the prompt at prompts.jsonl:1": b'{"prompt": "Say number 0."}',
}


@pytest.mark.parametrize("reason", BAD_LINES)
def test_a_line_that_cannot_be_used_stops_the_run_before_any_generation(toy, factory, reason):
    if "question" in BAD_LINES[reason].decode(errors="replace"):
        reason = "the field question is unknown: move it into meta"
        line = BAD_LINES[EITHER].replace(b', "prompt": null', b"")
    else:
        line = BAD_LINES[reason]
    toy.prompts.write_bytes(toy.prompts.read_bytes() + line + b"\n")
    ended = factory("run", toy.path, "--lake", toy.lake)
    assert ended.code == 2
    assert f"prompts.jsonl:13: {reason}" in ended.err
    assert not toy.lake.exists()


@pytest.mark.slow
def test_lines_that_cannot_be_used_are_left_out_and_listed_if_the_recipe_says_so(toy, factory):
    bad = b"\n".join(line for reason, line in BAD_LINES.items() if "either the field" not in reason)
    toy.prompts.write_bytes(toy.prompts.read_bytes() + bad + b"\n")
    toy.write(prompts={"on_error": "skip"})
    ended = factory("run", toy.path, "--lake", toy.lake)
    assert ended.code == 0
    assert "prompts: skipped 5 unusable lines:" in ended.err
    assert "prompts.jsonl:14: the line is not valid UTF-8" in ended.err
    assert toy.query("select count(*) as n from prompts") == [{"n": 12}]
    manifest = next(toy.lake.glob("prompts/*/manifest.jsonl")).read_text().splitlines()
    assert len(json.loads(manifest[-1])["left_out"]) == 5


def test_a_prompt_too_long_for_the_model_names_its_line_and_both_lengths(small, factory):
    long = json.dumps({"prompt": "Copy the letters of " + "a" * 300 + "."})
    small.prompts.write_text(small.prompts.read_text() + "\n" + long)
    ended = factory("plan", small.path, "--lake", small.lake)
    assert ended.code == 2
    assert "prompts.jsonl:25: the prompt has 309 tokens, but at most 244 are allowed" in ended.err
    assert "the model's context length is 256 tokens, and sampling.max_tokens" in ended.err


def test_a_prompt_of_the_probe_that_is_also_the_loop_s_is_refused(toy, factory):
    toy.add_probe()
    toy.prompts.write_text(toy.prompts.read_text() + '{"prompt": "Probe 1?"}\n')
    ended = factory("run", toy.path, "--lake", toy.lake)
    assert ended.code == 2
    assert "have prompts in common (1 in total)" in ended.err


def test_a_rubric_that_names_what_prompts_have_not_is_refused_before_any_generation(toy, factory):
    toy.write(judge={"rubric": "prometheus"}, loop={"iterations": 1})
    ended = factory("run", toy.path, "--lake", toy.lake)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "12 of 12 prompts have no criteria (for example, Say number " in ended.err
    assert "the rubric prometheus shows {criteria} to the judge: add criteria" in ended.err
    assert not toy.shards("samples")
    given = toy.prompts.read_text().splitlines()
    lines = [{**json.loads(line), "criteria": "Short."} for line in given]
    toy.prompts.write_text(
        "\n".join(map(json.dumps, [*lines[:-1], {**lines[-1], "reference": " "}]))
    )
    ended = factory("preview", toy.path, "--lake", toy.lake)
    assert (ended.code, toy.shards("samples")) == (2, [])
    assert "1 of 12 prompts have no reference (for example, Say number 11.), but" in ended.err
    toy.prompts.write_text("\n".join(map(json.dumps, lines)))
    assert factory("run", toy.path, "--lake", toy.lake).code == 0


@pytest.mark.slow
def test_a_rubric_s_reference_is_asked_of_no_prompt_of_the_probe(toy, factory):
    (toy.folder / "own.md").write_text(
        "---\nscale: [0, 5]\nparser: 'Score: (\\d)'\n---\n{prompt} {answer} {reference}"
    )
    toy.add_probe()
    probe = toy.folder / "probe.jsonl"
    probe.write_text(probe.read_text().replace(', "reference": "x"', ""))
    toy.write(judge={"rubric": "own.md"}, loop={"iterations": 1})
    assert factory("run", toy.path, "--lake", toy.lake).code == 0


MODELS = {
    "is not a folder": lambda m0: shutil.rmtree(m0),
    "has no config.json": lambda m0: (m0 / "config.json").unlink(),
    "has no weights": lambda m0: (m0 / "model.safetensors").unlink(),
    "has no chat template": lambda m0: (m0 / "chat_template.jinja").unlink(),
}


@pytest.mark.parametrize("reason", MODELS)
def test_a_model_that_cannot_be_used_is_a_sentence_before_any_work(small, factory, reason):
    m0 = small.folder / "m0"
    shutil.rmtree(m0)
    shutil.copytree(small.fields["model"], m0)
    MODELS[reason](m0)
    ended = factory("run", small.path, "--lake", small.lake, "--set", "model=./m0")
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert f"./m0 {reason}" in ended.err
    assert not small.lake.exists()


@pytest.mark.slow
def test_the_real_loop_on_a_few_prompts_ends_with_a_whole_lake(quickly_made):
    small = quickly_made
    survey = small.look()
    assert set(survey.models) == {"M_0", "F_0", "M_1"}
    assert len({model.digest for model in survey.models.values()}) == 3
    assert verify_lake(Lake(small.lake)).faults == []
    (row,) = small.query("select avg(score) as score from candidates where role = 'probe'")
    assert 3 < row["score"] < 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    ["engine.batch_size=3", "engine.window=2", "engine.device=cpu", "shards.rows=9"],
)
def test_how_the_real_engine_is_run_makes_nothing_again(quickly_made, change):
    assert quickly_made.to_do(change) == set()


@pytest.fixture(scope="module")
def quickly_made(tmp_path_factory):
    small = small_recipe(tmp_path_factory.mktemp("made"))
    small.finish()
    return small


@pytest.mark.slow
def test_a_real_run_killed_while_it_samples_and_judges_goes_on(small):
    small.write(shards={"rows": 40, "seconds": 0.3}, engine={"batch_size": 16, "window": 1})
    args = ("run", str(small.path), "--lake", str(small.lake))
    for table in ("samples", "judgments"):
        process = small.process(*args)
        deadline = time.monotonic() + 120
        while not small.shards(table):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, f"no shard of {table}"
            time.sleep(0.01)
        process.kill()
        process.communicate()
    small.run()
    assert verify_lake(Lake(small.lake)).faults == []
    for table in ("samples", "judgments"):
        (twice,) = small.query(
            f"select count(*) - count(distinct (request_id, draw)) as n from {table}_shards"
        )
        assert twice["n"] == 0
