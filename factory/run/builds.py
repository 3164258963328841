"""Other sets of pairs from stored samples and scores. Calls no model and trains nothing.

A build is stored like the loop's own pairs: rows of `pairs`, in a folder named by what decides
them. A build that the loop already made is found and not made again.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from factory.errors import RecipeError
from factory.export import write_dataset
from factory.lake import Lake
from factory.pairs import SECOND, load_policy
from factory.plan import (
    RecipeState,
    Step,
    count_step,
    folder_of,
    inspect_step,
    locate_step,
    read_state,
)
from factory.progress import Progress
from factory.recipe import Recipe
from factory.run.tabular import make_pairs

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def check_changes(overrides: Sequence[str]) -> list[str]:
    """The overrides that change how a build is made, and not which pairs it chooses.

    Raises RecipeError if there are others.
    """
    of_run = [override for override in overrides if override.startswith("query_memory=")]
    for override in overrides:
        field = override.partition("=")[0]
        chooses = field in ("pairs", "loop.policy") or field.startswith("pairs.")
        if not chooses and override not in of_run:
            raise RecipeError(
                f"--set {override}",
                "a build only chooses among stored samples",
                "expected pairs.…, loop.policy, or query_memory; others are for `factory run`",
            )
    return of_run


def build_pairs(
    recipe: Recipe, changed: Recipe, lake: Lake, name: str, progress: Progress
) -> RecipeState:
    """Choose pairs as `changed` says, from the samples and scores of `recipe`'s loop.

    Returns a state with these pairs in place of the loop's own. Raises RecipeError if the changed
    policy chooses from roles that were never sampled, or if no iteration is complete.
    """
    if not _NAME.fullmatch(name):
        raise RecipeError(
            "--name",
            f"got {name}",
            "expected lower-case letters, digits, -, _, and ., a letter or digit first",
        )
    stored = read_state(recipe, lake)
    policy, of_loop = load_policy(changed), stored.policy
    if unsampled := [role for role in policy.roles if role not in of_loop.roles]:
        raise RecipeError(
            "loop.policy",
            f"{policy.name} chooses from {' and '.join(unsampled)}, which the loop with "
            f"{of_loop.name} never sampled",
            "run the recipe with the policy that needs them",
        )
    state = stored.with_pairs_of(changed)
    waiting = [_make(state, iteration, progress) for iteration in range(recipe.loop.iterations)]
    if all(waiting):
        raise RecipeError(
            "--lake",
            f"{lake.root} holds no iteration with scores (waits for {waiting[0]})",
            "run the recipe first",
        )
    state.save_caches()
    return state


def _make(state: RecipeState, iteration: int, progress: Progress) -> str | None:
    """Make the pairs of one iteration. Returns what it waits for, if it is not complete."""
    step = Step("pairs", iteration, phase=SECOND)
    located = locate_step(state, step)
    found = count_step(state, located)
    if found.waits_for:
        progress.say(f"  {step.label}: waits for {found.waits_for}, left out")
        return found.waits_for
    if not found.done:
        with folder_of(found).lock(f"factory pairs of {state.recipe.name}", progress.say):
            if not count_step(state, located).done:
                make_pairs(state, found, progress)
        inspect_step(state, step)
    return None


def write_build(state: RecipeState, name: str) -> Path:
    """Write the dataset of a build. Its folder is named by recipe, build, and content."""
    return write_dataset(state, f"{state.recipe.name}-{name}")
