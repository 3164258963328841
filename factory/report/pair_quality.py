"""Figures that show what the score gap of the pairs means, and remarks on weak pairs."""

from collections.abc import Iterator

from factory.lake import Row, shipped_queries
from factory.pairs import PLAIN_SCORES
from factory.plan import RecipeState, all_views
from factory.recipe import JUDGE, Recipe
from factory.report.tables import Rows

OFTEN = 0.05
"""Minimum share of truncated answers for a remark. The pre-publish check `truncated` has the same
limit."""

MANY = 0.1
"""Minimum share of prompts with one distinct answer for a remark (our choice)."""


def quality(state: RecipeState) -> Rows:
    """Return the figures of the named query `pair_quality`, one row per iteration and phase.

    The lake caches the rows, because the query reads every answer and every verdict.
    """
    builds = sorted(
        [folder.key, *sorted(shard.name for shard in folder.shards())]
        for folder in state.folders.values()
        if folder.table == "pairs"
    )

    def compute() -> Row:
        return {"rows": all_views(state).all(shipped_queries()["pair_quality"].sql)}

    depends_on = [builds, state.opened.choice.candidates]
    cached = state.stored.recall("pair_quality", depends_on, state.everything, compute)
    state.save_caches()
    rows: Rows = cached["rows"]
    return rows


def remarks(state: RecipeState, rows: Rows) -> list[str]:
    """Return sentences that describe the scores of the last pairs and weaknesses of all pairs.

    `rows` contains the figures of `pair_quality`.
    """
    return list(_remarks(state, rows)) if rows else []


def _remarks(state: RecipeState, rows: Rows) -> Iterator[str]:
    yield from _scores(state, rows[-1])
    whole = {row["iteration"]: row for row in rows}.values()  # the last phase has all answers
    cut_off = max(whole, key=lambda row: row["truncated_share"] or 0)
    yield from truncation(cut_off["truncated"], cut_off["answers"], state.recipe)
    yield from _same_text(max(whole, key=lambda row: row["same_text_share"] or 0))
    yield from _failures(max(whole, key=lambda row: row["failed"]))
    yield from _consistency(state, rows)


def _scores(state: RecipeState, row: Row) -> Iterator[str]:
    if row["score_sd"] is None:
        return
    rubric = state.opened.rubrics[JUDGE]
    scale = ""
    if rubric and state.recipe.pairs.score in PLAIN_SCORES:
        scale = f" on the rubric's scale of {rubric.scale[0]:g} to {rubric.scale[1]:g}"
    yield (
        f"The scores range from {row['lowest_score']:g} to {row['highest_score']:g}{scale}, with a "
        f"standard deviation of {row['score_sd']:g}."
    )


def truncation(n: int, answers: int, recipe: Recipe) -> Iterator[str]:
    """Yield a remark if `max_tokens` cut off many of a recipe's answers."""
    if answers and n / answers >= OFTEN:
        drop = "" if recipe.pairs.drop_truncated else ", or set pairs.drop_truncated to true"
        yield (
            f"{n:,} of {answers:,} answers ({n / answers:.0%}) were cut off by sampling.max_tokens "
            f"({recipe.sampling.max_tokens:,}): raise it{drop}."
        )


def _same_text(row: Row) -> Iterator[str]:
    if (row["same_text_share"] or 0) >= MANY:
        yield (
            f"All answers to {row['same_text']:,} of {row['prompts']:,} prompts have the same "
            "text: raise sampling.temperature or sampling.draws, or use other prompts."
        )


def _failures(row: Row) -> Iterator[str]:
    if row["failed"]:
        yield (
            f"{row['failed']:,} answers failed and are in no pair: see the column `error` of the "
            "view `samples`."
        )


def _consistency(state: RecipeState, rows: Rows) -> Iterator[str]:
    if any(row["rejudged"] for row in rows):
        return
    recipe, opened = state.recipe, state.opened
    remark = "The judge's consistency between draws was not measured, because"
    names = opened.choice.score_judges
    if any(rubric and rubric.compares for rubric in map(opened.rubrics.get, names)):
        yield f"{remark} it compares answers: run the named query position_bias."
        return
    random = [name for name in names if _is_random(state, name)]
    remedy = f": set {recipe.field_of(random[0])}.draws to 2 or more" if random else ""
    yield f"{remark} each answer was judged once{remedy}."


def _is_random(state: RecipeState, name: str) -> bool:
    """Return whether a judge's draws can differ. A constrained judge writes only a label, so its
    expected score is the same in every draw."""
    judge = state.recipe.all_judges[name]
    is_expected = state.opened.choice.ranks_by(name) == "expected_score"
    return judge.has_rubric and judge.temperature > 0 and not (judge.constrained and is_expected)
