"""Tests that chat templates render here exactly as transformers renders them."""

import json
import shutil
from datetime import datetime

import pytest
from toys import QUICKSTART

from factory.errors import ModelError
from factory.models import (
    Checkpoint,
    Conversation,
    prints_date,
    prompt_encoder,
    read_templates,
    special_tokens,
    token_counter,
)

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Weather <now> in a town & its region",
            "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
        },
    }
]
CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "weather", "arguments": {"b": 1, "a": "ü"}},
}
PLAIN = [
    {"role": "system", "content": "Be brief & <kind>."},
    {"role": "user", "content": "Grüße?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "So?"},
]
RICH = [
    {"role": "user", "content": "Weather?", "name": "ann"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "rain", "tool_call_id": "c1", "name": "weather"},
    {"role": "assistant", "content": "Rain.", "reasoning_content": "It rains."},
    {"role": "user", "content": "Sure?"},
]

ADDED = {"__type": "AddedToken", "lstrip": False, "normalized": False, "rstrip": False}

LOOP = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
TEMPLATES = {
    "a loop": LOOP,
    "special tokens": (
        "{{ bos_token }}{{ sep_token }}{{ cls_token }}{{ mask_token }}{{ pad_token }}"
        "{{ unk_token }}" + LOOP + "{{ eos_token }}{{ sep_token is defined }}"
    ),
    "generation marks": (
        "{% for m in messages %}{% if m.role == 'assistant' %}\n  {% generation %}\n"
        "{{ m.content }}!\n{% endgeneration %}\n{% else -%}\n {{ m.content }}"
        "{%- generation -%} x {%- endgeneration -%} y{% endif %}{% endfor %}"
    ),
    "loop controls": (
        "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}"
        "{% if loop.first %}{% continue %}{% endif %}{{ m.content }}{% endfor %}"
    ),
    "tojson": (
        "{{ messages | tojson }}{{ messages | tojson(indent=2) }}"
        "{{ messages | tojson(separators=(',', ':'), sort_keys=true, ensure_ascii=true) }}"
    ),
    "tools": (
        "{% if tools is not none %}{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}"
        "{{ tools is defined }}{{ documents is none }}{{ documents is defined }}"
    ),
    "tool calls": (
        "{% for m in messages %}{% if m.content is none %}-{% else %}{{ m.content }}{% endif %}"
        "{% if 'tool_calls' in m %}{% for c in m.tool_calls %}{{ c.function.name }}"
        "{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }};{% endfor %}"
        "{{ c.function.arguments | tojson }}{% endfor %}{% endif %}"
        "{% if m.name is defined %}{{ m.name }}{% endif %}{{ m.reasoning_content }}{% endfor %}"
    ),
    "a generation prompt": "{{ messages[0].role }}{% if add_generation_prompt %}A:{% endif %}",
    "settings": "{% if enable_thinking is defined and not enable_thinking %}no{% endif %}" + LOOP,
    "namespace and macro": (
        "{%- set ns = namespace(n=0) -%}{%- macro show(m) -%}[{{ m.role }}]{%- endmacro -%}\n"
        "  {% for m in messages %}{% set ns.n = ns.n + 1 %}{{ show(m) }}{% endfor %}{{ ns.n }}"
    ),
    "text methods": (
        "{{ messages[0].content.strip().split(' ')[0].upper() }}{{ messages[-1]['content'][:2] }}"
        "{{ messages[1:] | length }}{{ 'x' * 3 }}{{ messages | map(attribute='role') | join(',') }}"
    ),
    "an indented start": "  {% if messages %}\n    {{ messages[0].role }}\n  {% endif %}\nend\n",
}


@pytest.fixture
def model(tmp_path):
    """Return a function that makes a model folder with a chat template and special tokens."""

    def make(template, **settings):
        folder = shutil.copytree(QUICKSTART / "m0", tmp_path / "m0", dirs_exist_ok=True)
        file = folder / "tokenizer_config.json"
        held = json.loads(file.read_text())
        vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        token = sorted(vocabulary)[0]
        held |= {
            "sep_token": token,
            "cls_token": token,
            "mask_token": ADDED | {"content": token},
            **settings,
        }
        file.write_text(json.dumps(held))
        (folder / "chat_template.jinja").write_text(template)
        return Checkpoint("M_0", folder, "", "float32")

    return make


def theirs(checkpoint, conversation, **more):
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.path)
    return tokenizer.apply_chat_template(
        conversation.messages,
        tools=conversation.tools,
        tokenize=False,
        add_generation_prompt=True,
        **conversation.settings,
        **more,
    )


def ours(checkpoint, conversation):
    templates = read_templates(checkpoint.path, "model.path")
    return templates.render(conversation, special_tokens(checkpoint.path, "model.path"))


@pytest.mark.parametrize("messages", [PLAIN, RICH], ids=["plain", "rich"])
@pytest.mark.parametrize("tools", [None, TOOLS], ids=["no tools", "tools"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_renders_as_transformers_renders_it(model, name, tools, messages):
    checkpoint = model(TEMPLATES[name])
    conversation = Conversation(messages, tools, {"enable_thinking": False})
    assert ours(checkpoint, conversation) == theirs(checkpoint, conversation)


def test_settings_may_add_documents_and_replace_special_tokens(model):
    checkpoint = model("{{ bos_token }}{% for d in documents %}{{ d.title }}{% endfor %}")
    settings = {"documents": [{"title": "T", "text": "x"}], "bos_token": "mine"}
    conversation = Conversation(PLAIN, None, settings)
    assert ours(checkpoint, conversation) == "mineT" == theirs(checkpoint, conversation)


@pytest.mark.parametrize("tools", [None, [], TOOLS], ids=["none", "empty", "some"])
def test_a_template_for_tools_is_chosen_as_transformers_chooses_it(model, tools):
    named = [
        {"name": "default", "template": "default " + LOOP},
        {"name": "tool_use", "template": "tools " + LOOP},
    ]
    checkpoint = model("", chat_template=named)
    (checkpoint.path / "chat_template.jinja").unlink()
    conversation = Conversation(PLAIN, tools)
    assert ours(checkpoint, conversation) == theirs(checkpoint, conversation)
    folder = checkpoint.path / "additional_chat_templates"
    folder.mkdir()
    (folder / "tool_use.jinja").write_text("file " + LOOP)
    (checkpoint.path / "chat_template.jinja").write_text(LOOP)
    assert ours(checkpoint, conversation) == theirs(checkpoint, conversation)


def test_tokens_are_counted_as_transformers_counts_them(model):
    transformers = pytest.importorskip("transformers")
    checkpoint = model(TEMPLATES["tool calls"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.path)
    encode, count = prompt_encoder(checkpoint), token_counter(checkpoint)
    for messages in (PLAIN, RICH):
        conversation = Conversation(messages, TOOLS)
        expected = tokenizer.apply_chat_template(
            messages, tools=TOOLS, add_generation_prompt=True, return_dict=True
        )["input_ids"]
        assert encode(conversation, True) == expected
        assert count(conversation) == len(expected)


def test_special_tokens_that_only_transformers_knows_are_counted_too(model):
    pytest.importorskip("transformers")
    checkpoint = model("{% if mask_token is defined %}{{ mask_token * 9 }}{% endif %}x")
    file = checkpoint.path / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    del settings["mask_token"], settings["sep_token"]
    file.write_text(json.dumps(settings))
    conversation = Conversation(PLAIN)
    rendered = theirs(checkpoint, conversation)
    assert token_counter(checkpoint)(conversation) == len(rendered.replace(" ", "")) == 1


@pytest.mark.parametrize("extra", [{}, {"added_tokens_decoder": {}}])
def test_special_tokens_of_the_old_file_count_where_transformers_reads_it(model, extra):
    checkpoint = model("{{ sep_token }}", **extra)
    file = checkpoint.path / "special_tokens_map.json"
    file.write_text(json.dumps({"sep_token": {"content": "e", "lstrip": False}}))
    conversation = Conversation(PLAIN)
    assert ours(checkpoint, conversation) == theirs(checkpoint, conversation)


# templates that print a date

DATED = {
    "Llama 3.2": (
        "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
        '{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}'
        '{%- set date_string = "26 Jul 2024" %}{%- endif %}{%- endif %}Today: {{ date_string }}\n'
    ),
    "SmolLM3": '{%- set today = strftime_now("%d %B %Y") -%}{{ "Today: " + today }}',
    "two formats": "  {% if 1 %}\n{{ strftime_now('%Y') }}{% endif %}{{ strftime_now('%d/%m') }}",
    "in a macro": "{% macro day() %}{{ strftime_now('%A') }}{% endmacro %}\n\n{{ day() }}",
    "quotes and braces": "{{ strftime_now('\"%Y\" {{ %% }}') }}",
}


@pytest.mark.parametrize("name", DATED)
def test_a_template_prints_a_fixed_date_everywhere(model, name, monkeypatch):
    transformers = pytest.importorskip("transformers")
    utils = pytest.importorskip("transformers.utils.chat_template_utils")
    checkpoint, conversation = model(DATED[name] + LOOP), Conversation(PLAIN)
    assert prints_date(checkpoint.path, "model.path")
    fixed = ours(checkpoint, conversation)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.path)
    tokenizer.chat_template = read_templates(checkpoint.path, "model.path").for_tokenizer
    assert tokenizer.apply_chat_template(PLAIN, tokenize=False, add_generation_prompt=True) == fixed

    class Then(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2024, 7, 26, 12)

    monkeypatch.setattr(utils, "datetime", Then)  # what transformers prints on that day
    assert theirs(checkpoint, conversation) == fixed
    assert str(datetime.now().year) not in fixed


def test_a_prompt_may_set_the_date_of_a_template_that_has_a_setting_for_it(model):
    checkpoint = model(DATED["Llama 3.2"])
    conversation = Conversation(PLAIN, None, {"date_string": "1 May 2001"})
    assert ours(checkpoint, conversation) == "Today: 1 May 2001"


def test_a_template_without_a_date_stays_as_it_is(model):
    checkpoint = model(LOOP)
    assert not prints_date(checkpoint.path, "model.path")
    assert read_templates(checkpoint.path, "model.path").for_tokenizer == LOOP


# templates that cannot be used


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"\xef\xbb\xbf{{ messages }}", "starts with a byte order mark"),
        ("{# Größe #}{{ messages }}".encode("latin-1"), "cannot be read as UTF-8"),
        (b"{% for m in messages %}", "is not valid"),
        (b"{{ messages | no_such_filter }}", "is not valid"),
        (b"{{ strftime_now(messages[0].content) }}", "in a format that depends on the prompt"),
        (b"{% if x %}" * 3000 + b"{% endif %}" * 3000, "nested too deeply"),
        (b"{{ " + b"(" * 5000 + b"1" + b")" * 5000 + b" }}", "nested too deeply"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_with_a_sentence(model, content, fault):
    checkpoint = model("")
    (checkpoint.path / "chat_template.jinja").write_bytes(content)
    with pytest.raises(ModelError, match=rf"model\.path: .*{fault}"):
        token_counter(checkpoint)


def test_a_template_may_refuse_a_conversation(model):
    checkpoint = model("{{ raise_exception('no system turn, please') }}")
    with pytest.raises(Exception, match="no system turn"):
        ours(checkpoint, Conversation(PLAIN))


def test_a_date_under_another_name_is_refused(tmp_path):
    template = "{% set now = strftime_now %}{{ now('%Y') }}"
    (tmp_path / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError, match="prints the current date"):
        read_templates(tmp_path, "model")


def test_a_template_that_only_asks_whether_there_is_a_date_is_accepted(tmp_path):
    template = "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% endif %}"
    (tmp_path / "chat_template.jinja").write_text(template)
    templates = read_templates(tmp_path, "model")
    assert templates.prints_date
    assert templates.render(Conversation([]), {}) == "2024"
