"""Locate the score in a judgment, and compute the log-probability of each possible score.

A possible score is called a label. A tokenizer can spell a label in several ways, for example with
and without a space before it, and with one or several tokens. The probability of a label is the sum
over its spellings.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any

from factory.engines.protocol import Request

Tokens = tuple[int, ...]
"""Token IDs of a spelling, or of the beginning of a spelling."""

NEGLIGIBLE = 1e-4
"""If the first token of a label is less probable than this, the engines do not compute the
probabilities of its next tokens. A label's error is less than this value per first token."""

_SPACES = "Ġ▁ "
"""Characters that represent a space before a word: in byte-level BPE, in SentencePiece, and in
plain text."""


class LabelTree:
    """The spellings of a score's labels, and the log-probability of each label.

    A judgment's score is the longest label that the text at its position begins with. The
    probability of a label is therefore the probability of its tokens, minus the probability of the
    longer labels that begin with the same tokens. For example, if the labels are 1 and 10, and the
    tokenizer splits 10 into 1 and 0:

        P(10) = P('1') · P('0' | '1')
        P(1)  = P('1') · (1 − P('0' | '1'))

    Any token except 0 ends the label 1, not only a stop token: a judge may continue with a line
    break, a period, or "/10".
    """

    def __init__(self, spellings: Mapping[str, Sequence[Tokens]]) -> None:
        """Build the tree from the token sequences that spell each label."""
        self.spellings = spellings
        every = {spelling for found in spellings.values() for spelling in found}
        self._longer: dict[Tokens, list[Tokens]] = defaultdict(list)
        """Map a spelling to the next longer spellings that begin with it."""
        self._next: dict[Tokens, list[int]] = {(): []}
        for spelling in sorted(every):
            beginnings = [spelling[:length] for length in range(len(spelling))]
            for beginning, token in zip(beginnings, spelling, strict=True):
                following = self._next.setdefault(beginning, [])
                if token not in following:
                    following.append(token)
            if shorter := [beginning for beginning in beginnings if beginning in every]:
                self._longer[shorter[-1]].append(spelling)
        self.longest = max(map(len, every), default=0)
        """Number of tokens of the longest spelling."""

    @property
    def most_next_tokens(self) -> int:
        """Largest number of tokens whose log-probabilities are needed at one position."""
        return max(map(len, self._next.values()))

    def next_tokens(self, beginning: Tokens = ()) -> list[int]:
        """Return the tokens that can continue the beginning of a spelling, in a fixed order."""
        return self._next[beginning]

    def open_beginnings(self, first: Mapping[int, float]) -> list[Tokens]:
        """Return the beginnings of spellings after which the log-probabilities are needed.

        `first` maps the first tokens of the labels to their log-probabilities. The list is empty if
        every label is a single token. Omit beginnings whose first token has a probability below
        NEGLIGIBLE.
        """
        return [
            beginning
            for beginning in self._next
            if beginning and math.exp(first.get(beginning[0], -math.inf)) >= NEGLIGIBLE
        ]

    def logprobs(self, after: Mapping[Tokens, Mapping[int, float]]) -> list[dict[str, Any]]:
        """Return the log-probability of each label as a list of {label, logprob}.

        `after` maps the beginnings of spellings to the log-probabilities of the next tokens. The
        beginning `()` is required. Omit labels whose probability is 0.
        """
        rows = []
        for label, spellings in self.spellings.items():
            longer = [more for spelling in spellings for more in self._longer.get(spelling, ())]
            reached, passed = (
                [_logprob(one, after) for one in kind] for kind in (spellings, longer)
            )
            best = max(reached, default=-math.inf)
            if best == -math.inf:
                continue
            total = sum(math.exp(logprob - best) for logprob in reached)
            total -= sum(math.exp(logprob - best) for logprob in passed)
            if total > 0:
                rows.append({"label": label, "logprob": best + math.log(total)})
        return rows


def _logprob(spelling: Tokens, after: Mapping[Tokens, Mapping[int, float]]) -> float:
    """Return the log-probability of all tokens of a spelling, or -inf if one of them is unknown."""
    return sum(
        after.get(spelling[:place], {}).get(token, -math.inf)
        for place, token in enumerate(spelling)
    )


def label_tree(
    vocabulary: Mapping[str, int], encode: Callable[[str], Sequence[str]], labels: Iterable[str]
) -> LabelTree:
    """Return the tree of the tokens that spell each label.

    `encode` returns the tokens of a text as they are spelled in the vocabulary.
    """
    return LabelTree({label: _spellings(vocabulary, encode, label) for label in labels})


def _spellings(
    vocabulary: Mapping[str, int], encode: Callable[[str], Sequence[str]], label: str
) -> list[Tokens]:
    """Return the token sequences that spell a label, with and without a space before it.

    If the label is a single token, longer spellings are omitted.
    """

    def written(text: str) -> list[str]:
        """Return the tokens of a text without the leading tokens that are only spaces."""
        return list(dropwhile(lambda token: not token.strip(_SPACES), encode(text)))

    alone = written(label)
    if len(alone) == 1:
        spelled = (space + label for space in ("", *_SPACES))
        return [(vocabulary[token],) for token in spelled if token in vocabulary]
    found: dict[Tokens, None] = {}
    for first, *rest in filter(None, (alone, written(f" {label}"))):
        for start in (first, first.lstrip(_SPACES)):
            if start in vocabulary:
                found[tuple(vocabulary[token] for token in (start, *rest))] = None
    return list(found)


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


@dataclass
class FoundScore:
    """The score of a judgment, and the log-probabilities of the tokens that can spell it."""

    tree: LabelTree
    before: list[int]
    """Tokens of the judgment before the score."""
    after: dict[Tokens, Mapping[int, float]]
    """Log-probabilities of the next tokens, by the beginnings of spellings that the engine has
    evaluated. The empty beginning stands for the position of the score."""
    constrained: bool
    """Whether the judge may write nothing but labels."""

    @property
    def missing(self) -> list[Tokens]:
        """The beginnings of spellings that the engine must evaluate for the probabilities."""
        return self.tree.open_beginnings(self.after[()])

    @property
    def logprobs(self) -> list[dict[str, Any]]:
        """The log-probability of each label, as a list of {label, logprob}. The probabilities of a
        constrained judge's labels sum to 1."""
        rows = self.tree.logprobs(self.after)
        if not self.constrained or not rows:
            return rows
        best = max(row["logprob"] for row in rows)
        total = best + math.log(sum(math.exp(row["logprob"] - best) for row in rows))
        return [{**row, "logprob": row["logprob"] - total} for row in rows]


def find_score(
    tree: LabelTree,
    request: Request,
    answer: Sequence[int],
    decode: Callable[[Sequence[int]], str],
    logprobs: Callable[[int], Mapping[int, float]],
) -> FoundScore | None:
    """Return the score in a judgment, or None if there is none or if it is not a label.

    `answer` contains the judgment's tokens. `logprobs(index)` returns the log-probabilities of the
    labels' first tokens at the position `index`.
    """
    constrained = bool(request.choices)
    place = score_token(answer, decode, request.score_at, request.generation.reasoning)
    # A constrained judge can write a label with unusual tokens, such as b and ad for "bad".
    if place is None or not (constrained or answer[place] in tree.next_tokens()):
        return None
    return FoundScore(tree, list(answer[:place]), {(): logprobs(place)}, constrained)
