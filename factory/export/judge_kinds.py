"""The kinds of judges, and the words for each kind in cards and metadata."""

from typing import Literal

from factory.recipe import Judge

JudgeKind = Literal[
    "function", "reward model", "fixed model", "the previous model", "the current model"
]

JUDGE_NOUNS: dict[JudgeKind, str] = {
    "function": "a Python function",
    "reward model": "a reward model",
    "fixed model": "a fixed judge model",
    "the previous model": "the previous model of the loop",
    "the current model": "the current model of the loop",
}
"""The judge as the subject or object of a sentence."""


def judge_kind(judge: Judge) -> JudgeKind:
    """Return who scores the answers."""
    if judge.function:
        return "function"
    if judge.reward_model:
        return "reward model"
    if judge.has_model:
        return "fixed model"
    return "the previous model" if judge.by == "previous" else "the current model"
