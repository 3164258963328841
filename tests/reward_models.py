"""Small reward models for the tests, with the quickstart's tokenizer."""

import json
import shutil

import torch
from toys import QUICKSTART
from transformers import LlamaConfig, LlamaForSequenceClassification, set_seed

from factory.models import Checkpoint

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def reward_config(**fields):
    quickstart = json.loads((QUICKSTART / "m0" / "config.json").read_text())
    return LlamaConfig(**{**quickstart, "num_hidden_layers": 2, "num_labels": 1, **fields})


def make_reward_model(folder, kind=LlamaForSequenceClassification, dtype="float32", **fields):
    set_seed(3)
    model = kind(reward_config(**fields)).to(getattr(torch, dtype))
    with torch.no_grad():
        if kind is LlamaForSequenceClassification:
            model.score.weight.mul_(20)  # scores differ by much more than rounding errors
    model.save_pretrained(folder)
    for name in TOKENIZER:
        shutil.copy(QUICKSTART / "m0" / name, folder / name)
    return Checkpoint("judge", folder, "digest", dtype)
