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
from factory.stages.training import (
    FILE_FIELDS,
    LORA,
    TRAINING_VERSION,
    adapter_fields,
    command_words,
    possible_files,
    reserved_fields,
    training_fields,
    training_settings,
)

__all__ = [
    "CUT_OFF",
    "FILE_FIELDS",
    "LORA",
    "NEVER_ENDED",
    "TRAINING_VERSION",
    "Limit",
    "Problem",
    "PromptFiles",
    "Rubric",
    "Verdict",
    "adapter_fields",
    "check_value",
    "command_words",
    "expected_score",
    "load_rubric",
    "parse",
    "possible_files",
    "preference",
    "problem_list",
    "read",
    "render",
    "reserved_fields",
    "shipped_rubrics",
    "thought",
    "training_fields",
    "training_settings",
    "transcript",
]
