"""Find the earlier steps and the lake folders that a step reads."""

from pathlib import Path

import pyarrow.parquet as pq

from factory.lake import SHARD_KEYS, Folder, Scope
from factory.plan.recipe_state import RecipeState
from factory.plan.state import StepState
from factory.plan.step import Step


def inputs(state: RecipeState, step: Step) -> list[StepState]:
    """Return the earlier steps whose rows a step reads to judge answers or choose pairs."""
    if step.stage == "judgments":
        roles = {(step.role, step.name)}
        if state.opened.opponents(step) is not None:
            roles.add(("current", f"M_{step.iteration}"))
        return [state.steps[Step("samples", step.iteration, *role)] for role in sorted(roles)]
    wanted, used = state.policy.candidates(step.phase), state.opened.choice.judges
    return [
        found
        for other, found in state.steps.items()
        if other.iteration == step.iteration
        and other.role in wanted
        and (other.stage == "samples" or other.judge_name in used)
    ]


def waits(state: RecipeState, step: Step) -> str | None:
    """Return the model or step that blocks the given step, or None if all inputs are ready.

    A pairs step also waits for unfinished inputs, which are returned by their titles.
    """
    for found in inputs(state, step):
        if found.waits_for:
            return found.waits_for
        if step.stage == "pairs" and not found.done:
            return found.step.title
    return None


def folders_read(state: RecipeState, step: Step) -> list[Folder]:
    """Return the lake folders that a step reads, including the step's own folder."""
    of_iteration = Scope(
        [row for row in state.roles.values() if row["iteration"] == step.iteration],
        [row for row in state.panel.values() if row["iteration"] == step.iteration],
    )
    keys = {(table, key) for table in SHARD_KEYS for key in of_iteration.keys(table)}
    for other, found in state.steps.items():
        same_phase = (other.iteration, other.phase) == (step.iteration, step.phase)
        if found.folder and (other.stage == "prompts" or (other.stage == "pairs" and same_phase)):
            keys.add((other.stage, found.folder.key))
    if step in state.steps and (own := state.steps[step].folder) and step.stage != "train":
        keys.add((own.table, own.key))
    return [state.lake.folder(table, key) for table, key in sorted(keys)]


def n_rows(shards: list[Path]) -> int:
    """Return the total number of rows in the given Parquet shards."""
    return sum(pq.read_metadata(shard).num_rows for shard in shards)
