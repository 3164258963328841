"""Check the recipe's SQL expressions over its judges, before anything is generated."""

from collections.abc import Mapping
from itertools import combinations

from factory.errors import QueryError, RecipeError
from factory.lake import Views
from factory.pairs import PLAIN_SCORES, Choice, named_columns
from factory.recipe import JUDGE, Recipe
from factory.stages import Rubric

_EXPECTED = {
    "score": ("a number over the judges", "DOUBLE DECIMAL FLOAT INTEGER BIGINT HUGEINT"),
    "chosen_if": ("a condition over the judges", "BOOLEAN"),
    "rejected_if": ("a condition over the judges", "BOOLEAN"),
}
"""By field of `pairs`: what its expression has to be, and the DuckDB types that are."""


def check_expressions(choice: Choice) -> None:
    """Raises RecipeError if an expression of `pairs` cannot be evaluated, has the wrong type, or
    names a score that no judge produces."""
    spec, recipe = choice.recipe.pairs, choice.recipe
    written = {
        field: text
        for field in _EXPECTED
        if (text := getattr(spec, field)) is not None and text not in PLAIN_SCORES
    }
    if not written and not choice.combines:
        return
    with Views() as views:
        for field, text in written.items():
            _check_type(views, choice, field, text)
            _check_expected_scores(recipe, field, text)
        if not choice.score_judges:
            raise RecipeError(
                "pairs.score",
                f"{spec.score!r} names no judge",
                "expected mean, expected, or an expression over " + ", ".join(recipe.all_judges),
            )
        if choice.combines:
            views.read_only(choice.queries["decisions"])


def _check_type(views: Views, choice: Choice, field: str, text: str) -> None:
    what, types = _EXPECTED[field]
    try:
        got = str(views.read_only(choice.evaluated(text)).types[0])
        fault = "" if got.partition("(")[0] in types.split() else f"is of type {got}"
    except QueryError as error:
        fault = str(error)
    if fault:
        names = ", ".join(choice.recipe.all_judges)
        raise RecipeError(
            f"pairs.{field}", f"{text!r}: {fault}", f"expected SQL for {what} ({names})"
        )


def _check_expected_scores(recipe: Recipe, field: str, text: str) -> None:
    """Raises RecipeError if an expression reads expected scores that a judge does not produce."""
    columns = named_columns(text)
    for name, judge in recipe.all_judges.items():
        wanted = {f"{name}_expected", *(["expected_score"] if name == JUDGE else [])} & columns
        if wanted and not (judge.expected_score and judge.has_rubric):
            raise RecipeError(
                f"pairs.{field}",
                f"names {min(wanted)}, but {recipe.field_of(name)} makes no expected scores",
                "set its expected_score: true, which takes a judge that is a model with a rubric",
            )


def check_opponents(recipe: Recipe, rubrics: Mapping[str, Rubric | None]) -> None:
    """Raises RecipeError if two judges differ in nothing but their opponents: they would share
    their judgments."""
    compare = {
        name: judge
        for name, judge in recipe.all_judges.items()
        if (rubric := rubrics[name]) and rubric.compares
    }
    for (one, a), (two, b) in combinations(compare.items(), 2):
        if a != b and a == b.model_copy(update={"opponents": a.opponents}):
            raise RecipeError(
                f"{recipe.field_of(two)}.opponents",
                f"{two} differs from {one} in nothing else",
                "remove one of them",
            )
