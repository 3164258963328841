"""Other sets of pairs from what a lake holds: no model is asked and nothing is trained.

A build is what the loop's own pairs are, rows of `pairs` in a folder named by what decides them; a
change that the loop already made is found and not made again.
"""

import copy
import os
import re
from collections.abc import Sequence
from pathlib import Path

from factory.errors import RecipeError
from factory.export import write_dataset
from factory.lake import Lake
from factory.pairs import SECOND, load_policy
from factory.plan import RecipeState, Step, folder_of, read_state
from factory.progress import Progress
from factory.recipe import Recipe
from factory.run.tabular import make_pairs

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def check_changes(overrides: Sequence[str]) -> list[str]:
    """Those of the overrides that are not about the choice of pairs, but about how it is made.
    Raises RecipeError where there are others."""
    of_run = [override for override in overrides if override.startswith("query_memory=")]
    for override in overrides:
        field = override.partition("=")[0]
        chooses = field in ("pairs", "loop.policy") or field.startswith("pairs.")
        if not chooses and override not in of_run:
            raise RecipeError(
                f"--set {override}: a build chooses among what the lake holds: expected pairs.…, "
                "loop.policy or query_memory; other fields are for `factory run`"
            )
    return of_run


def build(
    recipe: Recipe, changed: Recipe, lake: Lake, name: str, progress: Progress
) -> RecipeState:
    """Makes the pairs that `changed` asks for, of the samples and scores that `recipe`'s loop made.

    The survey that it gives has them in the place of the loop's own. Raises RecipeError where the
    changed policy chooses from roles that were never sampled, or where no iteration is complete.
    """
    if not _NAME.fullmatch(name):
        raise RecipeError(
            f"--name {name}: expected lower-case letters, digits, -, _ and ., a letter or digit "
            "first"
        )
    held = read_state(recipe, lake)
    policy, loops = load_policy(changed), held.policy
    if strange := [role for role in policy.roles if role not in loops.roles]:
        raise RecipeError(
            f"loop.policy: {policy.name} chooses from {' and '.join(strange)}, which the loop with "
            f"{loops.name} never sampled: run the recipe with the policy that needs them"
        )
    survey = copy.copy(held)
    survey.recipe = held.recipe.model_copy(
        update={
            "pairs": changed.pairs,
            "loop": held.recipe.loop.model_copy(update={"policy": changed.loop.policy}),
        }
    )
    survey.policy = policy
    survey.check_expressions()
    survey.found = dict(held.found)
    waiting = [_make(survey, iteration, progress) for iteration in range(recipe.loop.iterations)]
    if all(waiting):
        raise RecipeError(
            f"the lake {lake.root} holds no iteration with scores (waits for {waiting[0]}): run "
            "the recipe first"
        )
    survey.save_memo()
    return survey


def _make(survey: RecipeState, iteration: int, progress: Progress) -> str | None:
    """Makes the pairs of one iteration; what it waits for, where it is not complete."""
    step = Step("pairs", iteration, phase=SECOND)
    found = survey.look(step)
    if found.waits_for:
        progress.say(f"  {step.label}: waits for {found.waits_for}, left out")
        return found.waits_for
    if not found.done:
        holder = f"process {os.getpid()} (factory pairs of {survey.recipe.name})"
        with folder_of(found).lock(holder, lambda other: progress.say(f"  waiting for {other}")):
            if not survey.look(step).done:
                make_pairs(survey, found, progress)
        survey.look(step)
    return None


def write_build(survey: RecipeState, name: str) -> Path:
    """The dataset of a build; its folder is named by the recipe, the build and its content."""
    return write_dataset(survey, f"{survey.recipe.name}-{name}")
