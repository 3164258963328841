"""Reports on a run: its results and usage, the history of a pair, and comparisons of pairs."""

from factory.report.cells import format_cell
from factory.report.diff import (
    NO_CANDIDATES,
    PAIR_COLUMNS,
    QUERIES,
    Diff,
    PairSet,
    compare_pairs,
    pair_set,
    script,
)
from factory.report.display import (
    GAPS_TITLE,
    PROBE_TITLE,
    WORK_TITLE,
    describe_totals,
    gaps_table,
    plan_table,
    status_table,
    work_table,
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
from factory.report.tables import (
    Rows,
    format_splits,
    html_table,
    is_numeric,
    text_table,
)
from factory.report.trace import SIDES, Trace, trace_dataset, trace_lake
from factory.report.usage import Usage, estimates, usage_by_stage, usage_of_step

__all__ = [
    "GAPS_TITLE",
    "NO_CANDIDATES",
    "PAIR_COLUMNS",
    "PROBE_TITLE",
    "QUERIES",
    "SIDES",
    "WORK_TITLE",
    "Diff",
    "PairSet",
    "Rows",
    "Trace",
    "Usage",
    "compare_pairs",
    "describe_totals",
    "draw_picture",
    "estimates",
    "format_cell",
    "format_splits",
    "gaps",
    "gaps_table",
    "generation_lines",
    "html_table",
    "is_numeric",
    "iterations",
    "outcomes",
    "pair_set",
    "plan_rows",
    "plan_table",
    "plan_totals",
    "preview_rows",
    "script",
    "status_table",
    "step_rows",
    "text_table",
    "trace_dataset",
    "trace_lake",
    "usage_by_stage",
    "usage_of_step",
    "work_rows",
    "work_table",
]
