"""Open what a recipe points to: its models, rubrics, functions, and pair policy.

Reads model folders and files beside the recipe, and no table of the lake.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from factory.functions import Function, find_function
from factory.lake import Lake
from factory.models import Checkpoint, adapter_rank, declared_checkpoint, open_checkpoint
from factory.pairs import Choice, Policy, load_policy, make_choice
from factory.plan.expressions import check_expressions, check_opponents
from factory.plan.step import Step
from factory.recipe import JUDGE, PROBE, REFERENCE, Judge, OpenaiEngine, Recipe, resolved
from factory.stages import Rubric, adapter_fields, load_rubric

DIGESTS = "digests.json"
"""Cache in the lake: SHA-256 of model files by device, inode, size, and time."""


@dataclass(frozen=True)
class OpenedRecipe:
    """A recipe with everything that it points to. Never changes."""

    recipe: Recipe
    """The recipe, with the sampling settings that the models' generation_config decides."""
    written: Recipe
    """The recipe as it was written."""
    lake: Lake
    policy: Policy
    choice: Choice
    models: Mapping[str, Checkpoint]
    """M_0 and the judges that have a model of their own, by name."""
    rubrics: Mapping[str, Rubric | None]
    """Rubrics by judge name; None for a judge that returns a number."""
    functions: Mapping[str, Function | None]
    """Judges that are functions, by judge name."""
    digests: dict[str, str] = field(default_factory=dict, compare=False)

    def section(self, step: Step) -> Judge | None:
        """The recipe's section of a step's judge; None for the probe, which only has a function."""
        return self.recipe.all_judges.get(step.judge_name)

    def reading(self, step: Step) -> tuple[Rubric | None, tuple[float, float] | None]:
        """How a step's judgments are read: a rubric's parser, or numbers within a scale."""
        section = self.section(step)
        return self.rubrics[step.judge_name], section.scale if section else None

    def n_draws(self, step: Step) -> int:
        """Samples per prompt."""
        if step.role == PROBE and self.recipe.probe:
            return self.recipe.probe.draws
        return 1 if step.role == REFERENCE else self.recipe.sampling.draws

    def n_judge_draws(self, step: Step) -> int:
        """Judgments per sample; per comparison, the judgments of both orders."""
        section = self.section(step)
        orders = 1 if self.opponents(step) is None else 2
        return orders * section.n_draws if section else 1

    def opponents(self, step: Step) -> int | None:
        """How many answers a step's judge compares each answer with; None if it compares none."""
        section, rubric = self.section(step), self.rubrics.get(step.judge_name)
        return section.opponents if section and rubric and rubric.compares else None

    def judge_title(self, step: Step) -> str:
        """The judge's title in `panel`: its name in `judges`, else the model that judges."""
        if step.judge_name in (JUDGE, PROBE):
            return step.judge or "function"
        return step.judge_name

    @property
    def counts_references(self) -> bool:
        """Whether references have a length, in M_0's tokens. A scripted model has no tokenizer."""
        return self.recipe.engine.name != "scripted"

    def with_pairs_of(self, changed: Recipe) -> "OpenedRecipe":
        """The same models and judges, with another recipe's choice of pairs.

        Raises RecipeError if its expressions over the judges cannot be evaluated.
        """
        loop = self.recipe.loop.model_copy(update={"policy": changed.loop.policy})
        recipe = self.recipe.model_copy(update={"pairs": changed.pairs, "loop": loop})
        policy = load_policy(changed)
        opened = replace(self, recipe=recipe, policy=policy, choice=make_choice(recipe, policy))
        check_expressions(opened.choice)
        return opened


def open_recipe(recipe: Recipe, lake: Lake, *, download: bool = False) -> OpenedRecipe:
    """Open what a recipe points to, and check it.

    Raises a UserError if a model, rubric, function, policy, or expression cannot be used.
    """
    digests = lake.load_json(DIGESTS)
    first = open_checkpoint("M_0", recipe.model, recipe, digests, field="model", download=download)
    if lake.root.is_dir():
        lake.save_json(DIGESTS, digests)
    models = {"M_0": first, **_open_judges(recipe, digests, download=download)}
    whole = _resolve(recipe, models)
    policy = load_policy(whole)
    opened = OpenedRecipe(
        whole,
        recipe,
        lake,
        policy,
        make_choice(whole, policy),
        models,
        _load_rubrics(whole),
        _find_functions(whole),
        digests,
    )
    check_expressions(opened.choice)
    check_opponents(whole, opened.rubrics)
    return opened


def _open_judges(
    recipe: Recipe, digests: dict[str, str], *, download: bool
) -> dict[str, Checkpoint]:
    """Judges with a model of their own, by the names of these models."""
    models: dict[str, Checkpoint] = {}
    for name, judge in recipe.all_judges.items():
        if not judge.has_model or recipe.model_of_judge(name) != name:
            continue
        if judge.declared is not None:
            assert isinstance(judge.engine, OpenaiEngine), "the recipe was checked for it"
            models[name] = declared_checkpoint(name, judge.declared, judge.engine)
            continue
        model = judge.model or judge.reward_model
        assert model is not None, "a judge with a model of its own names it"
        section = f"{recipe.field_of(name)}.{'reward_model' if judge.reward_model else 'model'}"
        models[name] = open_checkpoint(
            name, model, recipe, digests, field=section, download=download
        )
    return models


def _resolve(recipe: Recipe, models: Mapping[str, Checkpoint]) -> Recipe:
    """The recipe with what the models' generation_config decides where it is silent."""
    stated = {"sampling": models["M_0"].generation_config}
    for name, judge in recipe.all_judges.items():
        own = recipe.model_of_judge(name) if judge.has_model else "M_0"
        stated[name] = models[own].generation_config
    return resolved(recipe, stated)


def _load_rubrics(recipe: Recipe) -> dict[str, Rubric | None]:
    rubrics: dict[str, Rubric | None] = {PROBE: None}
    for name, judge in recipe.all_judges.items():
        rubrics[name] = load_rubric(judge, recipe.folder) if judge.has_rubric else None
    return rubrics


def _find_functions(recipe: Recipe) -> dict[str, Function | None]:
    names = {name: judge.function for name, judge in recipe.all_judges.items()}
    names[PROBE] = recipe.probe.function if recipe.probe else None
    return {
        judge: find_function(name, recipe.folder) if name else None for judge, name in names.items()
    }


def largest_rank(recipe: Recipe, models: Mapping[str, Checkpoint], name: str) -> int:
    """The largest LoRA rank that the engine of a model has to hold; 0 if it holds no adapter."""
    judges = recipe.all_judges.keys()
    together = [name] if name in judges else models.keys() - judges
    adapters = [adapter for each in together if (adapter := models[each].adapter)]
    ranks = [adapter_rank(adapter) for adapter in adapters]
    fields = adapter_fields(recipe.train)
    if fields is not None and recipe.one_engine and name not in judges:
        ranks += [fields["r"], *(fields.get("rank_pattern") or {}).values()]
    return max(ranks, default=0)
