"""Pure functions between table rows and engine requests, one module per stage."""

from factory.stages.judging import (
    Verdict,
    check_value,
    expected_score,
    parse,
    preference,
    render,
    transcript,
)
from factory.stages.prompts.files import PromptFiles, problem_list
from factory.stages.prompts.lines import Limit, Problem, read
from factory.stages.reasoning import CUT_OFF, NEVER_ENDED, thought
from factory.stages.rubric import Rubric, load_rubric, shipped_rubrics
from factory.stages.training import LORA, adapter_fields, effective, settings

__all__ = [
    "CUT_OFF",
    "LORA",
    "NEVER_ENDED",
    "Limit",
    "Problem",
    "PromptFiles",
    "Rubric",
    "Verdict",
    "adapter_fields",
    "check_value",
    "effective",
    "expected_score",
    "load_rubric",
    "parse",
    "preference",
    "problem_list",
    "read",
    "render",
    "settings",
    "shipped_rubrics",
    "thought",
    "transcript",
]
