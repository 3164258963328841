"""Choose alternative sets of pairs from stored samples and scores, without calling a model.

Such a set of pairs is called a build. It is stored like the loop's own pairs, in a folder whose key
hashes everything that affects the pairs. A build that is already stored is reused.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from factory.errors import Argument, RecipeError
from factory.export import write_dataset
from factory.lake import Lake
from factory.pairs import load_policy
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
    """Return the overrides of `factory pairs` that do not affect which pairs are chosen.

    Raises RecipeError for an override that a build cannot apply.
    """
    of_run = [override for override in overrides if override.startswith("query_memory=")]
    for override in overrides:
        field = override.partition("=")[0]
        chooses = field in ("pairs", "loop.policy") or field.startswith("pairs.")
        if not chooses and override not in of_run:
            raise RecipeError(
                Argument(f"set {override}"),
                "`factory pairs` cannot change this field, because the answers and scores are "
                "already stored",
                "use `factory run` to change this field; `factory pairs` accepts only pairs.*, "
                "loop.policy, and query_memory",
            )
    return of_run


def build_pairs(
    recipe: Recipe, changed: Recipe, lake: Lake, name: str, progress: Progress
) -> RecipeState:
    """Choose pairs from a recipe's stored samples and scores, using changed settings.

    `changed` is the recipe with these settings. Returns a state with these pairs instead of the
    loop's own. Raises RecipeError if the changed policy needs roles that the loop never sampled, or
    if no iteration is complete.
    """
    if not _NAME.fullmatch(name):
        raise RecipeError(
            Argument("name"),
            f"got {name}",
            "start the name with a letter or digit, and use only lowercase letters, digits, '-', "
            "'_', and '.'",
        )
    stored = read_state(recipe, lake)
    policy, of_loop = load_policy(changed), stored.policy
    sampled = of_loop.candidates(of_loop.final_phase)
    if unsampled := [role for role in policy.candidates(policy.final_phase) if role not in sampled]:
        raise RecipeError(
            "loop.policy",
            f"the policy {policy.name} needs {' and '.join(unsampled)} answers, but the loop's "
            f"policy {of_loop.name} did not sample them",
            f"first run the recipe with loop.policy={changed.loop.policy}",
        )
    state = stored.with_pairs_of(changed)
    waiting = [_make(state, iteration, progress) for iteration in recipe.loop.numbers]
    if all(waiting):
        raise RecipeError(
            Argument("lake"),
            f"no iteration in {lake.root} is fully scored (the first iteration is waiting for "
            f"{waiting[0]})",
            "run `factory run` first",
        )
    state.save_caches()
    return state


def _make(state: RecipeState, iteration: int, progress: Progress) -> str | None:
    """Choose and store the pairs of one iteration.

    Returns the model or step that the iteration waits for; None if the iteration is complete.
    """
    step = Step("pairs", iteration, phase=state.policy.final_phase)
    located = locate_step(state, step)
    found = count_step(state, located)
    if found.waits_for:
        progress.say(f"  {step.label}: skipped, waits for {found.waits_for}")
        return found.waits_for
    if not found.done:
        with folder_of(found).lock(f"factory pairs of {state.recipe.name}", progress.say):
            if not count_step(state, located).done:
                make_pairs(state, found, progress)
        inspect_step(state, step)
    return None


def write_build(state: RecipeState, name: str) -> Path:
    """Write a dataset from the pairs that `factory pairs` selected.

    The dataset folder is named after the recipe, the build, and the content.
    """
    return write_dataset(state, f"{state.recipe.name}-{name}")
