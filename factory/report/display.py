"""Shorten report tables to fit a terminal of 80 columns.

The functions take the rows of `summary`, which are for programs, and return shorter rows. They do
not read the lake.
"""

import re
from typing import Any

from factory.progress import duration
from factory.report.tables import (
    Rows,
    drop_empty_columns,
    format_cost,
    format_share,
    round_rate,
)

GAPS_TITLE = (
    "Pairs (gap: mean margin of the kept pairs, on the judge's scale;\n"
    "future: chosen from the future model; past: rejected from M_0)"
)

PROBE_TITLE = "Probe (mean score of each model, by a check that chose no pair)"

WORK_TITLE = "Work of all runs (read: prompt tokens; written: answer tokens)"

_GAPS = {
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


def gaps_table(gaps: Rows) -> Rows:
    """Return one row per iteration and phase, with the number of pairs and their mean score gap."""
    return [{short: row[name] for name, short in _GAPS.items()} for row in gaps]


def plan_table(rows: Rows) -> Rows:
    """Return one row per step, with its state and an estimate of the remaining work."""
    return [
        {
            "it": row["iteration"],
            "step": _shorten_title(row["step"]),
            "state": row["state"],
            "done": row["answered"],
            "to do": row["missing"] - row["reused"],
            "tokens": _format_tokens(row),
            "time": _format_time(row),
        }
        for row in rows
    ]


def _format_time(row: dict[str, Any]) -> str:
    seconds = row["expected_seconds"]
    return "" if seconds is None else duration(seconds)


def _format_tokens(row: dict[str, Any]) -> str:
    if not row["expected_tokens"]:
        return ""
    about = "at most" if row["tokens_are"] == "at most" else "about"
    return f"{about} {row['expected_tokens']:,}"


def describe_totals(totals: dict[str, Any]) -> str:
    """Describe the totals of a plan in one line."""
    cost = f", cost about {format_cost(totals['cost'])}" if totals["cost"] else ""
    about = "at most" if totals["tokens_are"] == "at most" else "about"
    return (
        f"{totals['steps']} steps, {totals['requests']:,} answers and judgments, {about} "
        f"{totals['tokens']:,} tokens, {totals['trainings']} trainings, "
        f"{totals['loads']} model loads{_describe_time(totals)}{cost}"
    )


def _describe_time(totals: dict[str, Any]) -> str:
    """Describe the estimated time, and the steps that have no estimate yet."""
    if not (without := totals["without_estimate"]):
        return "" if totals["seconds"] is None else f", about {duration(totals['seconds'])}"
    if totals["seconds"] is None:
        only_training = set(without) == {"train"}
        return ", no estimate of the time yet" + (
            "" if only_training else " (run `factory preview` for one)"
        )
    names = {"train": "training"}
    steps = " and ".join(
        f"{count} {names.get(stage, stage)} step{'s' * (count > 1)}"
        for stage, count in without.items()
    )
    return f", about {duration(totals['seconds'])} without {steps}, which have no estimate yet"


def status_table(rows: Rows) -> Rows:
    """Return one row per step, with its row counts, tokens, rate, and time."""
    shown = [
        {
            "it": row["iteration"],
            "step": _shorten_title(row["step"]),
            "state": row["state"],
            "wanted": row["wanted"],
            "answered": row["answered"],
            "failed": row["failed"] + row["failed_for_now"],
            "filtered": row["filtered"],
            "unparsed": row["unparsed"],
            "written": row["tokens"] or None,
            "/s": round_rate(row["tokens_per_second"]),
            "cached": format_share(row["cached_tokens"], row["prompt_tokens"]),
            "time": duration(row["seconds"]) if row["seconds"] else "",
        }
        for row in rows
    ]
    return drop_empty_columns(shown, "failed", "filtered", "unparsed", "cached")


def work_table(rows: Rows) -> Rows:
    """Return one row per stage that uses a model, with its tokens, rates, time, and cost."""
    shown = [
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
        for row in rows
    ]
    return drop_empty_columns(shown, "cached", "cost")


def _shorten_title(title: str) -> str:
    """Shorten a step's title: "judgments of M_0 as past by M_1" to "judgments M_0 past by M_1"."""
    return re.sub(r" (of the|on the|of|as|on) ", " ", title)
