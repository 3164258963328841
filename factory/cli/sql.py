"""`factory sql`."""

from typing import Annotated

import typer

from factory.cli.options import LAKE, LakePath, Overrides, RecipePath, open_recipe
from factory.cli.tables import FORMATS, print_rows
from factory.errors import QueryError


def sql(
    recipe: RecipePath,
    query: Annotated[
        str | None,
        typer.Argument(metavar="QUERY", help="One query that reads, or the name of a named query"),
    ] = None,
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    output: Annotated[
        str, typer.Option("--format", help="table, csv, json, or parquet, on standard output")
    ] = "table",
    list_queries: Annotated[
        bool, typer.Option("--list", help="List the named queries and what each shows")
    ] = False,
) -> None:
    """Query the rows of a recipe in the lake

    Views: prompts, samples, judgments, verdicts, scores, pairs, models, roles, panel (the judges of
    each role), judges, judge_scores, candidates (samples with their roles and scores), and gaps
    (the score gap per iteration and phase). Without a query it opens a prompt, or reads queries
    from standard input.

    Example: factory sql recipes/quickstart/recipe.yaml score_gap
    """
    from factory.cli.console import print_named_queries, run_console
    from factory.lake import query_text
    from factory.plan import PUBLIC_VIEWS, all_views, read_state

    if output not in FORMATS:
        raise QueryError("--format", f"got {output}", f"expected one of {', '.join(FORMATS)}")
    if list_queries:
        print_named_queries(output)
        return
    text = None if query is None else query_text(query, PUBLIC_VIEWS)
    views = all_views(read_state(*open_recipe(recipe, lake, overrides)))
    if text is None:
        run_console(views, output)
    else:
        print_rows(views.answer(text), output)
