"""Where a score stands in an answer, and the log-probabilities of its labels there.

A label may have several tokens, with and without a space before it; they count as one.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

_SPACES = "Ġ▁ "
"""What stands for a space before a word in the vocabularies of byte-level BPE and SentencePiece."""


def label_tokens(
    vocabulary: Mapping[str, int], encode: Callable[[str], Sequence[str]], labels: Iterable[str]
) -> dict[str, list[int]]:
    """The token ids that are a label each; none where the tokenizer writes it as several tokens.

    `encode` gives the tokens of a text, as the vocabulary spells them.
    """
    found: dict[str, list[int]] = {}
    for label in labels:
        written = [token for token in encode(label) if token.strip(_SPACES)]
        spelled = (space + label for space in ("", *_SPACES))
        found[label] = (
            [vocabulary[token] for token in spelled if token in vocabulary]
            if len(written) == 1
            else []
        )
    return found


def score_start(text: str, score_at: str, reasoning: tuple[str, str] | None) -> int | None:
    """Where the score begins in an answer; a number in the reasoning before it, which ends with the
    last of the tags, is none. None where there is no score."""
    bare = text.partition(reasoning[1])[2].lstrip() if reasoning and reasoning[1] in text else text
    match = re.search(score_at, bare)
    return None if match is None else len(text) - len(bare) + match.start(1)


def score_token(
    answer: Sequence[int],
    decode: Callable[[Sequence[int]], str],
    score_at: str,
    reasoning: tuple[str, str] | None = None,
) -> int | None:
    """The place of the answer's token with which its score begins; None where there is no score."""
    start = score_start(decode(answer), score_at, reasoning)
    if start is None:
        return None
    low, high = 0, len(answer) - 1
    while low < high:  # the text of more tokens is never shorter
        middle = (low + high) // 2
        if len(decode(answer[: middle + 1])) > start:
            high = middle
        else:
            low = middle + 1
    return low


def by_label(
    logprobs: Mapping[int, float], tokens: Mapping[str, Sequence[int]]
) -> list[dict[str, Any]]:
    """The log-probability of each label: of all its tokens together. A label of which no token
    was seen has none and is left out."""
    rows = []
    for label, ids in tokens.items():
        seen = [logprobs[token] for token in ids if token in logprobs]
        if seen:
            best = max(seen)
            total = best + math.log(sum(math.exp(logprob - best) for logprob in seen))
            rows.append({"label": label, "logprob": total})
    return rows
