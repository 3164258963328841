"""Tables of the loop that several verbs print: pairs, probe scores, and work."""

from typing import TYPE_CHECKING

from factory.cli.tables import (
    Rows,
    drop_empty_columns,
    format_cost,
    format_share,
    print_table,
    round_rate,
)

if TYPE_CHECKING:
    from factory.plan import RecipeState

_SHORT = {
    "iteration": "it",
    "phase": "phase",
    "prompts": "prompts",
    "kept": "kept",
    "ties": "ties",
    "failures": "failed",
    "gap": "gap",
    "score_chosen": "chosen",
    "score_rejected": "rejected",
    "chosen_from_future": "future",
    "rejected_from_past": "past",
}
"""Columns of the view `gaps`, with names that fit a terminal of 80 columns."""


def print_gaps(gaps: Rows) -> None:
    """Print the kept pairs and score gaps per iteration and phase."""
    print_table(
        [{short: row[name] for name, short in _SHORT.items()} for row in gaps],
        "Pairs (gap: mean margin of the kept, on the judge's own scale;\n"
        "future: chosen from the future model; past: rejected from M_0)",
    )


def print_iterations(iterations: dict[str, Rows]) -> None:
    """Print the pairs, and the probe scores where the recipe has a probe."""
    print_gaps(iterations["gaps"])
    if iterations["probe"]:
        print_table(
            iterations["probe"],
            "Probe (mean score of each model, by a check that chose no pair)",
        )


def print_work(state: "RecipeState") -> None:
    """Print the tokens, time, and cost of every stage that uses a model."""
    from factory.progress import duration
    from factory.report import work_rows

    rows = [
        {
            "stage": row["stage"],
            "made": row["made"],
            "read": row["prompt_tokens"] or None,
            "cached": format_share(row["cached_tokens"], row["prompt_tokens"]),
            "written": row["tokens"] or None,
            "read/s": round_rate(row["prompt_tokens_per_second"]),
            "written/s": round_rate(row["tokens_per_second"]),
            "time": duration(row["seconds"]),
            "cost": format_cost(row["cost"]),
        }
        for row in work_rows(state)
    ]
    print_table(
        drop_empty_columns(rows, "cached", "cost"),
        "Work of all runs (read: prompt tokens; written: answer tokens)",
    )
