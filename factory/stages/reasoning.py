"""Separate the reasoning of a model from its answer."""

import dataclasses

from factory.engines import Result

NEVER_ENDED = "its reasoning never ended"
CUT_OFF = "max_tokens cut it off before its answer: raise it"


def split_reasoning(result: Result, tags: tuple[str, str] | None) -> Result:
    """Return a result with its reasoning separate from its answer.

    Reasoning is between the first and the last of the tags. A chat template may write the first one
    itself, so it may be missing. A text that was truncated before the last tag is a failure, and so
    is a result whose server returned reasoning separately and was cut off before the answer. A text
    without tags that ended by itself is an answer.
    """
    if result.error is not None or result.text is None:
        return result
    reasoning, text = result.reasoning, result.text
    never_ended = False
    if tags is not None and reasoning is None:
        before, ended, after = text.partition(tags[1])
        opened = before.lstrip().startswith(tags[0])
        if ended:
            reasoning, text = before.lstrip().removeprefix(tags[0]).strip(), after.lstrip()
        elif never_ended := opened or result.finish_reason == "length":
            reasoning, text = text.lstrip().removeprefix(tags[0]).strip(), ""
    cut_off = bool(reasoning) and not text.strip() and result.finish_reason == "length"
    if never_ended or cut_off:
        error = CUT_OFF if cut_off else NEVER_ENDED
        return dataclasses.replace(
            result, text=None, reasoning=reasoning, error=error, error_kind="permanent"
        )
    return dataclasses.replace(result, text=text, reasoning=reasoning)
