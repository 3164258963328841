"""Pure functions that build engine requests from table rows, and table rows from results."""

from factory.stages.judging import (
    JUDGE_REMEDY,
    Verdict,
    check_value,
    expected_score,
    parse_preference,
    parse_score,
    render_rubric,
    transcript,
)
from factory.stages.prompts.files import PromptFiles, list_problems
from factory.stages.prompts.lines import PROMPTS_VERSION, Limit, Problem, read_prompts
from factory.stages.reasoning import CUT_OFF, NEVER_ENDED, split_reasoning
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
    "JUDGE_REMEDY",
    "LORA",
    "NEVER_ENDED",
    "PROMPTS_VERSION",
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
    "list_problems",
    "load_rubric",
    "parse_preference",
    "parse_score",
    "possible_files",
    "read_prompts",
    "render_rubric",
    "reserved_fields",
    "shipped_rubrics",
    "split_reasoning",
    "training_fields",
    "training_settings",
    "transcript",
]
