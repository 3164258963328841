"""Check that a trainer sees the prompts that the model saw when it answered.

TRL renders a prompt with its answer, and trains on what follows the beginning that equals the
prompt alone. Some chat templates write the prompt differently when an answer follows, for example
without an empty block of reasoning. Then the model is trained on a prompt that it never sees.

The texts are compared, not the tokens: if an answer begins with a line break that its tokenizer
merges with the end of the prompt, one token differs, and no template can change this.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from factory.models import Checkpoint, Conversation, prompt_renderer

CHECKED = 64
"""Number of training rows to check."""


def prefix_warning(rows: Path, model: Checkpoint) -> str | None:
    """Return a warning if the prompts of training rows change when an answer follows.

    `rows` is a Parquet file of training rows. Returns None if no prompt changes.
    """
    render = prompt_renderer(model)
    checked = list(itertools.islice(_rows(rows), CHECKED))
    n_broken = sum(_is_broken(row, render) for row in checked)
    if n_broken == 0:
        return None
    return (
        f"the chat template of {model.name} writes {n_broken:,} of the first {len(checked):,} "
        "prompts differently when an answer follows: TRL omits the end that differs, so the model "
        "trains on prompts that it does not see when it answers (another setting in "
        "template_kwargs, such as enable_thinking, may avoid this)"
    )


def _rows(file: Path) -> Iterator[Mapping[str, Any]]:
    for batch in pq.ParquetFile(file).iter_batches(CHECKED):
        yield from batch.to_pylist()


def _is_broken(row: Mapping[str, Any], render: Callable[[Conversation, bool], str]) -> bool:
    messages = [json.loads(each) if isinstance(each, str) else each for each in row["prompt"]]
    tools = json.loads(row["tools"]) if row.get("tools") else None
    settings = json.loads(row.get("chat_template_kwargs") or "{}")
    answers = [row[side] for side in ("chosen", "rejected", "completion") if row.get(side)]
    try:
        prompt = render(Conversation(messages, tools, settings), True)
        return not all(
            render(Conversation([*messages, *answer], tools, settings), False).startswith(prompt)
            for answer in answers
        )
    except Exception:  # a template may raise any exception; the trainer reports it
        return False
