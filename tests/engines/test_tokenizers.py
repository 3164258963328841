"""Tests that decoded answers keep their reasoning tags, and lose all other special tokens."""

import pytest

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

from factory.engines.tokenizers import AnswerDecoder  # noqa: E402

TAGS = ("<think>", "</think>")


def tokenizer(*, special):
    """Return a byte-level tokenizer whose tags are special tokens, or plain added tokens."""
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    model = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    model.add_special_tokens(["<end>", "<turn>"])
    add = model.add_special_tokens if special else model.add_tokens
    add(list(TAGS))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<end>")


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(
    ("text", "tags", "expected"),
    [
        ("<think>Hm, ü.</think>\n\nFour.<end>", TAGS, "<think>Hm, ü.</think>\n\nFour."),
        ("<turn>Hm.</think> a <turn>b<end>", TAGS, "Hm.</think> a b"),
        ("Four.<end>", TAGS, "Four."),
        ("Four.<end>", None, "Four."),
        ("", TAGS, ""),
    ],
)
def test_only_tags_survive(special, text, tags, expected):
    tokens = tokenizer(special=special)
    answer = tokens.encode(text, add_special_tokens=False)
    assert AnswerDecoder(tokens)(answer, tags) == expected


def test_tags_that_are_not_wanted_are_dropped_as_before():
    tokens = tokenizer(special=True)
    answer = tokens.encode("<think>Hm.</think>Four.<end>", add_special_tokens=False)
    assert AnswerDecoder(tokens)(answer, None) == "Hm.Four."
    assert AnswerDecoder(tokens)(answer, ("<other>", "</other>")) == "Hm.Four."
    assert AnswerDecoder(tokens)(answer, ("<other>", "</think>")) == "Hm.</think>Four."
