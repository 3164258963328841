"""Run the steps that call no model: prompts, verdicts, and pairs."""

import dataclasses
import time

import pyarrow as pa

from factory.lake import TABLES, ShardWriter, Views
from factory.pairs import check_policy, define_policy
from factory.plan import RecipeState, Step, StepState, folder_of, pair_outcomes
from factory.progress import Progress
from factory.run.generate import WorkCount
from factory.stages import list_problems, verdicts

# tabular stages


def make_prompts(survey: RecipeState, found: StepState, progress: Progress) -> None:
    """Writes the prompts that were read, and says which lines were left out."""
    folder = folder_of(found)
    rows, problems = survey.holdings.prompts[found.step.role], survey.left_out[found.step.role]
    assert isinstance(rows, pa.Table), "prompts that are not in the lake were read"
    folder.create(found.settings)
    folder.append(rows)
    left_out = [dataclasses.asdict(problem) for problem in problems]
    folder.record({"step": found.step.label, "answered": len(rows), "left_out": left_out})
    progress.say(f"  {found.step.label}: {len(rows):,} read")
    if problems:
        progress.say(f"  {len(problems):,} lines left out:\n" + list_problems(problems))


def make_verdicts(
    survey: RecipeState, found: StepState, progress: Progress, limit: int | None = None
) -> None:
    """Reads the judgments that have no verdict yet."""
    folder, recipe = folder_of(found), survey.recipe
    rubric, scale = survey.reading(found.step)
    folder.create(found.settings)
    count, unscored = WorkCount(), 0
    writer = ShardWriter(folder, TABLES["verdicts"], recipe.shards.rows, recipe.shards.seconds)
    views = survey.step_views(found, limit)
    with writer:
        for batch in views.stream("unparsed"):
            for judgment in batch.to_pylist():
                row = verdicts.row(judgment, rubric, scale, folder.key)
                writer.put(row)
                count.answered += 1
                unscored += row["score"] is None
    folder.record({"step": found.step.label, **count.manifest()})
    said = f", {unscored:,} without a score" if unscored else ""
    progress.say(f"  {found.step.label}: {count.answered:,}{said}")


def make_pairs(survey: RecipeState, found: StepState, progress: Progress) -> None:
    """Writes every pair that the policy considers, with its outcome."""
    step, folder = found.step, folder_of(found)
    folder.create(found.settings)
    began = time.time()
    views = pair_views(survey, step, folder.key)
    check_policy(views, survey.policy)
    views.read_texts("from policy")
    folder.append_batches(TABLES["pairs"], views.stream("pairs", TABLES["pairs"]))
    views.drop("measured", "chosen_pairs")  # the texts stay: what comes next is written of them
    folder.record({"step": step.label, "seconds": round(time.time() - began, 3)})
    outcomes = pair_outcomes(survey, folder)
    shown = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items())
    progress.say(f"  {step.label}: {shown or 'no prompts'}")


def pair_views(survey: RecipeState, step: Step, build: str) -> Views:
    """The views that a policy is run on."""
    views = survey.views(survey.phase_scope(step))
    views.setting(
        "build_settings",
        {
            "build": build,
            "iteration": step.iteration,
            "phase": step.phase,
            "judge_model": survey.pair_judge(step),
        },
    )
    define_policy(views, survey.policy, survey.recipe)
    return views
