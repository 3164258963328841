"""The `factory publish` command."""

from pathlib import Path
from typing import Annotated, Any

import typer

from factory.cli.ending import write_rows_before_exit
from factory.cli.options import LAKE, Json, LakePath, Overrides, RecipePath, open_recipe
from factory.cli.tables import print_result
from factory.texts import say, say_json


def publish(
    recipe: RecipePath,
    repository: Annotated[
        str, typer.Option("--repo", metavar="ORG/NAME", help="Dataset repository on the Hub")
    ],
    lake: LakePath = LAKE,
    overrides: Overrides = None,
    public: Annotated[
        bool, typer.Option("--public", help="If the repository is new, make it public")
    ] = False,
    private: Annotated[
        bool,
        typer.Option("--private", help="Stop if the repository exists and is public"),
    ] = False,
    branch: Annotated[
        str | None,
        typer.Option("--branch", metavar="NAME", help="Branch to commit to, created if necessary"),
    ] = None,
    pr: Annotated[
        bool,
        typer.Option("--pr", help="Open a pull request, or update the open one"),
    ] = False,
    tag: Annotated[
        str | None,
        typer.Option("--tag", help="Tag of this version, such as v1; never moved"),
    ] = None,
    collection: Annotated[
        str | None,
        typer.Option("--collection", metavar="SLUG", help="Collection to add the dataset to"),
    ] = None,
    dry_run: Annotated[
        Path | None,
        typer.Option(
            "--dry-run",
            metavar="DIR",
            help="Write the files to this folder, show what would happen, and publish nothing",
        ),
    ] = None,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            "--evaluation",
            metavar="FILE",
            help="Benchmark file to check for overlap with the prompts (repeatable)",
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
    """Publish the dataset to the Hugging Face Hub.

    Pushes pairs, candidates, judgments, and the dataset card in one commit. Runs checks first, and
    publishes nothing if a check fails. Makes no commit if nothing has changed. If the push is
    interrupted, run the same command again to finish it.

    Example: factory publish recipes/quickstart/recipe.yaml --repo ORG/NAME --dry-run pairs

    Example: factory publish recipes/quickstart/recipe.yaml --repo ORG/NAME --private --tag v1

    Example: factory publish recipes/quickstart/recipe.yaml --repo ORG/NAME --pr
    """
    opened = open_recipe(recipe, lake, overrides)
    write_rows_before_exit()
    result = opened.publish(
        repository,
        public=public,
        private=private,
        branch=branch,
        pr=pr,
        tag=tag,
        collection=collection,
        evaluation=evaluation or (),
        allow=allow or (),
        dry_run=dry_run,
    )
    if as_json:
        say_json(result.to_dict())
    elif dry_run is None:
        print_push(result.rows[0])
    else:
        print_result(result)


def print_push(pushed: dict[str, Any]) -> None:
    """Print what a push did, or that nothing has changed, and the URL."""
    if pushed["changed"]:
        visibility = "private" if pushed["private"] else "public"
        article = "a new" if pushed["made"] else "a"
        done = f"{pushed['pull'].capitalize()} a pull request" if pushed["pull"] else "Published"
        deleted = f", {pushed['deleted']:,} deleted" if pushed["deleted"] else ""
        say(
            f"{done} in {article} {visibility} repository, one commit: {pushed['files']:,} files "
            f"with {pushed['size']:,} bytes{deleted}\n{pushed['url']}"
        )
    else:
        say(f"Nothing has changed, so there is no new commit: {pushed['url']}")
    if pushed["tagged"]:
        say("The commit has the new tag.")
    if pushed["collected"]:
        say("The dataset is now in the collection.")
