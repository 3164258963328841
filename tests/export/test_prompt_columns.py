"""Tests that datasets, trainings, and exports carry everything that a prompt shows to a model."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
from toys import QUICKSTART, publishable, write_published

from factory.engines.protocol import Request
from factory.engines.read_ahead import read_prompt
from factory.engines.tokenizers import load_tokenizer
from factory.export import TRAINERS, write_dataset
from factory.models import Checkpoint, Conversation, prompt_encoder
from factory.recipe import Generation

datasets = pytest.importorskip("datasets")

TOOLS = [{"type": "function", "function": {"name": "find", "description": "Finds <b>."}}]
CALL = {"type": "function", "function": {"name": "find", "arguments": {"z": 1, "a": "ü"}}}
USER = {"role": "user", "content": "Look it up."}
CALLED = [
    USER,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "found", "tool_call_id": "1", "name": "find"},
]
REASONED = [
    USER,
    {"role": "assistant", "content": "No.", "reasoning_content": "Hm."},
    {"role": "user", "content": "Sure?"},
]
LINES = {
    "tools": {"messages": [USER], "tools": TOOLS},
    "tool calls": {"messages": CALLED, "tools": TOOLS},
    "reasoning": {"messages": REASONED},
    "name": {"messages": [{**USER, "name": "ann"}]},
    "settings": {"messages": [USER], "template_kwargs": {"enable_thinking": False}},
}
COLUMNS = {
    "tools": {"tools"},
    "tool calls": {"tools", "prompt"},
    "reasoning": {"prompt"},
    "name": {"prompt"},
    "settings": {"chat_template_kwargs"},
}
"""The columns in which a dataset differs from one with plain prompts."""

TEMPLATE = """\
{%- for tool in tools or [] %}{{ tool | tojson }}{% endfor -%}
{{ enable_thinking is defined }}{{ date is defined }}
{%- for message in messages -%}
<{{ message.role }}>{{ message | tojson }}{{ message.content }}{{ strftime_now("%d %B %Y") }}
{%- endfor -%}
{%- if add_generation_prompt -%}<assistant>{%- endif -%}
"""


def conversation(line):
    """Return the conversation that a model saw."""
    messages = [dict(message) for message in line["messages"]]
    for message in messages:
        if reasoning := message.pop("reasoning_content", None):
            message |= {"reasoning": reasoning, "reasoning_content": reasoning}
    return Conversation(messages, line.get("tools"), line.get("template_kwargs", {}))


@pytest.fixture
def dataset(toy):
    """Return a function that writes the dataset of a recipe with plain prompts and these lines."""

    def make(*names):
        lines = [json.dumps(LINES[name]) for name in names]
        toy.prompts.write_text("\n".join([toy.prompts.read_text().strip(), *lines]) + "\n")
        toy.write(loop={"policy": "self_rewarding", "iterations": 1}, prompts={"test_fraction": 0})
        toy.finish()
        return write_dataset(toy.look(), "toy")

    return make


def rows_of(folder, cache):
    return datasets.load_dataset(str(folder), split="train", cache_dir=str(cache))


@pytest.mark.parametrize("name", LINES)
def test_a_dataset_has_the_columns_that_its_prompts_need(dataset, tmp_path, name):
    plain = {"prompt", "chosen", "rejected"}
    rows = rows_of(dataset(name), tmp_path / "cache")
    has_json = rows.features["prompt"] == datasets.List(datasets.Json())
    assert has_json == ("prompt" in COLUMNS[name])
    extra = {"tools", "chat_template_kwargs"} & set(rows.column_names)
    assert extra == COLUMNS[name] - plain
    shown = conversation(LINES[name])
    (row,) = [row for row in rows if "Look it up." in row["prompt"][0]["content"]]
    assert row["prompt"] == shown.messages
    assert [list(message) for message in row["prompt"]] == [[*m] for m in shown.messages]
    assert json.loads(row.get("tools") or "null") == shown.tools
    assert row.get("chat_template_kwargs", {}) == shown.settings
    others = [other for other in rows if other["prompt"] != row["prompt"]]
    assert all(set(other["prompt"][0]) == {"role", "content"} for other in others)
    assert all(not other.get("tools") for other in others)
    assert all(other.get("chat_template_kwargs", {}) == {} for other in others)


def test_a_dataset_of_plain_prompts_is_as_before(dataset):
    file = next(dataset().glob("data/*.parquet"))
    schema = pq.read_schema(file)
    assert not {"tools", "chat_template_kwargs"} & set(schema.names)
    assert {part.name for part in schema.field("prompt").type.value_type} == {"role", "content"}


NEEDS = {"tools": "tools", "prompt": "messages", "chat_template_kwargs": "settings"}
"""The field of PromptFields that a column of a dataset needs."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tools", "tool calls", "settings"])
def test_an_export_carries_the_prompts_or_is_refused(dataset, factory, toy, tmp_path, name):
    dataset(name)
    for trainer, spec in TRAINERS.items():
        out = tmp_path / trainer
        ended = factory("export", toy.path, "--lake", toy.lake, "--to", trainer, "--out", out)
        if all(getattr(spec.reads, NEEDS[column]) for column in COLUMNS[name]):
            assert ended.code == 0, ended.err
            check_export(out, conversation(LINES[name]), tmp_path / "cache")
        else:
            assert ended.code == 2
            assert f"which {trainer} would not show to the model: export to trl" in ended.err
            assert not out.exists()


def check_export(out, shown, cache):
    """Check that exported rows show the prompt to a model as the conversation does."""
    file = next((out / "data").glob("train.*"))
    if file.suffix == ".jsonl":
        rows = [json.loads(line) for line in file.read_text().splitlines()]
    else:
        rows = datasets.load_dataset(
            "parquet", data_files=str(file), split="train", cache_dir=str(cache)
        )
    row = next(row for row in rows if "Look it up." in row["prompt"][0]["content"])
    assert row["prompt"] == shown.messages
    assert json.loads(row.get("tools") or "null") == shown.tools
    assert row.get("chat_template_kwargs", {}) == shown.settings


@pytest.fixture
def model(tmp_path):
    folder = shutil.copytree(QUICKSTART / "m0", tmp_path / "m0")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return Checkpoint("M_0", folder, "", "float32")


@pytest.mark.slow
def test_engine_counter_and_trainer_see_the_same_tokens(dataset, model, tmp_path):
    trl = pytest.importorskip("trl")
    rows = rows_of(dataset(*LINES), tmp_path / "cache")
    tokenizer = load_tokenizer(model.path, "model.path")
    trainer = trl.DPOTrainer(
        model=str(model.path),
        args=trl.DPOConfig(
            str(tmp_path / "out"), report_to="none", bf16=False, use_cpu=True, max_length=None
        ),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    encode = prompt_encoder(model)
    trained = {
        json.dumps([row["prompt"], row["tools"], row["chat_template_kwargs"]]): tokens
        for row, tokens in zip(rows, trainer.train_dataset["prompt_ids"], strict=True)
    }
    for line in LINES.values():
        shown = conversation(line)
        request = Request(
            "r",
            shown.messages,
            (0,),
            0,
            Generation(),
            model,
            tools=shown.tools,
            template_kwargs=shown.settings,
        )
        seen = read_prompt(request, tokenizer, None)
        assert encode(shown, True) == seen
        tools = None if shown.tools is None else json.dumps(shown.tools, ensure_ascii=False)
        assert trained[json.dumps([shown.messages, tools, shown.settings])] == seen


@pytest.mark.slow
def test_published_configurations_carry_the_prompts(tmp_path):
    toy = publishable(tmp_path / "toy", 12)
    lines = [json.dumps(line) for line in LINES.values()]
    toy.prompts.write_text("\n".join([toy.prompts.read_text().strip(), *lines]) + "\n")
    toy.write(prompts={"test_fraction": 0}, loop={"chunks": 1})
    toy.run()
    folder = write_published(toy, tmp_path / "folder")
    for name in ("default", "anchored", "kto", "candidates"):
        rows = datasets.load_dataset(
            str(folder), name, split="train", cache_dir=str(tmp_path / "cache")
        )
        assert rows.features["prompt"] == datasets.List(datasets.Json())
        assert any(row["tools"] for row in rows), name
        assert any(row["chat_template_kwargs"] for row in rows), name
    croissant = json.loads((folder / "croissant.json").read_text())
    fields = [field["name"] for field in croissant["recordSet"][0]["field"]]
    assert {"default/tools", "default/chat_template_kwargs"} <= set(fields)


# keys


def keys(toy, stage):
    return {
        step.label: state.folder.key
        for step, state in toy.look().steps.items()
        if step.stage == stage and state.folder
    }


@pytest.mark.parametrize("name", LINES)
def test_a_training_on_more_than_plain_messages_has_a_key_of_its_own(dataset, toy, name):
    dataset(name)
    (settings,) = {
        json.dumps(state.settings)
        for step, state in toy.look().steps.items()
        if step.stage == "train"
    }
    assert "prompt_fields" in settings


def test_a_training_on_plain_messages_keeps_its_key(dataset, toy):
    dataset()
    assert all(
        "prompt_fields" not in json.dumps(state.settings) for state in toy.look().steps.values()
    )


def test_samples_get_new_ids_only_where_the_prompt_was_shown_otherwise(toy):
    lines = [*LINES.values(), {"messages": [USER], "tools": [{"a": 1, "b": 2}]}]
    toy.prompts.write_text("\n".join(json.dumps(line) for line in [{"prompt": "Hi."}, *lines]))
    toy.write(prompts={"test_fraction": 0}, loop={"policy": "self_rewarding", "iterations": 1})
    toy.run()
    rows = toy.query(
        "select to_json(messages) as messages, tools, "
        "any_value(samples.request_id) = row_id(any_value(request_key), prompt_id, "
        "coalesce(any_value(template_kwargs), '')) as is_old "
        "from prompts join samples using (prompt_id) "
        "join roles on roles.sampling_key = samples.sampling_key "
        "group by prompt_id, messages, tools"
    )
    new = [row for row in rows if not row["is_old"]]
    assert len(rows) == 7
    assert len(new) == 3  # tools in another order, tool calls, and reasoning
    assert all(row["tools"] or "Hm." in row["messages"] for row in new)
