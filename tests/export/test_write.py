"""Tests of exports: each trainer's rows and config, and the refused datasets and folders."""

import json
import shlex
import shutil
import subprocess
import sys

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from toys import QUICKSTART

from factory.errors import ExportError
from factory.export import (
    PAIR_COLUMNS,
    TRAINERS,
    export_dataset,
    open_dataset,
    snippets,
    write_dataset,
)

QUESTION = {"role": "user", "content": "Q1"}
TALK = [
    {"role": "system", "content": "Be brief."},
    QUESTION,
    {"role": "assistant", "content": "A1"},
    {"role": "user", "content": "Q2"},
]
ODD = 'é "x" \\n \n\r\u2028\x85\u2029\x00 👍 </s>'
"""A text with escapes, special characters, and line separators."""


def pair(number, prompt, chosen, rejected, **columns):
    return {
        **dict.fromkeys(PAIR_COLUMNS.names),
        "pair_id": f"p{number}",
        "prompt_id": f"q{number}",
        "iteration": 0,
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "margin": 1.5,
        "chosen_id": f"{number}+",
        "rejected_id": f"{number}-",
        **columns,
    }


ROWS = [
    pair(0, [QUESTION], "2024-01-01", "2023-01-01"),
    pair(1, TALK, ODD, "plain"),
    pair(2, [QUESTION], "same", "other"),
]


def dataset(folder, rows=ROWS, test=ROWS[2:], schema=PAIR_COLUMNS):
    """Write a dataset's folder without a lake, like a downloaded dataset."""
    (folder / "data").mkdir(parents=True)
    for split, part in (("train", rows), ("test", test)):
        if part:
            table = pa.Table.from_pylist(part, schema=schema)
            pq.write_table(table, folder / "data" / f"{split}-00.parquet")
    return folder


def rows_of(out, split="train"):
    (file,) = out.glob(f"data/{split}.*")
    if file.suffix == ".parquet":
        return pq.read_table(file).to_pylist()
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def written(tmp_path):
    """Return a function that exports rows for a trainer and returns the exported folder."""

    def call(name, rows=ROWS, **options):
        source = open_dataset(dataset(tmp_path / "set", rows, **options))
        export_dataset(source, name, tmp_path / "out")
        return tmp_path / "out"

    return call


@pytest.mark.parametrize("name", ["trl", "axolotl", "openrlhf", "unsloth"])
def test_canonical_rows_as_they_are(written, name):
    sides = ("prompt", "chosen", "rejected")
    out = written(name)
    assert rows_of(out) == [{side: row[side] for side in sides} for row in ROWS]
    assert rows_of(out, "test") == [{side: ROWS[2][side] for side in sides}]


def test_sharegpt_has_one_message_a_side(written):
    row = rows_of(written("llama-factory"))[1]
    assert [turn["from"] for turn in row["conversations"]] == ["system", "human", "gpt", "human"]
    assert row["conversations"][3]["value"] == "Q2"
    assert row["chosen"] == {"from": "gpt", "value": ODD}
    assert row["rejected"] == {"from": "gpt", "value": "plain"}


def test_whole_conversations(written):
    row = rows_of(written("torchtune"))[1]
    assert row["chosen"] == [*TALK, {"role": "assistant", "content": ODD}]
    assert row["rejected"] == [*TALK, {"role": "assistant", "content": "plain"}]


def test_a_conversation_and_the_rejected_text(written):
    row = rows_of(written("ms-swift"))[1]
    assert row["messages"] == [*TALK, {"role": "assistant", "content": ODD}]
    assert row["rejected_response"] == "plain"


def test_ranks(written):
    row = rows_of(written("nemo-rl"))[1]
    assert row["context"] == TALK
    assert row["completions"] == [
        {"rank": 0, "completion": [{"role": "assistant", "content": ODD}]},
        {"rank": 1, "completion": [{"role": "assistant", "content": "plain"}]},
    ]


def test_the_margin_of_a_reward_model(written):
    assert [row["margin"] for row in rows_of(written("reward-model"))] == [1.5, 1.5, 1.5]


@pytest.mark.parametrize("name", ["jsonl", "parquet"])
def test_all_columns(written, name):
    assert rows_of(written(name)) == ROWS


def test_kto_labels_each_answer_once_and_leaves_out_what_contradicts_itself(written):
    rows = [
        pair(0, [QUESTION], "good", "bad"),
        pair(1, [QUESTION], "good", "worse", chosen_id="0+"),
        pair(2, [QUESTION], "bad", "worst", chosen_id="0-"),
    ]
    got = rows_of(written("kto", rows))
    assert [(row["completion"][0]["content"], row["label"]) for row in got] == [
        ("good", True),
        ("worse", False),
        ("worst", False),
    ]
    assert got[0]["prompt"] == [QUESTION]


A, B, C = "an answer", "another answer", "a third answer"


def test_kto_gives_a_text_one_label(written):
    rows = [
        pair(0, [QUESTION], C, B),
        pair(1, [QUESTION], f" {B}\n", A),  # the text B of another sample
        pair(2, [QUESTION], C, A),
        pair(3, TALK, B, A),  # another prompt
    ]
    got = rows_of(written("kto", rows))
    assert [(row["prompt"][-1], row["completion"][0]["content"], row["label"]) for row in got] == [
        (QUESTION, C, True),
        (QUESTION, A, False),
        (QUESTION, C, True),
        (QUESTION, A, False),
        (TALK[-1], B, True),
        (TALK[-1], A, False),
    ]


@pytest.mark.parametrize("name", [name for name in TRAINERS if name not in ("sft", "kto")])
def test_pairs_that_contradict_another_pair_are_left_out_and_counted(tmp_path, name):
    rows = [
        pair(0, [QUESTION], A, B),
        pair(1, [QUESTION], B, f"{A} "),
        pair(2, [QUESTION], A, C),
        pair(3, [QUESTION], C, C),  # contradicts itself
        pair(4, TALK, B, A),
    ]
    source = open_dataset(dataset(tmp_path / "set", rows, test=[pair(5, [QUESTION], B, A)]))
    done = export_dataset(source, name, tmp_path / "out")
    assert done.rows == {"train": 2, "test": 1}
    assert done.n_contradicting == 3


PANDAS = {"content": pa.float64(), "role": pa.string()}
UNUSABLE = {
    "chosen: got a column of type": ("chosen", pa.list_(pa.struct(PANDAS)), float("nan")),
    "rejected: got a column of type": (
        "rejected",
        pa.list_(pa.struct({"content": pa.int64(), "role": pa.string()})),
        3,
    ),
    "row 2 of the train split has no text in chosen": ("chosen", None, None),
    "row 2 of the train split has no text in rejected": ("rejected", None, None),
    "row 2 of the train split has no text in prompt": ("prompt", None, None),
}


@pytest.mark.parametrize("said", UNUSABLE)
def test_a_content_that_is_no_text_is_refused_with_its_row(tmp_path, said):
    side, kind, content = UNUSABLE[said]
    row = {**ROWS[1], side: [{"role": "user", "content": content}]}
    schema = PAIR_COLUMNS
    rows = [ROWS[0], row]
    if kind is not None:
        rows = [row]
        schema = schema.set(schema.get_field_index(side), pa.field(side, kind))
    folder = dataset(tmp_path / "set", rows, test=[], schema=schema)
    with pytest.raises(ExportError, match=said):
        export_dataset(open_dataset(folder), "trl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [None, [], [{"role": None, "content": "x"}]])
@pytest.mark.parametrize("side", ["prompt", "chosen", "rejected"])
def test_a_side_without_messages_is_refused_with_its_row(tmp_path, side, value):
    source = open_dataset(dataset(tmp_path / "set", ROWS, test=[{**ROWS[1], side: value}]))
    with pytest.raises(ExportError, match=f"row 1 of the test split has no text in {side}"):
        export_dataset(source, "jsonl", tmp_path / "out")


JSON_MESSAGES = [
    '{"role": "user", "content": 3}',
    '{"role": "user", "content": NaN}',
    '{"role": "user", "content": null}',
    '{"role": "user"}',
    '{"role": 1, "content": "x"}',
    '{"role": "assistant", "tool_calls": null}',
    "3",
]


@pytest.mark.parametrize("message", JSON_MESSAGES)
def test_a_message_in_json_without_text_is_refused_with_its_row(tmp_path, message):
    schema = PAIR_COLUMNS.set(
        PAIR_COLUMNS.get_field_index("prompt"), pa.field("prompt", pa.list_(pa.json_()))
    )
    call = '{"role": "assistant", "tool_calls": [{"name": "f"}]}'
    good = {**ROWS[0], "prompt": ['{"role": "user", "content": "x"}', call]}
    bad = {**good, "prompt": [message]}
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    for split, rows in (("train", [good, bad]), ("test", [good])):
        texts = schema.set(
            schema.get_field_index("prompt"), pa.field("prompt", pa.list_(pa.string()))
        )
        table = pa.Table.from_pylist(rows, schema=texts).cast(schema)
        pq.write_table(table, folder / "data" / f"{split}-00.parquet")
    source = open_dataset(folder)
    with pytest.raises(ExportError, match="row 2 of the train split has no text in prompt"):
        export_dataset(source, "trl", tmp_path / "out")


@pytest.mark.parametrize("name", ["prompt", "Prompt", "CHOSEN_ID"])
def test_two_columns_of_one_name_are_refused(tmp_path, name):
    folder = dataset(tmp_path / "set")
    file = folder / "data" / "train-00.parquet"
    table = pq.read_table(file)
    pq.write_table(table.append_column(name, table["pair_id"]), file)
    with pytest.raises(ExportError, match="two columns have this name"):
        open_dataset(folder)


def test_an_empty_split_is_left_out_of_the_data_and_of_the_config(written):
    out = written("trl", test=[])
    assert [file.name for file in (out / "data").iterdir()] == ["train.parquet"]
    assert "eval_strategy" not in yaml.safe_load((out / "dpo.yaml").read_text())


@pytest.mark.parametrize("test", [ROWS[2:], []])
@pytest.mark.parametrize("tokens", [None, 500])
@pytest.mark.parametrize("name", [name for name in TRAINERS if name != "sft"])
def test_every_config_can_be_read_and_names_files_that_are_there(tmp_path, name, tokens, test):
    counted = dict.fromkeys(("prompt_tokens", "chosen_tokens", "rejected_tokens"), tokens)
    rows = [{**row, **counted} for row in ROWS]
    out = tmp_path / "out"
    export_dataset(open_dataset(dataset(tmp_path / "set", rows, test)), name, out)
    for file in snippets(name):
        text = (out / file).read_text()
        assert "{" not in text or file.endswith((".json", ".sh", ".py"))
        if file.endswith(".yaml"):
            assert isinstance(yaml.safe_load(text), dict)
        elif file.endswith(".json"):
            assert isinstance(json.loads(text), dict)
        elif file.endswith(".py"):
            compile(text, file, "exec")
        assert ("1024" in text.replace("default is 1024", "")) == (
            tokens is not None and file != "dataset_info.json"
        )
        assert file.endswith(".json") or "Checked" in text
        for split in ("train", "test"):
            if f"data/{split}." in text.replace("$data/", "data/"):
                assert list(out.glob(f"data/{split}.*"))


def test_the_same_again_changes_nothing(written, tmp_path):
    out = written("kto")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.rglob("*.*")}
    (out / "model").mkdir()  # the output of a training
    export_dataset(open_dataset(tmp_path / "set"), "kto", out)
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before}
    changed = {path.name for path in before if before[path] != after[path]}
    assert changed <= {"export.json"}
    assert before[out / "export.json"][1] == after[out / "export.json"][1]
    assert (out / "model").is_dir()
    assert not list(tmp_path.glob(".factory-*"))


def test_other_rows_take_the_place_of_ours(written, tmp_path):
    out = written("trl")
    export_dataset(open_dataset(dataset(tmp_path / "grown", ROWS[:1], [])), "trl", out)
    assert len(rows_of(out)) == 1
    assert not list(out.glob("data/test*"))


def test_what_the_user_changed_is_not_overwritten(written, tmp_path, factory):
    out = written("trl")
    (out / "dpo.yaml").write_text("beta: 0.5\n")
    ended = factory("export", dataset(tmp_path / "other"), "--to", "trl", "--out", out)
    assert ended.code == 2
    assert f"these files in {out} have changed since the export: dpo.yaml" in ended.err
    assert (out / "dpo.yaml").read_text() == "beta: 0.5\n"


def without(*names):
    return pa.schema([field for field in PAIR_COLUMNS if field.name not in names])


STRINGS = pa.schema(
    [pa.field(f.name, pa.string()) if f.name == "chosen" else f for f in PAIR_COLUMNS]
)
RICH = pa.list_(pa.struct([(name, pa.string()) for name in ("role", "content", "tool_calls")]))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("trll", {}, "--to: unknown trainer trll: did you mean trl? expected one of trl"),
        ("llama_factory", {}, "did you mean llama-factory?"),
        ("zzz", {}, "--to: unknown trainer zzz: expected one of"),
        ("sft", {}, "an SFT export needs all answers"),
        ("trl", {"rows": [], "test": []}, "give a recipe, or a dataset folder"),
        ("trl", {"rows": []}, "the dataset has no training pairs"),
        ("kto", {"schema": without("chosen_id")}, "that this trainer needs (chosen_id): export"),
        ("reward-model", {"schema": without("margin")}, "that this trainer needs (margin): export"),
        ("trl", {"schema": without("prompt")}, "prompt: the column is missing: provide a list of"),
        (
            "axolotl",
            {"schema": PAIR_COLUMNS.append(pa.field("tools", pa.string()))},
            "some prompts have tools, which axolotl would not show to the model: export to trl",
        ),
        (
            "trl",
            {"schema": PAIR_COLUMNS.set(3, pa.field("prompt", RICH))},
            "only the fields role and content",
        ),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(tmp_path, factory, name, options, said):
    folder = dataset(tmp_path / "set", **options)
    ended = factory("export", folder, "--to", name, "--out", tmp_path / "out")
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("llama-factory", ([QUESTION, QUESTION], "a", "b"), "LLaMA-Factory would drop them"),
        ("axolotl", ([QUESTION], "message", "no"), "would train on the placeholder"),
    ],
)
def test_pairs_that_a_trainer_would_spoil(tmp_path, factory, name, row, said):
    folder = dataset(tmp_path / "set", [*ROWS, pair(3, *row)])
    ended = factory("export", folder, "--to", name, "--out", tmp_path / "out")
    assert ended.code == 2
    assert "1 pairs have" in ended.err
    assert said in ended.err
    assert factory("export", folder, "--to", "trl", "--out", tmp_path / "trl").code == 0


def test_a_folder_of_others_is_left_alone(tmp_path, factory):
    folder = dataset(tmp_path / "set")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    export_dataset(open_dataset(folder), "trl", tmp_path / "ours")
    for out, said in (
        ("mine", "is not empty and was not written by"),
        ("file", "is a file"),
        ("ours", "contains an export for trl"),
        ("set", "is not empty and was not written by"),
    ):
        before = sorted((tmp_path / "set").rglob("*"))
        ended = factory("export", folder, "--to", "axolotl", "--out", tmp_path / out)
        assert ended.code == 2
        assert said in ended.err
        assert sorted((tmp_path / "set").rglob("*")) == before
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"


def marker(**changes):
    return lambda found: json.dumps({**found, **changes})


@pytest.mark.parametrize(
    "change",
    [
        lambda found: "{",
        lambda found: "[]",
        lambda found: "[" * 100_000,
        lambda found: json.dumps({"trainer": "trl", "files": {}}),
        marker(written_by="me"),
        marker(trainer="mine"),
        marker(trainer=["trl"]),
        marker(files=[]),
        marker(files={"../thesis.txt": "0" * 64}),
        marker(files={"/etc/passwd": "0" * 64}),
        marker(files={"thesis.txt": "0" * 64}),
        marker(files={"dpo.yaml": 3}),
    ],
)
def test_a_marker_that_no_export_wrote_is_not_trusted(written, tmp_path, factory, change):
    out = written("trl")
    (out / "export.json").write_text(change(json.loads((out / "export.json").read_text())))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    ended = factory("export", dataset(tmp_path / "other"), "--to", "trl", "--out", out)
    assert ended.code == 2
    assert "was not written by `factory export`" in ended.err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["dpo.yaml", "data/train.parquet", "data", "export.json"])
def test_an_export_never_writes_through_a_link(written, tmp_path, factory, name):
    out = written("trl")
    theirs = tmp_path / "theirs"
    (out / name).rename(theirs)
    (out / name).symlink_to(theirs)
    source = dataset(tmp_path / "grown", ROWS[:1], [])
    before = {path: path.read_bytes() for path in [theirs, *theirs.rglob("*")] if path.is_file()}
    assert factory("export", source, "--to", "trl", "--out", out).code == 2
    assert {path: path.read_bytes() for path in before} == before


def test_the_user_s_files_beside_an_export_stay(written, tmp_path):
    for name in (".tmp-out", ".factory-unfinished-mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("x")
    written("trl")
    assert (tmp_path / ".tmp-out" / "thesis.txt").exists()
    assert (tmp_path / ".factory-unfinished-mine" / "thesis.txt").exists()


PEAK = """
import re, sys
from pathlib import Path
from factory.export import export_dataset, open_dataset

export_dataset(open_dataset(Path(sys.argv[1])), "kto", Path(sys.argv[2]))
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_rows(tmp_path):
    peaks = []
    for n_rows in (15_000, 60_000):  # 45 MB and 180 MB of text
        folder = tmp_path / f"set-{n_rows}"
        (folder / "data").mkdir(parents=True)
        table = duckdb.sql(
            f"""
            select
                'p' || i as pair_id, 'q' || i as prompt_id, 0 as iteration,
                [{{'role': 'user', 'content': 'Q' || i}}] as prompt,
                [{{'role': 'assistant', 'content': repeat(sha256(i::varchar), 24)}}] as chosen,
                [{{'role': 'assistant', 'content': repeat(sha256('-' || i), 24)}}] as rejected,
                '+' || i as chosen_id, '-' || i as rejected_id
            from range({n_rows}) as numbers (i)
            """
        ).to_arrow_table()
        pq.write_table(table, folder / "data" / "train-00.parquet", row_group_size=1000)
        command = [sys.executable, "-c", PEAK, folder, tmp_path / f"out-{n_rows}"]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks.append(int(told) / 1024)
    assert peaks[1] - peaks[0] < 60


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    from toys import Toy

    toy = Toy(tmp_path_factory.mktemp("formats") / "toy", n_prompts=30)
    toy.script("def answer(messages, seed):\n    return f'{seed % 97}\\nScore: {seed % 6}'")
    toy.finish()
    return toy


@pytest.fixture
def exported(made, tmp_path, factory):
    def call(name, *args):
        out = tmp_path / name
        told = factory("export", made.path, "--lake", made.lake, "--to", name, "--out", out, *args)
        assert told.code == 0, told.err
        return out, told

    return call


def test_a_recipe_is_its_dataset(made, exported, tmp_path):
    out, _ = exported("parquet")
    folder = write_dataset(made.look(), "toy")
    files = sorted(str(file) for file in folder.glob("data/train-*.parquet"))
    assert rows_of(out) == duckdb.read_parquet(files).to_arrow_table().to_pylist()
    export_dataset(open_dataset(folder), "parquet", tmp_path / "again")
    assert rows_of(tmp_path / "again") == rows_of(out)


def test_kto_is_what_the_named_query_gives(made, exported):
    from factory.lake import shipped_queries

    out, _ = exported("kto")
    asked = made.query(shipped_queries()["kto"].sql)
    for split in ("train", "test"):
        rows = [(str(row["prompt"]), str(row["completion"]), row["label"]) for row in asked]
        wanted = [row for row, of in zip(rows, asked, strict=True) if of["split"] == split]
        got = rows_of(out, split)
        assert len(got) == len(wanted) > 0
        assert sorted(map(str, wanted)) == sorted(
            str((str(row["prompt"]), str(row["completion"]), row["label"])) for row in got
        )


def test_sft_is_the_best_answer_of_each_prompt(made, exported):
    out, _ = exported("sft")
    best = made.query(
        "select max(score) as score from candidates where role = 'current' and split = 'train' "
        "group by iteration, prompt_id having max(score) is not null"
    )
    got = rows_of(out)
    assert len(got) == len(best)
    assert set(got[0]) == {"prompt", "completion"}
    assert [message["role"] for message in got[0]["completion"]] == ["assistant"]
    assert yaml.safe_load((out / "sft.yaml").read_text())["dataset_name"] == "data"


def test_the_command_is_one_that_a_shell_takes(made, exported):
    out, told = exported("trl")
    command = told.out.splitlines()[-1].strip()
    assert shlex.split(command)[:4] == ["cd", str(out), "&&", "trl"]
    assert command.endswith(f"--model_name_or_path {made.folder / 'm0'}")


def test_as_json(exported):
    _, told = exported("openrlhf", "--json")
    said = told.json()
    assert said["rows"].keys() == {"train", "test"}
    assert said["command"].startswith("bash dpo.sh ")
    assert said["left_out"] == []


def test_a_build_is_exported_from_its_folder(made, factory, tmp_path):
    factory("pairs", made.path, "--lake", made.lake, "--name", "w", "--set", "pairs.min_margin=3")
    (folder,) = made.lake.glob("datasets/toy-w-*")
    assert factory("export", folder, "--to", "jsonl", "--out", tmp_path / "w").code == 0
    assert min(row["margin"] for row in rows_of(tmp_path / "w")) >= 3


def test_a_dataset_exports_without_its_lake(made, tmp_path, factory):
    folder = write_dataset(made.look(), "toy")
    shutil.copytree(folder, tmp_path / "downloaded")
    told = factory("export", tmp_path / "downloaded", "--to", "trl", "--out", tmp_path / "out")
    assert told.code == 0
    assert told.out.rstrip().endswith("--model_name_or_path MODEL")


def test_a_recipe_that_never_ran(toy, factory, tmp_path):
    ended = factory("export", toy.path, "--lake", toy.lake, "--to", "trl", "--out", tmp_path / "o")
    assert ended.code == 2
    assert "has no pairs for this recipe: run `factory run" in ended.err
    assert not toy.lake.exists()


def test_a_dataset_that_was_not_downloaded_whole(tmp_path, factory):
    folder = dataset(tmp_path / "set")
    file = folder / "data" / "test-00.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    ended = factory("export", folder, "--to", "trl", "--out", tmp_path / "out")
    assert ended.code == 2
    assert "test-00.parquet: the Parquet file is incomplete or damaged" in ended.err


def test_overrides_are_for_recipes(tmp_path, factory):
    folder = dataset(tmp_path / "set")
    ended = factory(
        "export", folder, "--to", "trl", "--out", tmp_path / "out", "--set", "sampling.draws=2"
    )
    assert ended.code == 2
    assert "set is a dataset folder, but overrides apply only to a recipe" in ended.err


def test_the_help_names_every_trainer(factory):
    told = "".join(factory("export", "--help").out.split())
    assert all(name in told for name in TRAINERS)


@pytest.mark.slow
def test_trl_reads_its_exports_as_their_configs_say(tmp_path, monkeypatch):
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    m0 = str(QUICKSTART / "m0")
    copy = [{"role": "user", "content": "Copy abc."}]
    counted = {"prompt_tokens": 20, "chosen_tokens": 6, "rejected_tokens": 6}
    rows = [pair(n, copy, f"ab{letter}.", "cba.", **counted) for n, letter in enumerate("cdef")]
    folder = dataset(tmp_path / "set", rows, rows[:2])
    start = "<s><|user|>Copy abc.<|assistant|>"
    wanted = {
        "trl": (trl.DPOConfig, trl.DPOTrainer, {"prompt_ids": start, "chosen_ids": "abc.</s>"}),
        "kto": (trl.KTOConfig, trl.KTOTrainer, {"completion_ids": "abc.</s>"}),
        "reward-model": (
            trl.RewardConfig,
            trl.RewardTrainer,
            {"chosen_ids": f"{start}abc.</s>", "rejected_ids": f"{start}cba.</s>"},
        ),
    }
    for name, (config_class, trainer_class, texts) in wanted.items():
        export_dataset(open_dataset(folder), name, tmp_path / name)
        monkeypatch.chdir(tmp_path / name)
        (config,) = (tmp_path / name).glob("*.yaml")
        parser = trl.TrlParser((trl.ScriptArguments, config_class, trl.ModelConfig))
        options = "--max_steps 1 --use_cpu true --bf16 false --report_to none".split()
        script, args, model = parser.parse_args_and_config(
            ["--config", config.name, "--model_name_or_path", m0, *options]
        )
        assert args.max_length == 64
        splits = datasets.load_dataset(script.dataset_name, cache_dir=str(tmp_path / "cache"))
        trainer = trainer_class(
            model=model.model_name_or_path,
            args=args,
            train_dataset=splits[script.dataset_train_split],
            eval_dataset=splits[script.dataset_test_split],
        )
        row = trainer.train_dataset[0]
        decoded = {column: trainer.processing_class.decode(row[column]) for column in texts}
        assert decoded == texts
        assert len(trainer.train_dataset) == (8 if name == "kto" else 4)
        assert trainer.train().global_step == 1
