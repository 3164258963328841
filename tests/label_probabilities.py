"""Requests for scores, and the probabilities of their labels from separate forward passes."""

import math
import re
import shutil

import torch
from toys import QUICKSTART
from transformers import AutoModelForCausalLM, AutoTokenizer, PhiConfig, set_seed

from factory.engines import Request
from factory.engines.labels import NEGLIGIBLE
from factory.models import Checkpoint
from factory.recipe import Generation

SCALES = {
    "1 to 5": [str(n) for n in range(1, 6)],
    "1 to 10": [str(n) for n in range(1, 11)],
    "0 to 100": [str(n) for n in range(101)],
    "-1 to 1": ["-1", "0", "1"],
    "with halves": ["1", "1.5", "2", "2.5", "3"],
    "words": ["bad", "fair", "good", "goodish", "excellent"],
    "phrases": ["very good", "very bad", "bad"],
}


def random_model(folder):
    """Create a model with random weights and the quickstart's tokenizer, whose tokens are single
    characters. Every token is possible, but most are characters of the labels."""
    set_seed(5)
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = AutoModelForCausalLM.from_config(
        PhiConfig(vocab_size=138, intermediate_size=128, max_position_embeddings=256, **shape)
    )
    vocabulary = AutoTokenizer.from_pretrained(QUICKSTART / "m0").get_vocab()
    letters = sorted({letter for labels in SCALES.values() for letter in "".join(labels)})
    with torch.no_grad():
        model.lm_head.weight.mul_(8)
        model.lm_head.bias[[vocabulary[letter] for letter in letters]] = 4.0
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(QUICKSTART / "m0" / name, folder / name)
    return Checkpoint("M_0", folder, "digest", "float32")


def _judging(labels, score_at, model, name, draws, **fields):
    generation = Generation(temperature=1.0, top_p=1.0, max_tokens=24)
    messages = [{"role": "user", "content": f"Rate {name}."}]
    return Request(
        name,
        messages,
        tuple(draws),
        7,
        generation,
        model,
        labels=tuple(labels),
        score_at=score_at,
        **fields,
    )


def constrained(labels, model, name="j", draws=range(4)):
    """Return a request for judgments that are labels."""
    return _judging(labels, r"\A(.+)\Z", model, name, draws, choices=tuple(labels))


def free(labels, model, name="j", draws=range(12)):
    """Return a request for judgments of any text. The score starts at the first character with
    which a label can start."""
    starts = "".join(map(re.escape, sorted({label[0] for label in labels})))
    return _judging(labels, f"([{starts}])", model, name, draws)


class Reference:
    """The probabilities of texts after a prompt, each from a forward pass over all tokens."""

    def __init__(self, checkpoint):
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint.path)
        self.model = AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=torch.float32)

    def prompt(self, request):
        encoded = self.tokenizer.apply_chat_template(
            list(request.messages), add_generation_prompt=True, return_dict=True
        )
        return encoded["input_ids"]

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False)

    def before_score(self, request, text):
        return text[: re.search(request.score_at, text).start(1)]

    @torch.inference_mode()
    def probability(self, before, tokens):
        """Return the probability of tokens after a text."""
        logits = self.model(torch.tensor([[*before, *tokens]])).logits[0].float()
        logprobs = torch.log_softmax(logits[len(before) - 1 : -1], dim=-1)
        return math.exp(logprobs[range(len(tokens)), tokens].sum())

    def labels(self, before, labels, *, constrained=False):
        """Return the probability of each label. Each label must have a single spelling.

        With `constrained`, the probabilities sum to 1.
        """
        tokens = {label: self.encode(label) for label in labels}
        reached = {label: self.probability(before, tokens[label]) for label in labels}

        def passed(label):
            """Return the probability that the text goes on to a longer label."""
            longer = {one for one in labels if one.startswith(label)} - {label}
            after = {one for one in longer for other in longer - {one} if one.startswith(other)}
            return sum(reached[one] for one in longer - after)

        found = {label: reached[label] - passed(label) for label in labels}
        total = sum(found.values()) if constrained else 1
        return {
            label: Expected(share / total, self.probability(before, tokens[label][:1]))
            for label, share in found.items()
        }


class Expected(float):
    """The probability of a label. It is exact unless the label's first token is improbable."""

    def __new__(cls, probability, start):
        made = super().__new__(cls, probability)
        made.exact = start > NEGLIGIBLE
        return made

    def agrees(self, found):
        """Return whether a probability from an engine is equal, except for rounding errors."""
        return math.isclose(found, self, rel_tol=2e-3, abs_tol=1e-9 if self.exact else NEGLIGIBLE)
