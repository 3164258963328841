"""Locate the score in a judgment, and compute the log-probability of each possible score.

A possible score is called a label. A label can match several tokens, with and without a space
before it. Their probabilities are added.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

_SPACES = "Ġ▁ "
"""Characters that represent a space before a word: in byte-level BPE, in SentencePiece, and in
plain text."""


def label_tokens(
    vocabulary: Mapping[str, int], encode: Callable[[str], Sequence[str]], labels: Iterable[str]
) -> dict[str, list[int]]:
    """Return a dict that maps each score label to the IDs of the tokens that spell the label alone.

    A token may start with a space. The list is empty for a label that the tokenizer splits into
    several tokens. `encode` returns the tokens of a text as they are spelled in the vocabulary.
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
    """Return the character index at which the score starts, or None if there is no score.

    `score_at` is a regular expression whose only group matches the score. Skip the reasoning, which
    ends with the second of the tags in `reasoning`.
    """
    bare = text.partition(reasoning[1])[2].lstrip() if reasoning and reasoning[1] in text else text
    match = re.search(score_at, bare)
    return None if match is None else len(text) - len(bare) + match.start(1)


def score_token(
    answer: Sequence[int],
    decode: Callable[[Sequence[int]], str],
    score_at: str,
    reasoning: tuple[str, str] | None = None,
) -> int | None:
    """Return the token index at which the score starts, or None if there is no score."""
    start = score_start(decode(answer), score_at, reasoning)
    if start is None:
        return None
    low, high = 0, len(answer) - 1
    while low < high:  # binary search: more tokens never decode to a shorter text
        middle = (low + high) // 2
        if len(decode(answer[: middle + 1])) > start:
            high = middle
        else:
            low = middle + 1
    return low


def by_label(
    logprobs: Mapping[int, float], tokens: Mapping[str, Sequence[int]]
) -> list[dict[str, Any]]:
    """Return each label's log-probability: the log of the summed probabilities of its tokens.

    `logprobs` maps token ids to log-probabilities. Omit labels without any token in `logprobs`.
    """
    rows = []
    for label, ids in tokens.items():
        seen = [logprobs[token] for token in ids if token in logprobs]
        if seen:
            best = max(seen)
            total = best + math.log(sum(math.exp(logprob - best) for logprob in seen))
            rows.append({"label": label, "logprob": total})
    return rows
