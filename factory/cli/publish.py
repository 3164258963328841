"""`factory publish`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.cli.ending import write_rows_before_exit
from factory.cli.options import (
    LAKE,
    Json,
    LakePath,
    Overrides,
    RecipePath,
    open_progress,
    open_recipe,
)
from factory.cli.tables import print_json, print_table

if TYPE_CHECKING:
    from factory.publish import Finding, Pushed


def publish(
    recipe: RecipePath,
    repository: Annotated[
        str, typer.Option("--repo", metavar="ORG/NAME", help="Dataset repository on the Hub")
    ],
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public instead of private")
    ] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="BRANCH", help="Branch instead of main")
    ] = None,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Open a pull request instead of a commit")
    ] = False,
    tag: Annotated[str | None, typer.Option("--tag", help="Tag the commit")] = None,
    dry_run: Annotated[
        Path | None,
        typer.Option("--dry-run", metavar="DIR", help="Write the folder and send nothing"),
    ] = None,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            "--evaluation",
            metavar="FILE",
            help="Benchmark file to check prompts against for contamination (repeatable)",
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow", metavar="CHECK", help="Publish even if this check fails (repeatable)"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Publish the dataset on the Hugging Face Hub

    Sends pairs, candidates, judgments, and the dataset card as one commit. Runs checks first, and
    publishes nothing if one fails. If nothing has changed, it makes no commit. If the push is
    interrupted, run the same command again to finish it.

    Example: factory publish recipes/quickstart/recipe.yaml --repo ORG/NAME --dry-run pairs
    """
    from factory.plan import read_state
    from factory.publish import PublishOptions, push_dataset, write_dry_run

    options = PublishOptions(
        repository, public, revision, create_pr, tag, tuple(allow or ()), tuple(evaluation or ())
    )
    opened, opened_lake = open_recipe(recipe, lake, overrides)
    write_rows_before_exit()
    state = read_state(opened, opened_lake)
    if dry_run is None:
        pushed = push_dataset(state, options, open_progress())
        print_json(vars(pushed)) if as_json else print_push(pushed)
        return
    findings = write_dry_run(state, options, dry_run, open_progress())
    if as_json:
        print_json({"folder": str(dry_run), "checks": [vars(finding) for finding in findings]})
    else:
        print_dry_run(findings, dry_run)


def print_dry_run(findings: "list[Finding]", folder: Path) -> None:
    """Print the results of the checks, and the folder that would be pushed."""
    rows = [
        {"check": finding.name, "looked for": finding.what, "found": finding.n}
        for finding in findings
        if finding.looked
    ]
    print_table(rows, "The gate")
    print(f"\nThe folder that would be pushed; nothing was sent: {folder}")


def print_push(pushed: "Pushed") -> None:
    """Print the commit, or that there was nothing to commit."""
    if not pushed.changed:
        print(f"Nothing has changed, so there is no commit: {pushed.url}")
        return
    visibility = "private" if pushed.private else "public"
    article = "a new" if pushed.made else "a"
    deleted = f", {pushed.deleted:,} deleted" if pushed.deleted else ""
    print(
        f"Published in {article} {visibility} repository, one commit: {pushed.files:,} files with "
        f"{pushed.size:,} bytes{deleted}\n{pushed.url}"
    )
