"""Separate a model's reasoning from its answer."""

import dataclasses

from factory.engines import Result

NEVER_ENDED = "its reasoning never ended"
CUT_OFF = "max_tokens cut it off before its answer: raise it"


def split_reasoning(result: Result, tags: tuple[str, str] | None) -> Result:
    """Return an engine's result with the reasoning separated from the answer.

    The reasoning is the text between the opening and the closing tag. The opening tag may be
    missing, since some chat templates write it as part of the prompt. A result fails if it was
    truncated before the closing tag, or if a server returned the reasoning separately and the
    result was truncated before the answer. A complete text without tags is an answer.
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
