"""The command line: verbs, their help, exit codes, and errors as sentences."""

import errno
import inspect
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from threading import Event

import pyarrow.parquet as pq
import pytest

from factory import __version__
from factory.cli import ending
from factory.cli.app import GROUPS, main
from factory.cli.ending import say_traceback
from factory.cli.tables import print_table
from factory.recipe import load_recipe

COMMANDS = [command for commands in GROUPS.values() for command in commands]


def test_no_summary_of_a_verb_is_cut_off(factory):
    shown = factory("--help").out
    summaries = [inspect.getdoc(verb).splitlines()[0] for verb in COMMANDS]
    for summary in summaries:
        assert f"  {summary}\n" in shown
        assert len(summary) <= 46
        assert summary.endswith(".")


def test_help_names_every_verb_and_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['factory', '--help']\n"
        "from factory import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'duckdb', 'pyarrow', 'pydantic'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for verb in COMMANDS:
        assert f"  {verb.__name__} " in ran.stdout
    assert ran.stdout.strip().endswith("heavy: []")


@pytest.mark.parametrize("verb", [verb.__name__ for verb in COMMANDS])
def test_every_verb_has_help_with_an_example(factory, verb):
    shown = factory(verb, "--help")
    assert shown.code == 0
    assert f"Example: factory {verb}" in shown.out


def test_help_fits_80_columns_and_shows_every_group(factory):
    shown = factory("--help").out
    assert max(map(len, shown.splitlines())) <= 80
    for group in GROUPS:
        assert f"\n{group}:\n" in shown


def test_usage_shows_arguments_as_they_are_typed(factory):
    assert "factory run [OPTIONS] RECIPE\n" in factory("run", "--help").out
    assert "factory trace [OPTIONS] [RECIPE] PAIR_ID\n" in factory("trace", "--help").out


def test_the_version(factory):
    shown = factory("--version")
    assert (shown.code, shown.out) == (0, f"preference-factory {__version__}\n")


def test_the_lake_can_come_from_the_environment(toy, factory, monkeypatch):
    toy.finish()
    monkeypatch.setenv("FACTORY_LAKE", str(toy.lake))
    ran = factory("run", toy.path)
    assert f"Dataset with 8 train, 4 test: {toy.lake}/datasets/toy-" in ran.out
    assert f"factory status {toy.path}\n" in ran.out
    assert factory("plan", toy.path).out.strip().endswith("Nothing to do.")
    other = toy.folder / "other"
    shutil.copytree(toy.lake, other)
    assert f"--lake {other}" in factory("run", toy.path, "--lake", other).out


def test_verify_takes_the_recipe_as_other_commands_do(toy, factory):
    toy.finish()
    factory("preview", toy.path, "--lake", toy.lake, "--first", 1, "--set", "seed=5")
    one = factory("verify", toy.path, "--lake", toy.lake, "--json").json()
    whole = factory("verify", "--lake", toy.lake, "--json").json()
    assert one["shards"] < whole["shards"]
    assert one["faults"] == whole["faults"] == []


def test_trace_refuses_more_than_a_recipe_and_an_id(toy, factory):
    ended = factory("trace", toy.path, "a", "b", "--lake", toy.lake)
    assert ended.code == 2
    assert "PAIR_ID: got 3 arguments" in ended.err


def test_a_table_in_a_pipe_has_one_line_per_row_and_no_padding(toy, factory):
    shown = factory("sql", toy.path, "--list", "--lake", toy.lake).out.splitlines()
    assert all(line == line.rstrip() for line in shown)
    assert max(map(len, shown[:2])) <= 100
    named = factory("sql", toy.path, "--list", "--lake", toy.lake, "--format", "json").json()
    assert [line.split()[0] for line in shown[2:]] == [row["name"] for row in named]


def test_init_writes_a_recipe_that_runs(factory, tmp_path, monkeypatch):
    made = factory("init", tmp_path / "demo", "--from", "quickstart")
    recipe = tmp_path / "demo" / "recipe.yaml"
    assert made.code == 0
    assert f"factory run {recipe}" in made.out
    first_line = recipe.read_text().splitlines()[0]
    assert first_line == "# yaml-language-server: $schema=recipe.schema.json"
    assert "properties" in json.loads((tmp_path / "demo" / "recipe.schema.json").read_text())
    planned = factory("plan", recipe, "--lake", tmp_path / "lake", "--json").json()
    assert planned["totals"]["steps"] == 43


def test_init_writes_a_starter_for_your_own_model(factory, tmp_path):
    factory("init", tmp_path / "mine")
    recipe = load_recipe(tmp_path / "mine" / "recipe.yaml")
    assert recipe.sampling.draws == 7
    assert len((tmp_path / "mine" / "prompts.jsonl").read_text().splitlines()) == 24


@pytest.mark.parametrize("name", ["nothing", "../quickstart"])
def test_init_refuses_an_unknown_example(name, factory, tmp_path):
    ended = factory("init", tmp_path / "new", "--from", name)
    assert ended.code == 2
    assert f"--from: got {name}: expected one of quickstart, smollm2, starter" in ended.err
    assert not (tmp_path / "new").exists()


def test_init_overwrites_nothing(factory, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    ended = factory("init", tmp_path)
    assert ended.code == 2
    assert "is not an empty folder" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_schema_prints_the_json_schema_and_the_reference(factory):
    assert "sampling" in factory("schema").json()["properties"]
    assert factory("schema", "--markdown").out.startswith("# ")


def test_plan_says_what_is_done_and_what_will_run(toy, factory):
    before = factory("plan", toy.path, "--lake", toy.lake)
    assert before.code == 0
    assert "waits for F_0" in before.out
    assert "6 model loads" in before.out
    assert not toy.lake.exists()
    toy.finish()
    after = factory("plan", toy.path, "--lake", toy.lake)
    assert after.out.strip().endswith("Nothing to do.")


def test_plan_as_json_counts_requests_and_tokens(toy, factory):
    planned = factory("plan", toy.path, "--lake", toy.lake, "--json").json()
    # 12 prompts in two chunks, 3 draws of past, current and future, each judged twice.
    assert planned["totals"]["requests"] == 12 * 3 * 3 * (1 + 2)
    assert planned["totals"]["trainings"] == 4
    first = next(row for row in planned["steps"] if row["stage"] == "samples")
    assert first["expected_tokens"] == first["missing"] * 64
    assert first["tokens_are"] == planned["totals"]["tokens_are"] == "at most"
    printed = factory("plan", toy.path, "--lake", toy.lake).out
    assert f"at most {planned['totals']['tokens']:,} tokens" in printed


def test_a_plan_for_a_longer_run_estimates_from_existing_answers(toy, factory):
    toy.finish()
    planned = factory("plan", toy.path, "--lake", toy.lake, "--set", "seed=5", "--json").json()
    toy.write_prompts(20)
    more = factory("plan", toy.path, "--lake", toy.lake, "--json").json()
    row = next(row for row in more["steps"] if row["stage"] == "samples" and row["missing"])
    assert row["tokens_are"] == "from existing answers"
    assert 0 < row["expected_tokens"] < row["missing"] * 64
    assert planned["totals"]["steps"] > 0


def test_status_tells_each_step_and_the_iterations(toy, factory):
    toy.add_probe()
    toy.finish()
    told = factory("status", toy.path, "--lake", toy.lake, "--json").json()
    assert {row["state"] for row in told["steps"]} == {"done"}
    assert all(row["missing"] == 0 for row in told["steps"])
    assert [row["phase"] for row in told["gaps"]] == ["D1", "D2"] * 2
    assert [row["name"] for row in told["probe"]] == ["M_0", "F_0", "M_1", "F_1", "M_2"]
    plain = factory("status", toy.path, "--lake", toy.lake)
    assert "samples M_0 current" in plain.out


def test_status_of_a_recipe_that_never_ran(toy, factory):
    told = factory("status", toy.path, "--lake", toy.lake, "--json").json()
    assert told["gaps"] == []
    assert {row["answered"] for row in told["steps"]} == {0}


def test_run_ends_with_the_table_the_dataset_and_what_to_do_next(toy, factory):
    toy.add_probe()
    ran = factory("run", toy.path, "--lake", toy.lake)
    words = " ".join(ran.out.split())
    assert "future: chosen from the future model; past: rejected from M_0" in words
    assert "it phase prompts kept ties future past" in words
    assert "it phase gap gap/sd chosen rejected won longer cut off same agree" in words
    assert max(map(len, ran.out.splitlines()[:8])) <= 80
    assert f"{toy.lake}/datasets/toy-" in ran.out
    assert "factory sql" in ran.out
    assert "samples of M_0 as current and past and probe, iteration 0:" in ran.err


def test_run_as_json(toy, factory):
    told = factory("run", toy.path, "--lake", toy.lake, "--json").json()
    assert set(told) == {"gaps", "quality", "remarks", "probe", "work", "dataset", "rows"}
    assert told["rows"]["train"] > 0


def test_set_overrides_a_field(toy, factory):
    args = ("plan", toy.path, "--lake", toy.lake, "--json", "--set", "sampling.draws=1")
    assert factory(*args).json()["totals"]["requests"] == 12 * 3 * (1 + 2)


def test_errors_as_json_carry_the_sentence_its_parts_and_the_code(toy, factory):
    ended = factory("verify", "--lake", toy.folder / "none", "--json")
    assert ended.code == 2
    error = json.loads(ended.out)
    assert list(error) == ["error", "exit_code", "field", "fault", "remedy"]
    assert error["exit_code"] == 2
    assert error["field"] == "--lake"
    assert error["fault"].startswith("no such lake")
    assert error["error"] == f"--lake: {error['fault']}: {error['remedy']}"


def test_an_error_is_json_only_with_the_option(toy, factory):
    ended = factory("sql", toy.path, "select '--json' from nothing", "--lake", toy.lake)
    assert ended.code == 2
    assert ended.out == ""


def test_verify_of_a_lake_that_is_not_there(tmp_path, factory):
    ended = factory("verify", "--lake", tmp_path / "none")
    assert ended.code == 2
    assert "no such lake" in ended.err


def test_verify_says_how_much_it_read(toy, factory):
    toy.finish()
    told = factory("verify", "--lake", toy.lake, "--json").json()
    assert told["faults"] == []
    assert told["models"] == len(list(toy.lake.glob("models/*")))
    assert told["shards"] == len(list(toy.lake.glob("*/*/*.parquet")))


def test_a_shard_with_ids_that_do_not_follow_from_its_rows_is_a_fault(toy, factory):
    import pyarrow as pa

    from factory.lake import Lake

    toy.finish()
    shard = toy.shards("samples")[0]
    table = pq.read_table(shard)
    rows = table.to_pylist()
    rows[0]["text"] = "another answer under the old id"
    folder = Lake(toy.lake).folder("samples", shard.parent.name)
    forged = folder.append(pa.Table.from_pylist(rows, table.schema))
    told = factory("verify", "--lake", toy.lake)
    assert told.code == 1
    assert f"{forged.name}: 1 rows have an id that does not match their content" in told.out


def test_factory_boy_beside_it_is_named(toy, factory, tmp_path, monkeypatch):
    (tmp_path / "factory_boy-3.3.dist-info").mkdir()
    (tmp_path / "factory_boy-3.3.dist-info" / "METADATA").write_text("Name: factory_boy\n")
    assert "factory_boy" not in factory("verify", "--help").err
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "factory_boy is also installed in this environment" in factory("verify", "--help").err


def test_files_that_factory_boy_overwrote_are_a_sentence():
    code = (
        "import sys, types\n"
        "theirs = types.ModuleType('factory.errors')\n"
        "theirs.FactoryError = Exception\n"
        "import factory\n"
        "factory.errors = sys.modules['factory.errors'] = theirs\n"
        "import factory.cli"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr.startswith("factory: factory_boy has overwritten files of preference-factory")


def test_a_hub_model_that_is_not_on_this_machine_is_a_sentence(toy, factory, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ended = factory("run", toy.path, "--lake", toy.lake, "--set", "model=nobody/nothing")
    assert ended.code == 2
    assert "with `hf download nobody/nothing`" in ended.err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EMFILE, "", "a.parquet"), "a.parquet: too many files are open: raise"),
        (OSError(errno.ENOSPC, ""), "this machine: the disk is full: free some disk space"),
        (RuntimeError(f"IO Error: {os.strerror(errno.EMFILE)}"), "too many files are open"),
    ],
)
def test_a_fault_of_the_machine_is_a_sentence(toy, factory, monkeypatch, error, said):
    def fail(*_):
        raise error

    monkeypatch.setattr("factory.api.read_state", fail)
    ended = factory("plan", toy.path)
    assert ended.code == 1
    assert said in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_lake_that_cannot_be_locked_can_be_read(toy, factory, monkeypatch, number):
    toy.finish()

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", fail)
    lake = ["--lake", toy.lake]
    for command in ("plan", "status"):
        assert factory(command, toy.path, *lake).code == 0
    ended = factory("run", toy.path, *lake, "--set", "sampling.draws=4")
    assert ended.code == 1
    assert "its file system cannot lock files" in ended.err


def test_a_number_beyond_64_bits_is_refused(toy, factory):
    for value in (str(10**30), str(-(10**30)), "9" * 5000):
        for field in ("sampling.draws", "train.dpo.seed", "pairs.min_margin"):
            ended = factory("plan", toy.path, "--set", f"{field}={value}")
            assert (ended.code, "Traceback" in ended.err) == (2, False)


def test_a_second_ctrl_c_is_ignored(monkeypatch):
    handlers = {}
    monkeypatch.setattr(ending.signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(ending, "interrupted", Event())
    ending.write_rows_before_exit()
    with pytest.raises(ending.Interrupted):
        handlers[signal.SIGINT]()
    assert handlers == {signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: signal.SIG_IGN}


def test_a_bug_keeps_its_traceback(toy, factory, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("factory.cli.plan.print_result", broken)
    with pytest.raises(ZeroDivisionError):
        factory("plan", toy.path, "--lake", toy.lake)


HOSTILE = "x\x1b[31m\u202e"


@pytest.mark.parametrize(
    "args",
    [
        (HOSTILE,),
        ("run", f"--{HOSTILE}"),
        ("run", "a", HOSTILE),
        ("run", HOSTILE),
        ("train", "a", "--model", "m", "--out", "o", "--set", f"{HOSTILE}=1"),
        ("sql", "a", "b", "--format", HOSTILE),
        ("init", f"/dev/null/{HOSTILE}"),
    ],
)
def test_arguments_in_errors_are_displayed(factory, args):
    ended = factory(*args)
    assert ended.code == 2
    assert r"x\x1b[31m\u202e" in ended.err
    assert not {"\x1b", "\u202e"} & {*ended.err}


def test_an_error_as_json_has_the_original_text(factory):
    error = factory("run", f"{HOSTILE}.yaml", "--json").json()
    assert error["field"] == f"{HOSTILE}.yaml"


def test_the_traceback_of_a_bug_has_no_secret(monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "a1b2c3d4e5")
    try:
        raise ValueError("\x1b[31m a1b2c3d4e5")
    except ValueError as error:
        say_traceback(ValueError, error, error.__traceback__)
    shown = capsys.readouterr().err
    assert shown.endswith("ValueError: \\x1b[31m ***\n")
    assert "Traceback (most recent call last)" in shown


@pytest.mark.parametrize(
    "args", [("--help",), ("run", "--help"), ("sql", "x", "--list"), ("schema",)]
)
def test_an_output_that_is_not_utf8_gets_replaced_characters(monkeypatch, args):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["factory", *args])
    with suppress(SystemExit):
        main()
    sys.stdout.flush()
    assert len(written.getvalue().decode("ascii")) > 500


def test_a_table_on_a_terminal_has_no_markup_and_no_hidden_characters(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    cell = "[red]x[/red] :smile: \x1b[31m \u202e \\"
    for shorten in (False, True):
        print_table([{"[bold]\x9b": cell, "n": 1}], "[link=a]title\x07", shorten=shorten)
    shown = out.getvalue()
    assert not {"\x1b", "\x9b", "\x07", "\u202e"} & {*shown}
    for part in (
        r"[bold]\x9b",
        r"[red]x[/red] :smile: \x1b[31m \u202e " + "\\",
        r"[link=a]title\x07",
    ):
        assert shown.count(part) == 2, part
