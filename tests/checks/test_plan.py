"""Plans without models or packages, and faults of a recipe that need neither to be found."""

import json
import shutil

import pytest
from toys import QUICKSTART

from factory.api import open as open_recipe
from factory.checks import preflight
from factory.errors import MissingModel
from factory.plan import doctor, packages


@pytest.fixture
def own(small):
    """Return a small recipe whose model is in the recipe's folder."""
    shutil.rmtree(small.folder / "m0")
    shutil.copytree(QUICKSTART / "m0", small.folder / "m0")
    small.write(model="m0")
    return small


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(doctor, "find_gpus", list)


def planned(factory, toy, *args):
    return factory("plan", toy.path, "--lake", toy.lake, "--json", *args).json()


# models that are not on this machine


def split_weights(m0):
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (m0 / "model.safetensors.index.json").write_text(json.dumps(index))


LACKS = {
    "m0 is not a folder": shutil.rmtree,
    "m0 has no config.json": lambda m0: (m0 / "config.json").unlink(),
    "m0 has no weights": lambda m0: (m0 / "model.safetensors").unlink(),
    "m0 lacks 1 of its weight files, such as model-00002-of-00002.safetensors": split_weights,
    "m0 has no tokenizer": lambda m0: (m0 / "tokenizer.json").unlink(),
}


@pytest.mark.parametrize("reason", LACKS)
def test_a_plan_without_a_model_has_all_steps_and_counts(own, factory, reason):
    whole = planned(factory, own)
    LACKS[reason](own.folder / "m0")
    bare = planned(factory, own)
    assert reason in bare["missing_models"]["M_0"]
    assert [row["step"] for row in bare["steps"]] == [row["step"] for row in whole["steps"]]
    wanted = ("prompts", "samples", "judgments", "verdicts", "train")
    for before, after in zip(whole["steps"], bare["steps"], strict=True):
        assert after["stage"] not in wanted or before["wanted"] == after["wanted"]
        assert after["state"] == "model missing" or after["state"].startswith("waits for ")
        assert after["key"] is None
    assert {row["state"] for row in bare["steps"] if row["model"] == "M_0"} == {"model missing"}
    for total in ("steps", "requests", "trainings", "loads", "tokens"):
        assert bare["totals"][total] == whole["totals"][total]
    assert not own.lake.exists()

    shown = factory("plan", own.path, "--lake", own.lake)
    assert shown.code == 0
    assert reason in shown.out
    assert "Unknown without M_0: the rows in the lake" in shown.out
    plan = open_recipe(own.path, own.lake).plan()
    assert list(plan.missing_models) == ["M_0"]
    assert not plan.is_done


@pytest.mark.parametrize("reason", LACKS)
@pytest.mark.parametrize("verb", ["run", "preview", "sql"])
def test_other_commands_refuse_a_missing_model_before_any_work(own, factory, reason, verb):
    LACKS[reason](own.folder / "m0")
    query = ["from prompts"] if verb == "sql" else []
    ended = factory(verb, own.path, *query, "--lake", own.lake)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert reason in ended.err
    assert not own.lake.exists()


@pytest.mark.parametrize("reason", LACKS)
def test_doctor_lists_a_missing_model_beside_the_other_checks(own, factory, reason):
    LACKS[reason](own.folder / "m0")
    told = factory("doctor", own.path, "--lake", own.lake)
    assert told.code == 1
    lines = [line.split(maxsplit=2) for line in told.out.splitlines()]
    (message,) = (
        message for mark, name, message in lines[:-1] if (mark, name) == ("stop", "model")
    )
    assert message.startswith(f"model.path: {reason}")
    assert ["ok", "recipe"] in [line[:2] for line in lines]
    assert told.out.endswith("1 problem would stop a run.\n")


def test_a_repository_that_is_not_downloaded(own, factory):
    own.write(model="nobody/nothing")
    bare = planned(factory, own)
    assert "`hf download nobody/nothing` or `factory run`" in bare["missing_models"]["M_0"]
    assert factory("run", own.path, "--lake", own.lake).code == 2


def test_an_adapter_that_is_not_here(own, factory):
    own.write(model={"path": "m0", "adapter": "nowhere"}, train={"lora": {}})
    assert "model.adapter: " in planned(factory, own)["missing_models"]["M_0"]


def test_stored_rows_of_a_missing_model_are_neither_matched_nor_changed(toy, factory):
    toy.finish()
    held = {path: path.read_bytes() for path in toy.lake.rglob("*") if path.is_file()}
    shutil.rmtree(toy.folder / "m0")
    assert {row["answered"] for row in planned(factory, toy)["steps"]} == {0}
    status = factory("status", toy.path, "--lake", toy.lake)
    assert status.code == 0
    assert "Unknown without M_0" in status.out
    shown = factory("status", toy.path, "--lake", toy.lake, "--json").json()
    assert list(shown["missing_models"]) == ["M_0"]
    assert {path: path.read_bytes() for path in toy.lake.rglob("*") if path.is_file()} == held
    with pytest.raises(MissingModel):
        open_recipe(toy.path, toy.lake).picture()


def test_only_the_steps_of_a_missing_judge_are_unknown(toy, factory):
    toy.finish()
    toy.write(judge={"model": "judge-model"})
    bare = planned(factory, toy)
    assert list(bare["missing_models"]) == ["judge"]
    states = {(row["stage"], row["role"], row["iteration"]): row["state"] for row in bare["steps"]}
    assert states["prompts", "loop", None] == "done"
    assert states["samples", "current", 0] == "done"
    assert states["judgments", "current", 0] == "model missing"
    assert states["samples", "current", 1] == "waits for M_1"


# packages that are not installed

PACKAGES = [
    ("vllm", {"engine": {"name": "vllm"}}, "vllm"),
    ("aiohttp", {"engine": {"name": "openai", "base_url": "http://x/v1", "model": "m"}}, "openai"),
    ("transformers", {}, "train"),
    ("torch", {}, "train"),
    ("trl", {}, "train"),
    ("peft", {"train": {"lora": {}}}, "train"),
    (
        "aiohttp",
        {
            "judge": {
                "declared": "r1",
                "engine": {"name": "openai", "base_url": "http://x/v1", "model": "j"},
            }
        },
        "openai",
    ),
]


@pytest.fixture
def uninstall(monkeypatch):
    """Return a function that pretends that a package is not installed."""
    find = packages.util.find_spec

    def call(missing):
        monkeypatch.setattr(
            packages.util, "find_spec", lambda name: None if name == missing else find(name)
        )

    return call


@pytest.mark.parametrize(("package", "fields", "extra"), PACKAGES)
def test_a_missing_package_is_listed_and_a_run_refuses_before_it_reads_prompts(
    own, factory, uninstall, package, fields, extra
):
    own.fields.update({name: fields[name] for name in ("engine",) if name in fields})
    own.write(**{name: value for name, value in fields.items() if name != "engine"})
    if own.fields["engine"]["name"] == "openai":
        own.write(train={"lora": {}})
    uninstall(package)
    install = f"pip install 'preference-factory[{extra}]'"
    assert planned(factory, own)["missing_packages"][package] == f"run {install}"
    shown = factory("plan", own.path, "--lake", own.lake)
    assert shown.code == 0
    assert f"Not installed: {package} (run {install})" in shown.out
    own.prompts.write_text("no JSON\n")
    ended = factory("run", own.path, "--lake", own.lake)
    assert ended.code == 2
    assert f"{package}: the package is not installed: run {install}" in ended.err
    assert not own.lake.exists()


def test_steps_that_are_done_need_no_package(toy, factory, uninstall):
    toy.finish()
    toy.write(engine={"name": "scripted"}, train={"with": "scripted"})
    uninstall("trl")
    assert planned(factory, toy)["missing_packages"] == {}
    assert factory("run", toy.path, "--lake", toy.lake).code == 0


def test_a_preview_needs_no_trainer(own, factory, uninstall):
    uninstall("trl")
    own.prompts.write_text("no JSON\n")
    ended = factory("preview", own.path, "--lake", own.lake)
    assert "the line is not valid JSON" in ended.err


# faults of the recipe

OWN = "-- Roles: current\nselect prompt_id, {chosen} as chosen_id, {rejected} as rejected_id from "
SIDES = {"chosen": "best_current.id", "rejected": "worst_current.id"}


def policy(sql, **sides):
    return {"own.sql": OWN.format(**SIDES | sides) + sql}, {"loop": {"policy": "own.sql"}}


def rubric(header, text="{prompt} {answer}"):
    return {"own.md": f"---\n{header}\n---\n{text}"}, {"judge": {"rubric": "own.md"}}


def judged_by(source):
    return {"own.py": source}, {"judge": {"function": "own.py:grade"}}


def trained(**fields):
    return {}, {"train": {"dpo": fields}}


def adapted(**fields):
    return {}, {"train": {"lora": fields}}


FAULTS = {
    # a policy's SQL
    "is not a valid SQL query: Parser Error": policy("extremes grup by 1"),
    "is not a valid SQL query: Binder Error": policy("extremes", chosen="nothing"),
    "is not a valid SQL query: Catalog Error": policy("nothing"),
    "expected one read-only query": policy("extremes; copy (select 1) to 'written.csv'"),
    "chosen_id of type VARCHAR, but it has the type INTEGER": policy("extremes", chosen="1"),
    "two columns have the name chosen_id": policy("extremes", rejected="1 as chosen_id, 'x'"),
    # expressions over judges
    "the result is of type INTEGER and DOUBLE": (
        {},
        {"pairs": {"score": "columns('^(judge|draw)$')"}},
    ),
    "pairs.score: '0.5 *'": ({}, {"pairs": {"score": "0.5 *"}}),
    "pairs.score: 'honest'": ({}, {"pairs": {"score": "honest"}}),
    "pairs.chosen_if: 'judge + 1'": ({}, {"pairs": {"chosen_if": "judge + 1"}}),
    # TRL's and PEFT's fields
    "train.dpo.bta: TRL's DPOConfig has no such field: did you mean beta?": trained(bta=0.1),
    "train.dpo.beta: got 'lots': expected a number": trained(beta="lots"),
    "train.dpo.max_length: got 2.5: expected a whole number or null": trained(max_length=2.5),
    "train.dpo.logging_steps: got True: expected a number": trained(logging_steps=True),
    "train.dpo.optim: got 'adam_w': expected one of adamw_torch": trained(optim="adam_w"),
    "train.dpo.lr_scheduler_type: got 'stairs'": trained(lr_scheduler_type="stairs"),
    "train.dpo.loss_type: got 'sigmiod': expected one of": trained(loss_type=["sigmiod"]),
    "train.dpo.output_dir: the factory sets this field": trained(output_dir="there"),
    "train.lora.rank: PEFT's LoraConfig has no such field: did you mean r?": adapted(rank=8),
    "train.lora.r: got 'many': expected a whole number": adapted(r="many"),
    "train.lora.bias: got 'some': expected one of none, all": adapted(bias="some"),
    "train.lora.peft_type: the factory sets this field": adapted(peft_type="LORA"),
    "train.lora.init_lora_weights: got pissa": adapted(init_lora_weights="pissa"),
    # labels and parsers
    "the rubric has the scale [0.5, 2.5] but no labels": (
        rubric("scale: [0.5, 2.5]\nparser: '(.)'")[0],
        {"judge": {"rubric": "own.md", "constrained": True}},
    ),
    "judge.parser finds no score in the label 1": (
        {},
        {"judge": {"rubric": "rating", "constrained": True, "parser": "Score: (\\d)"}},
    ),
    "expected a regular expression with one group": rubric("scale: [0, 5]\nparser: '(\\d'"),
    "scale: got [5, 0]": rubric("scale: [5, 0]\nparser: '(\\d)'"),
    # functions
    "the function cannot be called with 1 positional argument": judged_by("def grade(): pass"),
    "change its parameters: def grade(rows)": judged_by("def grade(rows, more): pass"),
    "called with 1 positional": judged_by("def grade(rows, *, more): pass"),
    "the function is asynchronous": judged_by("async def grade(rows): pass"),
    "own.py has no such function": judged_by("def other(rows): pass"),
    "own.py cannot be imported: SyntaxError": judged_by("def grade(rows:"),
    "probe.py:measure: the function cannot be called": (
        {"probe.py": "def measure(): pass"},
        {"probe": {"function": "probe.py:measure"}},
    ),
    # prompts
    "the rubric own.md shows {criteria} to the judge": rubric(
        "scale: [0, 5]\nparser: '(\\d)'", "{prompt} {answer} {criteria}"
    ),
    "iteration 0 has no training prompts": ({}, {"loop": {"iterations": 16}}),
    # the engine
    "vLLM cannot load adapters trained with this setting": (
        {},
        {"engine": {"name": "vllm"}, "train": {"lora": {"use_dora": True}}},
    ),
    "the openai engine cannot load fully fine-tuned models": (
        {},
        {"engine": {"name": "openai", "base_url": "http://x/v1", "model": "m"}},
    ),
}

NOT_OF_A_PREVIEW = "iteration 0"


def write_fault(toy, said):
    files, fields = FAULTS[said]
    for name, text in files.items():
        (toy.folder / name).write_text(text)
    if "engine" in fields:
        toy.fields["engine"] = fields["engine"]
    toy.write(**{name: section for name, section in fields.items() if name != "engine"})


@pytest.mark.parametrize("said", FAULTS)
def test_a_plan_refuses_what_no_machine_can_run(own, factory, said):
    write_fault(own, said)
    for _ in ("with its model", "without its model"):
        ended = factory("plan", own.path, "--lake", own.lake)
        assert ended.code == 2
        assert said in ended.err
        shutil.rmtree(own.folder / "m0", ignore_errors=True)


@pytest.mark.parametrize("said", FAULTS)
def test_doctor_and_preview_and_run_say_it_before_any_work(own, factory, said, monkeypatch):
    monkeypatch.setattr(preflight, "missing_packages", lambda *_: [])
    write_fault(own, said)
    for verb in ("doctor", "preview", "run"):
        if verb == "preview" and said.startswith(NOT_OF_A_PREVIEW):
            continue
        told = factory(verb, own.path, "--lake", own.lake)
        assert told.code in ((1, 2) if verb == "doctor" else (2,))
        assert said in told.out + told.err
    assert not own.lake.exists()
    assert not list(own.folder.glob("written.csv"))


GOOD = [
    "def grade(rows, scale=5): return rows",
    "def grade(*rows): return rows",
    "def grade(rows, *, scale=5): return rows",
    "grade = len",
    "from statistics import mean as grade",
    "from os.path import *",
    "class grade:\n    def __init__(self, rows): pass",
    "from functools import cache\n@cache\ndef grade(): pass",
    "try:\n    import torch\nexcept ImportError:\n    def grade(): pass\nelse:\n    grade = len",
    "globals()['grade'] = len",
    "def __getattr__(name): return len",
]


@pytest.mark.parametrize("source", GOOD)
def test_a_function_that_may_fit_is_not_refused(toy, factory, source):
    (toy.folder / "own.py").write_text(source)
    toy.write(judge={"function": "own.py:grade"})
    assert factory("plan", toy.path, "--lake", toy.lake).code == 0


def test_a_finished_recipe_is_not_checked_again(toy, factory):
    toy.finish()
    toy.write(stop_if={"ties": 1})
    assert planned(factory, toy)["totals"]["steps"] == 0


@pytest.mark.parametrize("command", ["plan", "status"])
def test_nothing_is_written_into_a_folder_that_is_not_a_lake(toy, factory, command):
    toy.lake.mkdir()
    (toy.lake / "notes.txt").write_text("a file of the user's")
    assert factory(command, toy.path, "--lake", toy.lake).code == 0
    assert [path.name for path in toy.lake.iterdir()] == ["notes.txt"]
