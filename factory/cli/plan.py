"""`factory plan` and `factory status`."""

import re
from typing import TYPE_CHECKING, Any

from factory.cli.loop_tables import print_iterations, print_work
from factory.cli.options import LAKE, Json, LakePath, Overrides, RecipePath, open_recipe
from factory.cli.tables import (
    Rows,
    drop_empty_columns,
    format_cost,
    format_share,
    print_json,
    print_table,
    round_rate,
)

if TYPE_CHECKING:
    from factory.plan import RecipeState


def plan(
    recipe: RecipePath,
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Show what will run, why, and what it costs

    Lists every step with the rows that are in the lake and the rows that are missing, and estimates
    tokens and time. Changes nothing.

    Example: factory plan recipes/quickstart/recipe.yaml --json
    """
    from factory.plan import read_state
    from factory.report import generation_lines, plan_rows, plan_totals

    state = read_state(*open_recipe(recipe, lake, overrides))
    rows = plan_rows(state)
    totals = plan_totals(state, rows)
    generation = generation_lines(state)
    if as_json:
        print_json({"generation": generation, "steps": rows, "totals": totals})
    else:
        print_plan(state, rows, totals, generation)


def status(
    recipe: RecipePath,
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Show what each step has produced so far

    Lists every step with its rows, tokens, and time, and then the pairs of the iterations.

    Example: factory status recipes/quickstart/recipe.yaml
    """
    from factory.plan import read_state
    from factory.report import iterations, step_rows, work_rows

    state = read_state(*open_recipe(recipe, lake, overrides))
    rows, so_far = step_rows(state), iterations(state)
    if as_json:
        print_json({"steps": rows, "work": work_rows(state), **so_far})
        return
    print_status(state, rows)
    print_work(state)
    print_iterations(so_far)


def print_plan(
    state: "RecipeState", rows: Rows, totals: dict[str, Any], generation: list[str]
) -> None:
    """Print every step with its rows and the reason to run it, and the totals."""
    print_table(
        [_plan_row(row) for row in rows], f"{state.recipe.name}: {state.recipe.loop.policy}"
    )
    print()
    for line in generation:
        print(line)
    _print_broken_shards(state)
    print(f"To do: {describe_totals(totals)}" if totals["steps"] else "Nothing to do.")


def _plan_row(row: dict[str, Any]) -> dict[str, Any]:
    from factory.progress import duration

    return {
        "it": row["iteration"],
        "step": _shorten_title(row["step"]),
        "state": row["state"],
        "done": row["answered"],
        "to do": row["missing"] - row["reused"],
        "tokens": _format_tokens(row),
        "time": duration(seconds) if (seconds := row["expected_seconds"]) else "",
    }


def _print_broken_shards(state: "RecipeState") -> None:
    from factory.lake import ROW_ID

    for step, step_state in state.steps.items():
        folder = step_state.folder if step.stage in ROW_ID else None
        for shard in folder.broken(content=False) if folder else []:
            print(f"broken shard {state.lake.relative(shard.path)}: {shard.why}")


def describe_totals(totals: dict[str, Any]) -> str:
    """Describe the totals of a plan in one line."""
    from factory.progress import duration

    time = f", about {duration(totals['seconds'])}" if totals["seconds"] else ""
    cost = f", cost about {format_cost(totals['cost'])}" if totals["cost"] else ""
    return (
        f"{totals['steps']} steps, {totals['requests']:,} answers, about "
        f"{totals['tokens']:,} tokens, {totals['trainings']} trainings, "
        f"{totals['loads']} loads of a model{time}{cost}."
    )


def _format_tokens(row: dict[str, Any]) -> str:
    if not row["expected_tokens"]:
        return ""
    about = "at most" if row["tokens_are"] == "at most" else "about"
    return f"{about} {row['expected_tokens']:,}"


def print_status(state: "RecipeState", rows: Rows) -> None:
    """Print what each step has produced."""
    print_table(
        drop_empty_columns(
            [_status_row(row) for row in rows], "failed", "filtered", "unparsed", "cached"
        ),
        f"{state.recipe.name}: wanted = answered + failed + filtered when done",
    )


def _status_row(row: dict[str, Any]) -> dict[str, Any]:
    from factory.progress import duration

    return {
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


def _shorten_title(title: str) -> str:
    """Shorten a step's title for a table: judgments M_0 past by M_1."""
    return re.sub(r" (of the|on the|of|as|on) ", " ", title)
