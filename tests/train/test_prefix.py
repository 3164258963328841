"""Tests that a run tells whether the trainer sees the prompts that the model saw."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toys import QUICKSTART

from factory.models import Checkpoint
from factory.train.prefix import prefix_warning

USER = [{"role": "user", "content": "Why?"}]
PAIR = {
    "prompt": USER,
    "chosen": [{"role": "assistant", "content": "So."}],
    "rejected": [{"role": "assistant", "content": "No."}],
}
PLAIN = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
THINKING = PLAIN.replace("<assistant>", "<assistant>[think]")
"""A generation prompt that opens a block of reasoning, which the template drops from answers."""

NOT_THINKING = (
    "{% for m in messages %}<{{ m.role }}>"
    "{% if m.role == 'assistant' and off is defined %}[no]{% endif %}{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>[no]{% endif %}"
)


@pytest.fixture
def warning(tmp_path):
    """Return a function that returns the warning about a template and training rows."""

    def warn(template, *rows):
        folder = shutil.copytree(QUICKSTART / "m0", tmp_path / "m0")
        (folder / "chat_template.jinja").write_text(template)
        file = tmp_path / "data.parquet"
        pq.write_table(pa.Table.from_pylist(list(rows)), file)
        return prefix_warning(file, Checkpoint("M_0", folder, "", "float32"))

    return warn


@pytest.mark.parametrize(
    ("template", "rows", "counted"),
    [
        (PLAIN, [PAIR], None),
        (THINKING, [PAIR], "1 of the first 1 prompts"),
        (THINKING, [PAIR] * 99, "64 of the first 64 prompts"),
        (THINKING, [{"prompt": USER, "completion": PAIR["chosen"]}], "1 of the first 1 prompts"),
        (NOT_THINKING, [PAIR], "1 of the first 1 prompts"),
        (NOT_THINKING, [PAIR | {"chat_template_kwargs": json.dumps({"off": 1})}], None),
        (THINKING, [PAIR | {"prompt": [json.dumps(USER[0])]}], "1 of the first 1 prompts"),
        (PLAIN + "{{ tools[0].name }}", [PAIR | {"tools": '[{"name": "f"}]'}], "1 of the first 1"),
        (PLAIN.replace("<assistant>", "<assistant>\n"), [PAIR], "1 of the first 1 prompts"),
        ("{{ raise_exception('no') }}", [PAIR], None),
    ],
)
def test_prompts_that_change_when_an_answer_follows_are_told(warning, template, rows, counted):
    told = warning(template, *rows)
    assert (told is None) == (counted is None)
    assert counted is None or counted in told


@pytest.mark.slow
def test_a_run_tells_it_before_the_training(small, factory):
    folder = shutil.copytree(QUICKSTART / "m0", small.folder / "m0", dirs_exist_ok=True)
    file = folder / "chat_template.jinja"
    small.write(model=str(folder))
    template = file.read_text()
    file.write_text(
        template + "{% if messages[-1].role == 'assistant' %}{% else %}{{ 'Q' }}{% endif %}"
    )
    ended = factory("run", small.path, "--lake", small.lake)
    assert "prompts differently when an answer follows" in ended.out + ended.err
