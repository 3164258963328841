"""The `factory sql` command."""

from typing import Annotated

import typer

from factory.cli.options import LAKE, LakePath, Overrides, RecipePath, open_recipe
from factory.cli.tables import FORMATS, print_rows
from factory.errors import QueryError
from factory.texts import say


def sql(
    recipe: RecipePath,
    query: Annotated[
        str | None,
        typer.Argument(metavar="QUERY", help="SQL query, or the name of a named query"),
    ] = None,
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    output: Annotated[
        str, typer.Option("--format", help="Output format: table, csv, json, or parquet")
    ] = "table",
    list_queries: Annotated[
        bool, typer.Option("--list", help="List the named queries with an explanation of each")
    ] = False,
) -> None:
    """Run SQL queries on a recipe's tables.

    Views: prompts, samples, judgments, verdicts, scores, pairs, models, roles, panel (the judges of
    each role), judges, judge_scores, candidates (samples with their roles and scores), and gaps
    (the score gap per iteration and phase). Without a query, it opens an interactive prompt, or
    reads queries from standard input.

    Example: factory sql recipes/quickstart/recipe.yaml score_gap
    """
    if output not in FORMATS:
        raise QueryError("--format", f"got {output}", f"expected one of {', '.join(FORMATS)}")
    if list_queries:
        from factory.api import named_queries

        print_rows(named_queries().to_arrow(), output, shorten=False)
        return
    opened = open_recipe(recipe, lake, overrides)
    if query is None:
        from factory.cli.console import run_console

        run_console(opened.views(), output)
    else:
        found = opened.sql(query)
        print_rows(found.to_arrow(), output)
        if found.hint:
            say(found.hint, error=True)
