"""Check the SQL of a recipe: the expressions over its judges, and the user's own policy."""

from collections.abc import Mapping
from itertools import combinations

from factory.errors import QueryError, RecipeError
from factory.lake import Views, check_expression
from factory.pairs import PLAIN_SCORES, Choice, check_policy, define_policy, named_columns
from factory.recipe import JUDGE, Recipe
from factory.stages import Rubric

_EXPECTED = {
    "score": ("a number", "DOUBLE DECIMAL FLOAT INTEGER BIGINT HUGEINT"),
    "chosen_if": ("true or false", "BOOLEAN"),
    "rejected_if": ("true or false", "BOOLEAN"),
}
"""The result that the SQL of each field of `pairs` must have, and the DuckDB types that qualify."""


def check_expressions(choice: Choice) -> None:
    """Check the SQL expressions in the recipe's `pairs` section.

    Raises RecipeError if an expression cannot be evaluated, has the wrong type, or names a score
    that no judge produces.
    """
    spec, recipe = choice.recipe.pairs, choice.recipe
    written = {
        field: text
        for field in _EXPECTED
        if (text := getattr(spec, field)) is not None and text not in PLAIN_SCORES
    }
    if not written and not choice.combines:
        return
    with Views(readable=[]) as views:
        for field, text in written.items():
            _check_type(views, choice, field, text)
            _check_expected_scores(recipe, field, text)
        if not choice.score_judges:
            raise RecipeError(
                "pairs.score",
                f"the expression {spec.score!r} does not use any judge",
                "set pairs.score to mean, expected, or a SQL expression that uses one of these "
                "judges: " + ", ".join(recipe.all_judges),
            )
        if choice.combines:
            views.read_only(choice.queries["decisions"])


def _check_type(views: Views, choice: Choice, field: str, text: str) -> None:
    """Raise RecipeError if an expression cannot be evaluated or has the wrong type."""
    what, types = _EXPECTED[field]
    try:
        check_expression(text)
        got = [str(kind) for kind in views.read_only(choice.evaluated(text)).types]
        fits = len(got) == 1 and got[0].partition("(")[0] in types.split()
        fault = "" if fits else f"the result is of type {' and '.join(got)}"
    except QueryError as error:
        fault = str(error)
    if fault:
        names = ", ".join(choice.recipe.all_judges)
        raise RecipeError(
            f"pairs.{field}",
            f"{text!r}: {fault}",
            f"write a SQL expression that returns {what} and uses some of these judges: {names}",
        )


def _check_expected_scores(recipe: Recipe, field: str, text: str) -> None:
    """Raise RecipeError if an expression reads expected scores that its judge does not produce."""
    columns = named_columns(text)
    for name, judge in recipe.all_judges.items():
        wanted = {f"{name}_expected", *(["expected_score"] if name == JUDGE else [])} & columns
        if wanted and not (judge.expected_score and judge.has_rubric):
            raise RecipeError(
                f"pairs.{field}",
                f"the expression uses {min(wanted)}, but {recipe.field_of(name)} does not compute "
                "expected scores",
                f"set {recipe.field_of(name)}.expected_score to true (the judge must have a model "
                "and a rubric)",
            )


def check_policy_query(choice: Choice) -> None:
    """Check a user's own pair policy on empty views.

    Raises RecipeError if the file is not a single query, names an unknown column, or lacks one of
    the columns of a pair.
    """
    if choice.policy.is_own:
        with Views(readable=[]) as views:
            define_policy(views, choice)
            check_policy(views, choice.policy)


def check_opponents(recipe: Recipe, rubrics: Mapping[str, Rubric | None]) -> None:
    """Check that no two judges differ only in the setting `opponents`.

    Judges that do not compare answers are ignored. Raises RecipeError if two judges differ only in
    this setting, because they would share their judgments.
    """
    compare = {
        name: judge
        for name, judge in recipe.all_judges.items()
        if (rubric := rubrics[name]) and rubric.compares
    }
    for (one, a), (two, b) in combinations(compare.items(), 2):
        if a != b and a == b.model_copy(update={"opponents": a.opponents}):
            raise RecipeError(
                f"{recipe.field_of(two)}.opponents",
                f"the judges {one} and {two} differ only in the setting `opponents`",
                "remove one of these two judges",
            )
