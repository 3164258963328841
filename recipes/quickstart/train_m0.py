"""Create the quickstart's prompts, probe prompts, and base model M_0.

M_0 is trained from scratch on two kinds of demonstrations, as in Self-Rewarding LMs (arXiv
2401.10020). The first kind are answers (IFT); some contain errors, so that M_0 writes answers of
mixed quality. The second kind are judgments (EFT): the judge prompt with the correct score. SEED
determines the contents of all files, except for floating-point differences in the weights.

    python train_m0.py                  prompts.jsonl, probe.jsonl, and m0/ (10 minutes on one core)
    python train_m0.py --prompts-only   only prompts.jsonl and probe.jsonl
"""

import json
import shutil
import sys
from collections.abc import Iterator
from itertools import islice, zip_longest
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from gold import points
from world import TASKS, Item, draw, spoil

HERE = Path(__file__).parent
RUBRIC = (HERE / "rubric.md").read_text().split("---\n", 2)[2].strip()
SEED = 20
PROMPTS, SPARE, PROBE = 300, 260, 150
"""Numbers of strings in prompts.jsonl, in reserve for more prompts, and in probe.jsonl."""
BATCH = 32
IFT_BATCHES, EFT_BATCHES = 1200, 1100
"""Numbers of batches with answers and with judgments. Training starts with half of the answers; the
other half is mixed with the judgments."""
CLEAN = 0.55
"""Share of demonstrated answers without errors, which determines how good M_0 is."""

Message = dict[str, str]
Row = dict[str, list[Message]]


def judge_prompt(prompt: str, answer: str) -> str:
    """Return the judge prompt that the factory renders from the rubric for an answer."""
    return RUBRIC.replace("{prompt}", prompt).replace("{answer}", answer).strip()


def verdict(answer: str, reference: str) -> str:
    """Return the judgment that the model should learn to write about an answer.

    It contains the correct letter, the given letter, and + or - for each position, then the score.
    """
    places = zip_longest(reference.removesuffix("."), answer.removesuffix("."), fillvalue="_")
    compared = "".join(f"{want}{got}{'+' if want == got else '-'}" for want, got in places)
    return f"{compared} Score: {points(answer, reference)}"


def turn(prompt: str, completion: str) -> Row:
    """Return one training example in TRL's format. Only the completion contributes to the loss."""
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": completion}],
    }


def demonstrations(rng: Random, taken: set[str]) -> Iterator[tuple[Row, Row]]:
    """Yield an endless series of answers and judgments to train on.

    Tasks with a string in `taken` are skipped.
    """
    while True:
        item, judged = draw(rng), draw(rng)
        if item.letters in taken or judged.letters in taken:
            continue
        slips = 0 if rng.random() < CLEAN else rng.choice([1, 1, 2, 3])
        answer = spoil(rng, judged.reference, rng.choice([0, 0, 1, 1, 1, 2, 2, 3, 4, 6]))
        yield (
            turn(item.prompt, spoil(rng, item.reference, slips)),
            turn(judge_prompt(judged.prompt, answer), verdict(answer, judged.reference)),
        )


def curriculum(rng: Random, taken: set[str]) -> list[Row]:
    """Return the training examples in order: first answers, then answers mixed with judgments.

    Each batch contains only one kind, so that short answers are not padded to the length of
    judgments.
    """
    pairs = list(islice(demonstrations(rng, taken), BATCH * max(IFT_BATCHES, EFT_BATCHES)))
    ift = [[pair[0] for pair in pairs[i * BATCH :][:BATCH]] for i in range(IFT_BATCHES)]
    eft = [[pair[1] for pair in pairs[i * BATCH :][:BATCH]] for i in range(EFT_BATCHES)]
    first = ift[: IFT_BATCHES // 2]
    mixed = ift[IFT_BATCHES // 2 :] + eft
    rng.shuffle(mixed)
    return [row for batch in first + mixed for row in batch]


def untrained(folder: Path) -> None:
    """Save a randomly initialized model, its tokenizer, and its chat template to a folder."""
    import torch
    from tokenizer import MAX_LENGTH, build
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    fixed = [RUBRIC, " Score:", *(Item(task, "").prompt for task in TASKS)]
    tokenizer = build("\n".join(fixed))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train(rows: list[Row]) -> None:
    """Train M_0 on the examples in the given order, and save the model to m0/."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from factory.train import Job, run_job

    fields = {
        "per_device_train_batch_size": BATCH,
        "num_train_epochs": 1,
        "learning_rate": 2e-3,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 100,
        "adam_beta2": 0.99,
        "train_sampling_strategy": "sequential",
        "gradient_checkpointing": False,
        "logging_steps": 50,
        "seed": SEED,
    }
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        untrained(folder / "untrained")
        pq.write_table(pa.Table.from_pylist(rows), folder / "data.parquet")
        parent = str(folder / "untrained")
        run_job(Job("sft", parent, "float32", fields, checkpoint_seconds=600), folder)
        shutil.copytree(folder / "model", HERE / "m0", dirs_exist_ok=True)


def write_prompts(rng: Random) -> set[str]:
    """Write prompts.jsonl and probe.jsonl, and return the strings that training must not use.

    These are the strings in both files and the strings in reserve. No string occurs in both files.
    """
    items: dict[str, Item] = {}
    while len(items) < PROMPTS + SPARE + PROBE:
        item = draw(rng)
        items.setdefault(item.letters, item)
    lines = [
        json.dumps({"prompt": i.prompt, "reference": i.reference, "meta": {"task": i.task}}) + "\n"
        for i in items.values()
    ]
    (HERE / "prompts.jsonl").write_text("".join(lines[:PROMPTS]))
    (HERE / "probe.jsonl").write_text("".join(lines[-PROBE:]))
    return set(items)


def main() -> None:
    """Write the prompts, then train M_0 unless `--prompts-only` is given.

    The training uses none of the strings in the prompts.
    """
    rng = Random(SEED)
    taken = write_prompts(rng)
    if "--prompts-only" not in sys.argv:
        train(curriculum(rng, taken))


if __name__ == "__main__":
    main()
