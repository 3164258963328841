"""Create a recipe's SQL views, which `factory sql` and dataset exports use."""

from factory.lake import Folder, Views, load_query
from factory.plan.recipe_state import RecipeState

PUBLIC_VIEWS = (
    "prompts",
    "samples",
    "judgments",
    "verdicts",
    "scores",
    "candidates",
    "pairs",
    "final_pairs",
    "models",
    "roles",
    "panel",
    "judges",
    "judge_scores",
    "gaps",
)
"""Names of the views that users can query, in the order in which a run produces their rows."""


def all_views(state: RecipeState) -> Views:
    """Create all SQL views of a recipe. Views opened earlier can no longer be used."""
    views = state.views(state.everything)
    builds = [
        found.folder
        for step, found in state.steps.items()
        if step.stage == "pairs" and found.folder
    ]
    views.register_shards("pairs", "pairs", [path for each in builds for path in each.shards()])
    views.define("pairs", load_query("lake/pairs"))
    views.define("final_pairs", final_pairs(state.policy.final_phase))
    views.register("models", state.models_table())
    views.define("candidates", state.opened.choice.candidates)
    for name in ("judges", "gaps"):
        views.define(name, load_query(f"lake/{name}"))
    return views


def final_pairs(phase: str) -> str:
    """Return the SQL of the view `final_pairs`, which has the pairs of the final phase."""
    return load_query("lake/final_pairs").with_values({"phase": phase})


def count_outcomes(state: RecipeState, folder: Folder) -> dict[str, int]:
    """Return the number of pairs for each outcome in a folder.

    The most frequent outcome comes first.
    """
    views = state.views()
    views.register_shards("pairs", "pairs", folder.shards())
    rows = views.all(load_query("plan/outcomes"))
    return {str(row["outcome"]): int(row["pairs"]) for row in rows}
