"""Shorten report tables to fit a terminal of 80 columns.

The functions take the rows of `summary`, which are for programs, and return shorter rows. They do
not read the lake.
"""

import re
import textwrap
from collections.abc import Mapping
from typing import Any

from factory.progress import duration
from factory.report.tables import (
    Rows,
    drop_empty_columns,
    format_cost,
    format_percent,
    format_share,
    round_rate,
)

_WIDTH = 80

PROBE_TITLE = "Probe (mean score of each model, by a check that chose no pair)"

WORK_TITLE = "Work of all runs (read: prompt tokens; written: answer tokens)"

_PAIRS = {
    "iteration": "it",
    "phase": "phase",
    "prompts": "prompts",
    "kept": "kept",
    "ties": "ties",
    "identical": "identical",
    "unscored": "unscored",
    "filtered": "filtered",
    "chosen_from_future": "future",
    "rejected_from_past": "past",
}

_OF_PAIRS = {
    "ties": "equal scores",
    "identical": "both answers have the same text",
    "unscored": "an answer has no score",
    "filtered": "excluded by the recipe's `pairs`",
    "future": "chosen from the future model",
    "past": "rejected from M_0",
}
"""The meaning of each column of `pairs_table` that is not obvious."""

_OF_GAP = {
    "gap": "mean margin of the kept pairs",
    "gap/sd": "in standard deviations of all scores",
    "won": "prompts whose best answer from the future model beats the current model's",
    "longer": "kept pairs whose chosen answer is longer",
    "cut off": "answers that reached max_tokens",
    "same": "prompts whose answers are all the same text",
    "agree": "consistency of the judge's draws, by Krippendorff's alpha: 1 perfect, 0 chance",
}
"""The meaning of each column of `gap_table` that is not obvious."""


def iteration_tables(gaps: Rows, quality: Rows) -> list[tuple[str, Rows]]:
    """Return the titles and rows of two tables about the pairs of each iteration and phase.

    `gaps` has rows of the view `gaps`, and `quality` rows of the named query `pair_quality`.
    """
    if not gaps:
        return []
    pairs, gap = pairs_table(gaps), gap_table(gaps, quality)
    return [
        (_explain("Pairs", _OF_PAIRS, pairs), pairs),
        (_explain("Score gap", _OF_GAP, gap), gap),
    ]


def pairs_table(gaps: Rows) -> Rows:
    """Return one row per iteration and phase, with the number of pairs by outcome."""
    shown = [{short: row[name] for name, short in _PAIRS.items()} for row in gaps]
    return drop_empty_columns(shown, "identical", "unscored", "filtered")


def gap_table(gaps: Rows, quality: Rows) -> Rows:
    """Return one row per iteration and phase, with the score gap and figures that explain it."""
    figures = {(row["iteration"], row["phase"]): row for row in quality}
    shown = [_gap_row(row, figures[row["iteration"], row["phase"]]) for row in gaps]
    return drop_empty_columns(shown, "won", "longer", "agree")


def _gap_row(gap: dict[str, Any], figures: dict[str, Any]) -> dict[str, Any]:
    return {
        "it": gap["iteration"],
        "phase": gap["phase"],
        "gap": gap["gap"],
        "gap/sd": figures["gap_in_sd"] and round(figures["gap_in_sd"], 2),
        "chosen": gap["score_chosen"],
        "rejected": gap["score_rejected"],
        "won": format_percent(figures["future_won"]),
        "longer": format_percent(figures["chosen_longer"]),
        "cut off": format_percent(figures["truncated_share"]),
        "same": format_percent(figures["same_text_share"]),
        "agree": figures["consistency"] and round(figures["consistency"], 2),
    }


def _explain(title: str, meanings: Mapping[str, str], rows: Rows) -> str:
    """Return the title of a table with the meanings of its columns, in lines of a terminal."""
    shown = [f"{name}: {text}" for name, text in meanings.items() if name in rows[0]]
    return textwrap.fill(f"{title} ({'; '.join(shown)})", _WIDTH)


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
        return ", no time estimate yet" + (
            "" if only_training else " (run `factory preview` to get one)"
        )
    names = {"train": "training"}
    steps = " and ".join(
        f"{count} {names.get(stage, stage)} step{'s' * (count > 1)}"
        for stage, count in without.items()
    )
    return f", about {duration(totals['seconds'])} without {steps} that cannot be estimated yet"


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
