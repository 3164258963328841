"""Answers of models that think aloud: what they thought, and the answer."""

import dataclasses

from factory.engines import Result

NEVER_ENDED = "its reasoning never ended"
CUT_OFF = "max_tokens cut it off before its answer: raise it"


def split_reasoning(result: Result, tags: tuple[str, str] | None) -> Result:
    """A result with its reasoning apart from its answer.

    Between the first and the last of the tags is reasoning. Chat templates may open it themselves,
    so the first tag may be missing. What was cut off before the last one is a failure, and no
    answer; so is an answer of a server that gives reasoning in a field of its own and was cut off
    before the answer. Without a tag, a text that ended by itself is an answer.
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
