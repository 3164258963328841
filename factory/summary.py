"""What a run came to: the tables that `run` ends with and `status` and `plan` print.

Numbers come from SQL views; this only lays them out.
"""

from typing import Any

from factory.export import all_views
from factory.plan import Step, loads, steps
from factory.recipe import Recipe
from factory.survey import Found, Survey

Rows = list[dict[str, Any]]


def iterations(survey: Survey) -> dict[str, Rows]:
    """Score gaps per iteration and phase, and the probe's score of each model."""
    views = all_views(survey)
    gaps = views.con.sql("from gaps").to_arrow_table().to_pylist()
    probe = views.all("probe_scores") if survey.recipe.probe else []
    order = {name: place for place, name in enumerate(_model_order(survey.recipe))}
    return {"gaps": gaps, "probe": sorted(probe, key=lambda row: order[row["name"]])}


def _model_order(recipe: Recipe) -> list[str]:
    return list(dict.fromkeys(["M_0", *(step.name for step in steps(recipe) if step.name)]))


def step_rows(survey: Survey) -> Rows:
    """A row a step: what it wants, what is held, what is left."""
    return [_step_row(survey, step, found) for step, found in survey.found.items()]


def _step_row(survey: Survey, step: Step, found: Found) -> dict[str, Any]:
    return {
        "step": step.title,
        "iteration": None if step.stage == "prompts" else step.iteration,
        "stage": step.stage,
        "role": step.role or None,
        "model": step.name or None,
        "phase": step.phase or None,
        "key": found.folder.key if found.folder else None,
        "state": state(found),
        "wanted": found.wanted,
        "answered": found.answered,
        "failed": found.failed,
        "failed_for_now": found.transient,
        "filtered": found.filtered,
        "missing": found.missing,
        "unparsed": found.unparsed,
        "carried": found.carried,
        "prompt_tokens": found.prompt_tokens,
        "cached_tokens": found.cached_tokens,
        "tokens": found.tokens,
        "seconds": _seconds(found),
        "waits_for": found.waits_for,
    }


def _seconds(found: Found) -> float | None:
    """Time spent on the folder so far, by its manifest (folders may be shared)."""
    if found.folder is None:
        return None
    mine = [e for e in found.folder.events() if e.get("step") == found.step.label]
    return round(sum(float(event.get("seconds", 0)) for event in mine), 1)


def state(found: Found) -> str:
    """In a word or few: done, waits for …, or why the step will run."""
    if found.done:
        return "done"
    if found.waits_for:
        return f"waits for {found.waits_for}"
    if found.step.stage in ("samples", "judgments", "verdicts"):
        if found.answered + found.failed == 0:
            return "nothing held"
        again = f", {found.transient:,} failed for now" if found.transient else ""
        return f"{found.answered:,} held{again}"
    return "not made yet"


def plan_rows(survey: Survey) -> Rows:
    """A row a step, with about how many tokens it will take."""
    rows = step_rows(survey)
    means: dict[str, float] = {}
    for stage in ("samples", "judgments"):
        answered = sum(row["answered"] for row in rows if row["stage"] == stage)
        tokens = sum(row["tokens"] for row in rows if row["stage"] == stage)
        if answered:
            means[stage] = tokens / answered
    most = {
        "samples": survey.recipe.sampling.max_tokens,
        "judgments": survey.recipe.judge.max_tokens,
    }
    for row, step in zip(rows, survey.found, strict=True):
        if step.stage in most and (step.loads is not None) and row["missing"]:
            mean = means.get(step.stage)
            row["expected_tokens"] = round(
                (row["missing"] - row["carried"]) * (mean or most[step.stage])
            )
            row["tokens_are"] = "from what is held" if mean else "at most"
        else:
            row["expected_tokens"] = 0
    return rows


def plan_totals(survey: Survey, rows: Rows) -> dict[str, Any]:
    """What the whole of a plan comes to."""
    to_do = [step for step, found in survey.found.items() if not found.done]
    return {
        "steps": len(to_do),
        "requests": sum(
            row["missing"] - row["carried"]
            for row, step in zip(rows, survey.found, strict=True)
            if step.loads
        ),
        "tokens": sum(row["expected_tokens"] for row in rows),
        "trainings": sum(step.stage == "train" for step in to_do),
        "loads": loads(survey.recipe, to_do),
    }
