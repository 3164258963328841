"""Invariants of every finished lake of the campaign, checked in a fork after the run."""

import json
import os
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

TEXTS = """
    select pair_id, c.text as chosen, r.text as rejected, score_chosen, score_rejected
    from pairs join samples c on c.sample_id = chosen_id join samples r on r.sample_id = rejected_id
    where outcome = 'kept'
"""


@contextmanager
def record_answers():
    """Record what the scripted engine answers by default."""
    from factory.engines import scripted

    words = scripted.words
    path = Path(os.environ["CAMPAIGN_GENERATED"])

    def recorded(messages, seed):
        text = words(messages, seed)
        with path.open("a") as file:
            file.write(json.dumps(text) + "\n")
        return text

    scripted.words = recorded
    yield


def check_lake(recipe: str, lake: str, generated: str, prompts: str) -> None:
    """Print the wrong rows of a finished lake, and exit with code 1 if there are any."""
    import factory

    opened = factory.open(recipe, lake)
    views = opened.views()
    wrong = [*_counts(opened), *_pairs(views), *_prompts(opened, views, json.loads(prompts))]
    if generated and Path(generated).exists() and not opened.recipe.judges:
        wrong += _answers(opened, views, Path(generated))
    print("\n".join(wrong))
    sys.exit(bool(wrong))


def _counts(opened):
    for row in opened.status().rows:
        parts = [row.get(name) or 0 for name in ("answered", "failed", "filtered")]
        if row.get("wanted") is not None and row["wanted"] != sum(parts):
            yield f"{row}: wanted {row['wanted']}, but found {parts}"


def _pairs(views):
    for row in views.all(TEXTS):
        if row["chosen"] == row["rejected"] or not row["chosen"]:
            yield f"a pair with the texts {row['chosen']!r} and {row['rejected']!r}"
        if row["score_rejected"] is None or row["score_chosen"] is None:
            yield f"a pair without a score: {row}"
        elif not row["score_chosen"] >= row["score_rejected"]:
            yield f"a pair whose rejected answer is better: {row}"


def _prompts(opened, views, files):
    """Every stored prompt is a line of the files, with the line's own columns."""
    spec = opened.recipe.prompts
    lines = []
    for name in files:
        for line in opened.recipe.resolve(name).read_bytes().splitlines():
            try:
                parsed = json.loads(line.decode("utf-8-sig"))
            except ValueError:
                continue
            if isinstance(parsed, dict):
                lines.append(parsed)
    known = Counter()
    for line in lines:
        messages = line.get("messages") or [{"content": line.get("prompt")}]
        if isinstance(messages, list) and isinstance(messages[-1], dict):
            known[
                (
                    messages[-1].get("content"),
                    line.get("reference"),
                    line.get("source") or spec.source,
                    line.get("license") or spec.license,
                )
            ] += 1
    for row in views.all("select messages, reference, source, license from prompts"):
        key = (row["messages"][-1]["content"], row["reference"], row["source"], row["license"])
        if key not in known:
            yield f"a prompt that is not in the files: {key!r}"


def _answers(opened, views, generated):
    texts = Counter(map(json.loads, generated.read_text().splitlines()))
    samples = [row["text"] for row in views.all("select text from samples")]
    judgments = []
    if opened.recipe.judge.has_rubric:
        judgments = [row["text"] for row in views.all("select text from judgments")]
    if opened.recipe.sampling.reasoning or opened.recipe.judge.reasoning:
        return
    found = Counter(text for text in [*samples, *judgments] if text is not None)
    for text in found - texts:
        yield f"a stored text that was not generated so often: {text!r}"
