"""Phrases that describe the kind of a judge in dataset cards and metadata."""

from typing import Literal

from factory.recipe import Judge, Loop

JudgeKind = Literal[
    "function",
    "reward model",
    "fixed model",
    "the model itself",
    "the previous model",
    "the current model",
]

JUDGE_NOUNS: dict[JudgeKind, str] = {
    "function": "a Python function",
    "reward model": "a reward model",
    "fixed model": "a fixed judge model",
    "the model itself": "the model itself",
    "the previous model": "the previous model of the loop",
    "the current model": "the current model of the loop",
}
"""A noun phrase for each kind of judge, for use in sentences."""


def judge_kind(judge: Judge, loop: Loop) -> JudgeKind:
    """Return the kind of a judge as a phrase, such as `fixed model`.

    If the loop trains no models, a judge without its own model is `the model itself`, M_0.
    """
    if judge.function:
        return "function"
    if judge.reward_model:
        return "reward model"
    if judge.has_model:
        return "fixed model"
    if not loop.trains_models:
        return "the model itself"
    return "the previous model" if judge.by == "previous" else "the current model"
