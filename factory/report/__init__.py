"""Reports on a run: its results and usage, the history of a pair, and comparisons of pairs."""

from factory.report.cells import format_cell
from factory.report.diff import (
    NO_CANDIDATES,
    PAIR_COLUMNS,
    QUERIES,
    Diff,
    compare_pairs,
    pair_set,
    script,
)
from factory.report.picture import draw_picture
from factory.report.summary import (
    gaps,
    generation_lines,
    iterations,
    outcomes,
    plan_rows,
    plan_totals,
    preview_rows,
    step_rows,
    work_rows,
)
from factory.report.trace import SIDES, Trace, trace_dataset, trace_lake
from factory.report.usage import Usage, estimates, usage_by_stage, usage_of_step

__all__ = [
    "NO_CANDIDATES",
    "PAIR_COLUMNS",
    "QUERIES",
    "SIDES",
    "Diff",
    "Trace",
    "Usage",
    "compare_pairs",
    "draw_picture",
    "estimates",
    "format_cell",
    "gaps",
    "generation_lines",
    "iterations",
    "outcomes",
    "pair_set",
    "plan_rows",
    "plan_totals",
    "preview_rows",
    "script",
    "step_rows",
    "trace_dataset",
    "trace_lake",
    "usage_by_stage",
    "usage_of_step",
    "work_rows",
]
