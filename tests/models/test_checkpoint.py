"""Tests of model digests, chat templates, and token counts."""

import shutil

import pytest
from toys import QUICKSTART

from factory.models import Checkpoint, compile_template, folder_digest, token_counter

TEMPLATES = {
    "a loop": "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}",
    "generation marks": (
        "{% for m in messages %}{% if m.role == 'assistant' %}\n  {% generation %}\n"
        "{{ m.content }}!\n{% endgeneration %}\n{% else -%}\n {{ m.content }}"
        "{%- generation -%} x {%- endgeneration -%} y{% endif %}{% endfor %}"
    ),
    "break and tojson": (
        "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}"
        "{{ m | tojson }}{{ m | tojson(indent=2) }}{% endfor %}{{ bos_token }}"
    ),
    "a prompt for the answer": "{{ messages[0].role }}{% if add_generation_prompt %}A:{% endif %}",
}

MESSAGES = [
    {"role": "system", "content": "Be brief & <kind>."},
    {"role": "user", "content": "Grüße?"},
    {"role": "assistant", "content": "Yes."},
]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_renders_as_transformers_renders_it(name):
    transformers = pytest.importorskip("transformers.utils.chat_template_utils")
    (theirs,), _ = transformers.render_jinja_template(
        [MESSAGES], chat_template=TEMPLATES[name], add_generation_prompt=True, bos_token="<s>"
    )
    ours = compile_template(TEMPLATES[name]).render(
        messages=MESSAGES, add_generation_prompt=True, bos_token="<s>"
    )
    assert ours == theirs


def test_a_template_may_refuse_a_conversation():
    template = compile_template("{{ raise_exception('no system turn, please') }}")
    with pytest.raises(Exception, match="no system turn"):
        template.render(messages=MESSAGES)


def test_tokens_are_counted_as_the_tokenizer_of_transformers_does():
    transformers = pytest.importorskip("transformers")
    model = Checkpoint("M_0", QUICKSTART / "m0", "digest", "float32")
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.path)
    count = token_counter(model)
    for text in ("Copy the letters of stone.", "q", "What else? {x}", "é"):
        messages = [{"role": "user", "content": text}]
        encoded = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=True
        )
        assert count(messages) == len(encoded["input_ids"])


def test_a_digest_covers_what_decides_the_answers_and_nothing_else(tmp_path):
    folder = shutil.copytree(QUICKSTART / "m0", tmp_path / "m0")
    digest = folder_digest(folder, "float32", {})
    (folder / "README.md").write_text("A model.")
    assert folder_digest(folder, "float32", {}) == digest
    assert folder_digest(folder, "bfloat16", {}) != digest
    for name in ("chat_template.jinja", "generation_config.json", "model.safetensors"):
        held = (folder / name).read_bytes()
        (folder / name).write_bytes(held + b" ")
        assert folder_digest(folder, "float32", {}) != digest, name
        (folder / name).write_bytes(held)
    assert folder_digest(folder, "float32", {}) == digest


def test_unchanged_files_are_hashed_once(tmp_path):
    folder = shutil.copytree(QUICKSTART / "m0", tmp_path / "m0")
    known: dict[str, str] = {}
    digest = folder_digest(folder, "float32", known)
    assert len(known) == 6
    assert str(tmp_path) not in str(known)
    known.update(dict.fromkeys(known, "0" * 64))  # cached hashes are trusted
    assert folder_digest(folder, "float32", known) != digest
