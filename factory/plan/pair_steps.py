"""Find the lake folders of steps that choose pairs or train models, and count the pairs."""

from dataclasses import asdict, replace

from factory.fingerprint import file_digest, folder_key, short_hash
from factory.lake import Folder, PromptFields, Row, Scope, Views, find_prompt_fields, load_query
from factory.models import trained_model
from factory.pairs import PAIRS_VERSION
from factory.plan.inputs import n_rows, waits
from factory.plan.recipe_state import RecipeState
from factory.plan.state import StepState, folder_of
from factory.plan.step import Step
from factory.stages import (
    TRAINING_VERSION,
    possible_files,
    training_settings,
)


def locate_pairs(state: RecipeState, step: Step, _: int | None) -> StepState:
    """Find the lake folder for the pairs that a step chooses.

    Its key covers the candidates, their scores, and the choice of pairs.
    """
    if waits_for := waits(state, step):
        return StepState(step, waits_for=waits_for)
    choice, scope = state.opened.choice, state.phase_scope(step)
    rows = _digest_rows(state, "rows_read", step, scope)
    if choice.combines:
        rows += " " + _digest_rows(state, "rows_judged", step, scope)
    if choice.policy.is_own:  # a user's query may read more than the candidates
        rows += state.stored.shard_names(scope)
    judge = state.score_digests(step)
    settings = choice.build_settings(step.iteration, step.phase, judge, rows)
    folder = state.lake.folder("pairs", folder_key("pairs", PAIRS_VERSION, settings))
    return StepState(step, folder, settings)


def _digest_rows(state: RecipeState, query: str, step: Step, scope: Scope) -> str:
    """Return the digest that a query of this package computes over the rows of a scope, cached."""
    place = f"{query} {step.iteration} {step.phase}"
    row = state.recall(place, scope, lambda views: views.one(load_query(f"plan/{query}")))
    return str(row["digest"])


def count_pairs(state: RecipeState, located: StepState, _: int | None) -> StepState:
    """Count the pairs that a step has stored."""
    shards = folder_of(located).shards()
    stored = n_rows(shards)
    wanted = stored if shards else max(1, state.count_prompts(located.step, None))
    return replace(located, wanted=wanted, answered=stored)


def locate_training(state: RecipeState, step: Step, _: int | None) -> StepState:
    """Find the lake folder for the model that a step trains.

    Its key covers the parent model, the training pairs, and the settings.
    """
    built = state.steps[Step("pairs", step.iteration, phase=step.phase)]
    if built.folder is None or not built.done:
        return StepState(step, waits_for=built.waits_for or f"pairs {step.phase}", wanted=1)
    views = state.views()
    views.register_shards("pairs", "pairs", built.folder.shards())
    pair_ids = short_hash(views.one(load_query("plan/training_pair_ids"))["pair_ids"])
    recipe, method = state.recipe, state.policy.trains
    files = {
        word: file_digest(file)
        for word in possible_files(recipe.train, method)
        if (file := recipe.file_beside(word))
    }
    parent = state.models[step.parent].digest
    settings = training_settings(
        recipe.train,
        method,
        parent,
        pair_ids,
        recipe.seed,
        files,
        trained_prompt_fields(state, built.folder).names,
    )
    folder = state.lake.folder("models", folder_key("train", TRAINING_VERSION, settings))
    return StepState(step, folder, settings, wanted=1)


def loop_prompt_fields(state: RecipeState) -> PromptFields:
    """Return the fields beyond role and content that some prompts of the loop have."""

    def compute(views: Views) -> Row:
        return asdict(find_prompt_fields(views, "from prompts where split != 'probe'"))

    return PromptFields(**state.recall("prompt_fields", Scope(), compute))


def trained_prompt_fields(state: RecipeState, build: Folder) -> PromptFields:
    """Return the fields beyond role and content that some prompts of a training have.

    `build` is the folder of its pairs.
    """
    if not loop_prompt_fields(state):
        return PromptFields()
    views = state.views()
    views.register_shards("pairs", "pairs", build.shards())
    trained = "select prompt_id from pairs_shards where outcome = 'kept' and split = 'train'"
    return find_prompt_fields(views, f"from prompts semi join ({trained}) using (prompt_id)")


def count_training(state: RecipeState, located: StepState, _: int | None) -> StepState:
    """Read the manifest of a training, and record the model if the training is finished."""
    step = located.step
    folder = folder_of(located).path
    model = trained_model(step.name, folder, state.models["M_0"], state.recipe)
    if model is None:
        state.models.pop(step.name, None)
        return located
    state.models[step.name] = model
    return replace(located, answered=1)
