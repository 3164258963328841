"""Follow-up requests to vLLM for the labels of a score that have several tokens.

A follow-up request consists of the prompt, the judgment before the score, and the beginning of a
label. vLLM returns the log-probabilities of the label's next token.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from factory.engines.labels import FoundScore, Tokens
from factory.engines.protocol import Result


@dataclass
class Judgment:
    """A finished judgment whose score needs follow-up requests."""

    result: Result
    score: FoundScore
    pending: int
    """Number of unfinished follow-up requests."""
    fault: str | None = None
    """Finish reason of a failed follow-up request."""


@dataclass(frozen=True)
class FollowUp:
    """A request for the log-probabilities of the tokens after the beginning of a label."""

    judgment: Judgment
    beginning: Tokens


def read_logprobs(place: Any) -> dict[int, float]:
    """Return the log-probabilities of the tokens at one position of vLLM's output."""
    return {token: seen.logprob for token, seen in place.items()}


def stopped(request_id: str, draw: int, reason: str) -> Result:
    error = f"vLLM stopped the answer with finish reason {reason}"
    return Result(request_id, draw, error=error, error_kind="transient")


def follow_up_sampling(tokens: list[int]) -> Any:
    """Return sampling parameters that request the log-probabilities of possible next tokens."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        temperature=0,
        max_tokens=1,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        logprob_token_ids=tokens,
        flat_logprobs=True,
    )


def finish(follow_up: FollowUp, part: Any) -> Iterator[Result]:
    """Store the answer to a follow-up request, and yield the judgment if it was the last one."""
    judgment = follow_up.judgment
    if part.finish_reason == "length":
        judgment.score.after[follow_up.beginning] = read_logprobs(part.logprobs[0])
    else:
        judgment.fault = part.finish_reason
    judgment.pending -= 1
    if judgment.pending:
        return
    result = judgment.result
    if judgment.fault is None:
        yield replace(result, score_logprobs=judgment.score.logprobs)
    else:
        yield stopped(result.request_id, result.draw, judgment.fault)
