"""Open and check a recipe's models, rubrics, functions, and pair policy.

This module reads model folders and files next to the recipe. It reads no table of the lake.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from factory.errors import MissingModel
from factory.functions import Function, find_function
from factory.lake import Lake
from factory.models import Checkpoint, adapter_rank, declared_checkpoint, open_checkpoint
from factory.pairs import Choice, Policy, load_policy, make_choice
from factory.plan.expressions import check_expressions, check_opponents, check_policy_query
from factory.plan.step import Step
from factory.recipe import JUDGE, PROBE, REFERENCE, Judge, OpenaiEngine, Recipe, resolved
from factory.stages import Rubric, adapter_fields, load_rubric

DIGESTS = "digests.json"
"""Cache file in the lake: SHA-256 digests of model files by device, inode, size, and time."""

Wanted = Literal["all", "here", "none"]
"""Which models to open: all of them, those on this machine, or none."""


@dataclass(frozen=True)
class OpenedRecipe:
    """A recipe with its opened models, rubrics, functions, and pair policy. It is immutable."""

    recipe: Recipe
    """The recipe. Sampling settings that it leaves out come from the models' generation_config."""
    written: Recipe
    """The recipe as its author wrote it."""
    lake: Lake
    policy: Policy
    choice: Choice
    models: Mapping[str, Checkpoint]
    """M_0 and the judges' own models, by name, without the missing models."""
    rubrics: Mapping[str, Rubric | None]
    """Rubrics by judge name; None for a judge that returns a number."""
    functions: Mapping[str, Function | None]
    """Python functions by judge name; None for a judge that is a model."""
    missing: Mapping[str, MissingModel] = field(default_factory=dict)
    """Errors for M_0 and the judges' own models whose files are not on this machine, by name."""
    digests: dict[str, str] = field(default_factory=dict, compare=False)

    def section(self, step: Step) -> Judge | None:
        """Return the recipe section of a step's judge, or None if the judge is the probe's
        function."""
        return self.recipe.all_judges.get(step.judge_name)

    def reading(self, step: Step) -> tuple[Rubric | None, tuple[float, float] | None]:
        """Return the rubric and the score scale that the recipe sets for a step's judge.

        Each is None if the judge has none.
        """
        section = self.section(step)
        return self.rubrics[step.judge_name], section.scale if section else None

    def n_draws(self, step: Step) -> int:
        """Return the number of samples per prompt in a step."""
        if step.role == PROBE and self.recipe.probe:
            return self.recipe.probe.draws
        return 1 if step.role == REFERENCE else self.recipe.sampling.draws

    def n_judge_draws(self, step: Step) -> int:
        """Return the number of judgments per sample, or per pair of compared samples.

        A comparison is judged in both orders.
        """
        section = self.section(step)
        orders = 1 if self.opponents(step) is None else 2
        return orders * section.n_draws if section else 1

    def opponents(self, step: Step) -> int | None:
        """Return the number of opponents per answer, or None if the judge compares no answers."""
        section, rubric = self.section(step), self.rubrics.get(step.judge_name)
        return section.opponents if section and rubric and rubric.compares else None

    def judge_title(self, step: Step) -> str:
        """Return the title of a step's judge in the `panel` view.

        This is the judge's name in `judges`. For `judge` and the probe, it is the name of the
        model, or `function`.
        """
        if step.judge_name in (JUDGE, PROBE):
            return step.judge or "function"
        return step.judge_name

    @property
    def counts_references(self) -> bool:
        """Whether the tokenizer of the base model M_0 counts the tokens of reference answers.

        A scripted model and a model that is only on a server have no tokenizer to count with.
        """
        return self.recipe.engine.name != "scripted" and self.models["M_0"].declared is None

    def with_pairs_of(self, changed: Recipe) -> "OpenedRecipe":
        """Return a copy of this recipe with the policy and `pairs` section of another recipe.

        Models and judges stay the same. Raises RecipeError if the policy or an expression of
        `pairs` cannot be evaluated.
        """
        loop = self.recipe.loop.model_copy(update={"policy": changed.loop.policy})
        recipe = self.recipe.model_copy(update={"pairs": changed.pairs, "loop": loop})
        policy = load_policy(changed)
        opened = replace(self, recipe=recipe, policy=policy, choice=make_choice(recipe, policy))
        check_expressions(opened.choice)
        check_policy_query(opened.choice)
        return opened


def open_recipe(
    recipe: Recipe, lake: Lake, *, download: bool = False, models: Wanted = "all"
) -> OpenedRecipe:
    """Open and check the models, rubrics, functions, and pair policy of a recipe.

    `download` fetches models that are missing from the Hub's cache. `models` selects the models to
    open. Raises MissingModel if `models` is "all" and a model is missing. Raises another UserError
    if a model, rubric, function, policy, or expression cannot be used.
    """
    digests = lake.load_json(DIGESTS)
    opened_models: dict[str, Checkpoint] = {}
    missing: dict[str, MissingModel] = {}
    for name in _own_models(recipe) if models != "none" else ():
        try:
            opened_models[name] = _open_model(recipe, name, digests, download=download)
        except MissingModel as error:
            if models == "all":
                raise
            missing[name] = error
    if lake.has_rows:
        lake.save_json(DIGESTS, digests)
    whole = _resolve(recipe, opened_models)
    policy = load_policy(whole)
    opened = OpenedRecipe(
        whole,
        recipe,
        lake,
        policy,
        make_choice(whole, policy),
        opened_models,
        _load_rubrics(whole),
        _find_functions(whole),
        missing,
        digests,
    )
    check_expressions(opened.choice)
    check_policy_query(opened.choice)
    check_opponents(whole, opened.rubrics)
    return opened


def _own_models(recipe: Recipe) -> list[str]:
    """Return the names of M_0 and of the judges' own models."""
    judges = recipe.all_judges.items()
    own = [name for name, judge in judges if judge.has_model]
    return ["M_0", *(name for name in own if recipe.model_of_judge(name) == name)]


def _open_model(
    recipe: Recipe, name: str, digests: dict[str, str], *, download: bool
) -> Checkpoint:
    """Open M_0 or a judge's own model. Raises ModelError if it is missing or cannot be used."""
    if name == "M_0" and recipe.model.declared is not None:
        assert isinstance(recipe.engine, OpenaiEngine), "a server has the model's weights"
        return declared_checkpoint(name, recipe.model.declared, recipe.engine)
    if name == "M_0":
        return open_checkpoint(
            name, recipe.model, recipe, digests, field="model", download=download
        )
    judge = recipe.all_judges[name]
    if judge.declared is not None:
        assert isinstance(judge.engine, OpenaiEngine), (
            "a judge with a declared revision has an openai engine"
        )
        return declared_checkpoint(name, judge.declared, judge.engine)
    model = judge.model or judge.reward_model
    assert model is not None, "the judge has neither model nor reward_model"
    section = f"{recipe.field_of(name)}.{'reward_model' if judge.reward_model else 'model'}"
    return open_checkpoint(name, model, recipe, digests, field=section, download=download)


def _resolve(recipe: Recipe, models: Mapping[str, Checkpoint]) -> Recipe:
    """Return the recipe, completed with the sampling settings of the models' generation_config.

    The settings of a missing model stay as in the recipe.
    """
    judges = {name: recipe.first_model_of_judge(name) for name in recipe.all_judges}
    stated = {"sampling": "M_0", **judges}
    configs = {
        section: models[model].generation_config
        for section, model in stated.items()
        if model in models
    }
    return resolved(recipe, configs)


def _load_rubrics(recipe: Recipe) -> dict[str, Rubric | None]:
    """Return the rubrics by judge name; None for a judge that returns a number."""
    rubrics: dict[str, Rubric | None] = {PROBE: None}
    for name, judge in recipe.all_judges.items():
        rubrics[name] = load_rubric(judge, recipe.folder) if judge.has_rubric else None
    return rubrics


def _find_functions(recipe: Recipe) -> dict[str, Function | None]:
    """Return the judges' Python functions by judge name; None for a judge that is a model."""
    names = {name: judge.function for name, judge in recipe.all_judges.items()}
    names[PROBE] = recipe.probe.function if recipe.probe else None
    return {
        judge: find_function(name, recipe.folder) if name else None for judge, name in names.items()
    }


def largest_rank(recipe: Recipe, models: Mapping[str, Checkpoint], name: str) -> int:
    """Return the largest LoRA rank that a model's engine must support, or 0 if none is needed."""
    judges = recipe.all_judges.keys()
    together = {name} & models.keys() if name in judges else models.keys() - judges
    adapters = [adapter for each in together if (adapter := models[each].adapter)]
    ranks = [adapter_rank(adapter) for adapter in adapters]
    fields = adapter_fields(recipe.train)
    if fields is not None and recipe.one_engine and name not in judges:
        ranks += [fields["r"], *(fields.get("rank_pattern") or {}).values()]
    return max(ranks, default=0)
