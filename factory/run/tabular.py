"""Run the steps that call no model: prompts, verdicts, and pairs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import pyarrow as pa

from factory.errors import RubricError
from factory.lake import TABLES, ShardWriter, load_query
from factory.pairs import check_policy, define_policy
from factory.plan import RecipeState, StepState, count_outcomes, folder_of
from factory.progress import Progress
from factory.run.generate import WorkCount
from factory.stages import list_problems, verdicts
from factory.time_limit import TooSlow, time_limit

PARSER_SECONDS = 60.0
"""Number of seconds that a parser may take for a batch of judgments, which is at most 1,000. The
parsers of shipped rubrics take at most 0.6 s for a judgment of a million characters."""


def make_prompts(state: RecipeState, step_state: StepState, progress: Progress) -> None:
    """Store the prompts from the prompt files, and report unusable lines."""
    step, folder = step_state.step, folder_of(step_state)
    rows, problems = state.stored.prompts[step.role], state.unusable[step.role]
    assert isinstance(rows, pa.Table), "the prompts were neither stored nor read"
    folder.create(step_state.settings)
    folder.append(rows)
    unusable = [asdict(problem) for problem in problems]
    folder.record({"step": step.label, "answered": len(rows), "left_out": unusable})
    progress.say(f"  {step.label}: {len(rows):,} read")
    if problems:
        lines = "line" if len(problems) == 1 else "lines"
        skipped = f"  {step.label}: skipped {len(problems):,} unusable {lines}:\n"
        progress.say(skipped + list_problems(problems))


def make_verdicts(
    state: RecipeState, step_state: StepState, progress: Progress, limit: int | None = None
) -> None:
    """Parse the judgments that have no verdict yet, and store the verdicts."""
    step, folder, shards = step_state.step, folder_of(step_state), state.recipe.shards
    rubric, scale = state.opened.reading(step)
    folder.create(step_state.settings)
    count, unscored = WorkCount(), 0
    views = state.step_views(step_state, limit)
    with ShardWriter(folder, TABLES["verdicts"], shards.rows, shards.seconds) as writer:
        for batch in views.stream(load_query("run/unparsed")):
            judgments = batch.to_pylist()
            with _parser_limit(f"rubric of {step.judge_name}", len(judgments)):
                rows = [verdicts.row(each, rubric, scale, folder.key) for each in judgments]
            for row in rows:
                writer.put(row)
                count.answered += 1
                unscored += row["score"] is None
    folder.record({"step": step.label, **count.manifest()})
    without = f", {unscored:,} without a score" if unscored else ""
    progress.say(f"  {step.label}: {count.answered:,} parsed{without}")


@contextmanager
def _parser_limit(field: str, n: int) -> Iterator[None]:
    """Raise RubricError if a rubric's parser takes too long for `n` judgments."""
    try:
        with time_limit(PARSER_SECONDS):
            yield
    except TooSlow:
        raise RubricError(
            field,
            f"the parser took longer than {PARSER_SECONDS:g} s for {n:,} judgments",
            "write the regular expression without nested repetitions, such as (a+)+ (the judgments "
            "are saved)",
        ) from None


def make_pairs(state: RecipeState, step_state: StepState, progress: Progress) -> None:
    """Store every pair that the pair policy considers, with the pair's outcome."""
    step, folder, choice = step_state.step, folder_of(step_state), state.opened.choice
    folder.create(step_state.settings)
    began = time.time()
    views = state.views(state.phase_scope(step))
    define_policy(views, choice)
    check_policy(views, choice.policy)
    views.read_texts("from policy")
    batches = views.stream(
        load_query("pairs/pairs"),
        TABLES["pairs"],
        build=folder.key,
        iteration=step.iteration,
        phase=step.phase,
        judge_model=state.score_digests(step),
    )
    folder.append_batches(TABLES["pairs"], batches)
    # The texts are kept, because the dataset or the training rows are written from them next.
    views.drop_tables("measured", "chosen_pairs")
    folder.record({"step": step.label, "seconds": round(time.time() - began, 3)})
    outcomes = count_outcomes(state, folder)
    shown = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items())
    progress.say(f"  {step.label}: {shown or 'no pairs'}")
