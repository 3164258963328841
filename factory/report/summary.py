"""Rows of the tables that `factory run`, `factory status`, and `factory plan` print.

The numbers come from SQL views and from the plan.
"""

from collections import Counter
from collections.abc import Collection
from typing import Any

from factory.lake import ROW_ID, load_query
from factory.models import Checkpoint
from factory.plan import RecipeState, Step, StepState, all_views, loads, packages, steps
from factory.recipe import NEUTRAL, Generation, Recipe
from factory.report.estimate import Estimate, estimates
from factory.report.pair_quality import quality
from factory.report.usage import usage_by_stage, usage_of_step

Rows = list[dict[str, Any]]


def iterations(state: RecipeState) -> dict[str, Rows]:
    """Return the score gaps and the quality of the pairs by iteration and phase, and each model's
    mean score on the probe."""
    probe = all_views(state).all(load_query("lake/probe_scores")) if state.recipe.probe else []
    order = {name: place for place, name in enumerate(_model_order(state.recipe))}
    return {
        "gaps": gaps(state),
        "quality": quality(state),
        "probe": sorted(probe, key=lambda row: order[row["name"]]),
    }


def gaps(state: RecipeState) -> Rows:
    """Return pair counts, mean scores, and score gaps by iteration and phase.

    These are the rows of the view `gaps`.
    """
    return all_views(state).all("from gaps")


def outcomes(state: RecipeState) -> Rows:
    """Return the number of final pairs by iteration and outcome.

    The final pairs are the D2 pairs, which train the next model, or the D1 pairs if the loop trains
    no models.
    """
    return all_views(state).all(
        "select iteration, outcome, count(*) as pairs from final_pairs "
        "group by all order by iteration, pairs desc, outcome"
    )


def _model_order(recipe: Recipe) -> list[str]:
    return list(dict.fromkeys(["M_0", *(step.name for step in steps(recipe) if step.name)]))


def step_rows(state: RecipeState) -> Rows:
    """Return one table row per step of the plan, with the step's state and progress."""
    return [_step_row(state, step, step_state) for step, step_state in state.steps.items()]


def _step_row(state: RecipeState, step: Step, step_state: StepState) -> dict[str, Any]:
    return {
        "step": step.title,
        "iteration": None if step.stage == "prompts" else step.iteration,
        "stage": step.stage,
        "role": step.role or None,
        "model": step.name or None,
        "phase": step.phase or None,
        "key": step_state.folder.key if step_state.folder else None,
        "state": describe_state(step_state, state.opened.missing),
        "wanted": step_state.wanted,
        "answered": step_state.answered,
        "failed": step_state.failed,
        "failed_for_now": step_state.transient,
        "filtered": step_state.filtered,
        "missing": step_state.missing,
        "unparsed": step_state.unparsed,
        "reused": step_state.reused,
        "waits_for": step_state.waits_for,
        **usage_of_step(step_state).row(),
    }


def work_rows(state: RecipeState) -> Rows:
    """Return one table row per stage that uses a model, with its tokens, time, and cost."""
    made: dict[str, int] = {}
    for step, step_state in state.steps.items():
        made[step.stage] = made.get(step.stage, 0) + step_state.answered
    return [
        {"stage": stage, "made": made[stage], **usage.row()}
        for stage, usage in usage_by_stage(state).items()
        if stage in ("samples", "judgments", "train")
    ]


def generation_lines(state: RecipeState) -> list[str]:
    """Return lines of text that describe the sampling settings for answers and judgments.

    Each line marks values from the model's generation_config, and lists those that are not used.
    The generation_config of a missing model is unknown.
    """
    lines, recipe = [], state.recipe
    sections: dict[str, tuple[Generation, Generation, Checkpoint | None]]
    first = state.models.get("M_0")
    sections = {"sampling": (state.opened.written.sampling, recipe.sampling, first)}
    for name, judge in recipe.all_judges.items():
        place = recipe.field_of(name)
        model = state.models.get(recipe.first_model_of_judge(name))
        if judge.has_rubric:
            sections[place] = (state.opened.written.all_judges[name], judge, model)
    for place, (written, section, model) in sections.items():
        config = model.generation_config if model else {}
        shown = [f"temperature {section.temperature:g}", f"top_p {section.top_p:g}"]
        for field in NEUTRAL:
            if (value := section.value(field)) is not None:
                theirs = getattr(written, field) is None
                shown.append(f"{field} {value:g}" + (" (the model's generation_config)" * theirs))
        line = f"{place}: {', '.join(shown)}, max_tokens {section.max_tokens}"
        if model is None:
            line += "; the model's generation_config is not on this machine"
        elif model.declared:
            line += f"; declared revision {model.declared}, which cannot be verified"
        other = [
            f"{field} {config[field]:g}"
            for field in ("temperature", "top_p")
            if isinstance(config.get(field), int | float)
            and config[field] != getattr(section, field)
        ]
        if other:
            line += f"; not used from the model's generation_config: {', '.join(other)}"
        lines.append(line)
    return lines


def broken_shard_lines(state: RecipeState) -> list[str]:
    """Check shards by name and size, and return one line per broken shard."""
    return [
        f"broken shard {state.lake.relative(shard.path)}: {shard.why}"
        for step, found in state.steps.items()
        if found.folder and step.stage in ROW_ID
        for shard in found.folder.broken(content=False)
    ]


def missing_models(state: RecipeState) -> dict[str, str]:
    """Return why M_0 and the judges' models are missing, with one message per missing model."""
    return {name: str(error) for name, error in state.opened.missing.items()}


def missing_packages(state: RecipeState) -> dict[str, str]:
    """Return the missing packages that unfinished steps need, with commands that install them."""
    missing = packages.missing_packages(state.recipe, state.undone)
    return {error.field: error.remedy for error in missing}


def describe_state(step_state: StepState, missing: Collection[str]) -> str:
    """Return the state of a step in a few words, such as `done` or `waits for pairs D1`.

    `missing` has the names of the models that are not on this machine.
    """
    if step_state.done:
        return "done"
    if step_state.waits_for in missing:
        return "model missing"
    if step_state.waits_for:
        return f"waits for {step_state.waits_for}"
    if step_state.step.stage in ("samples", "judgments", "verdicts"):
        if step_state.answered + step_state.failed == 0:
            return "nothing stored"
        again = f", {step_state.transient:,} failed for now" if step_state.transient else ""
        return f"{step_state.answered:,} stored{again}"
    return "not made yet"


def plan_rows(state: RecipeState) -> Rows:
    """Return one row per step of the plan, with estimated tokens, seconds, and cost.

    `measured` is the label of the step that the estimate is based on.
    """
    rows, expected = step_rows(state), estimates(state)
    for row, step in zip(rows, state.steps, strict=True):
        about = expected.get(step, Estimate())
        row["expected_tokens"] = about.tokens
        row["tokens_are"] = "at most" if about.at_most else "from existing answers"
        row["expected_seconds"] = None if about.seconds is None else round(about.seconds, 1)
        row["expected_cost"] = about.cost
        row["measured"] = about.measured
    return rows


def plan_totals(state: RecipeState, rows: Rows) -> dict[str, Any]:
    """Return the totals of a plan: steps, requests, tokens, trainings, model loads, time, and cost.

    Seconds and cost are sums over the steps with an estimate, or None if no step has one.
    `without_estimate` counts the other steps by stage.
    """
    to_do, by_hand = state.undone, state.recipe.train.with_ == "manual"
    asking = [
        row
        for row, step in zip(rows, state.steps, strict=True)
        if not state.steps[step].done and (step.loads or (step.stage == "train" and not by_hand))
    ]
    without = Counter(row["stage"] for row in asking if row["expected_seconds"] is None)
    bounds = {row["tokens_are"] for row in rows if row["expected_tokens"]}
    return {
        "steps": len(to_do),
        "requests": sum(
            row["missing"] - row["reused"] for row in asking if row["stage"] != "train"
        ),
        "tokens": sum(row["expected_tokens"] for row in rows),
        "tokens_are": "at most" if "at most" in bounds else "from existing answers",
        "trainings": sum(step.stage == "train" for step in to_do),
        "loads": loads(state.recipe, to_do),
        "seconds": _total([row["expected_seconds"] for row in asking]),
        "cost": _total([row["expected_cost"] for row in asking]),
        "without_estimate": dict(without),
    }


def _total(parts: list[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def preview_rows(state: RecipeState, first: int) -> Rows:
    """Return the answers to the first training prompts, with each answer's judgments and score."""
    return state.views(state.everything).all(load_query("report/preview"), n_prompts=first)
