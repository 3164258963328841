"""Write a dataset repository to a local folder: rows, card, recipe, lineage, and chart."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from factory.errors import PublishError
from factory.files import write_new
from factory.lake import Views, load_query, shipped_queries
from factory.models import control_tokens
from factory.paths import home_folder
from factory.plan import RecipeState
from factory.progress import Progress
from factory.publish.card import render_card
from factory.publish.card_metadata import read_card
from factory.publish.croissant import croissant_metadata
from factory.publish.gate import Finding, allowed_findings, examine
from factory.publish.lineage import lineage_of, public_recipe
from factory.publish.options import PublishOptions
from factory.publish.release import Release
from factory.publish.repository import open_views, write_repository
from factory.publish.scan import LOCAL, Scanner
from factory.report import draw_picture

CARD, LINEAGE = "README.md", "lineage.json"
"""Files of the last publish that the next publish reads."""


def write_folder(
    state: RecipeState,
    folder: Path,
    options: PublishOptions,
    published: "Published",
    progress: Progress,
) -> list[Finding]:
    """Write all files of a dataset repository to an empty folder, and run the pre-publish checks.

    `published` is the repository's last publish. The new card keeps the text that a user wrote into
    the old one. Returns the findings of the checks. Raises PublishError if a file other than a
    Parquet file would contain a local path or a secret.
    """
    contents = write_repository(state, folder, progress)
    phase, memory = state.policy.final_phase, state.recipe.query_memory
    with open_views(folder, phase, memory) as views:
        tokens = {token for model in state.models.values() for token in control_tokens(model)}
        _write_picture(views, folder)
        release = Release(
            options.repository,
            contents,
            public_recipe(state),
            lineage_of(state, contents.iterations),
            state.policy.trains,
            views.all(load_query("publish/published_sources")),
        )
        findings = examine(
            views,
            folder,
            sorted(tokens),
            options.evaluation,
            local_folders(state),
            {"recipe.yaml": release.recipe, LINEAGE: release.lineage},
            contents.all_configs,
        )
        told = allowed_findings(findings, options.allowed)
        _write_texts(release, views, folder, told, published)
    _check_private(state, folder, options.allowed)
    return findings


@dataclass(frozen=True)
class Published:
    """The last published card and metadata of a dataset repository."""

    card: str = ""
    metadata: dict[str, Any] | None = None
    """Metadata that the publish wrote into the card; None if unknown."""


def read_published(files: dict[str, str]) -> Published:
    """Read the last published card and metadata from a repository's files."""
    try:
        metadata = json.loads(files.get(LINEAGE, "{}")).get("card")
    except ValueError:
        metadata = None
    return Published(files.get(CARD, ""), metadata)


def _write_picture(views: Views, folder: Path) -> None:
    quality, bins = (
        views.all(shipped_queries()[name].sql) for name in ("pair_quality", "score_distribution")
    )
    picture = draw_picture(views.all("from gaps"), quality, bins)
    write_new(folder / "scores.svg", picture)


def _write_texts(
    release: Release, views: Views, folder: Path, findings: Sequence[Finding], published: Published
) -> None:
    """Write the card, recipe, lineage, and Croissant metadata of a release to a folder."""
    kept = read_card(published.card, published.metadata or {})
    text, metadata = render_card(release, views, findings, kept)
    write_new(folder / CARD, text)
    head = (
        "# The resolved recipe: every field that affects the data, and nothing about the machine.\n"
    )
    recipe = yaml.safe_dump(release.recipe, sort_keys=False, allow_unicode=True)
    write_new(folder / "recipe.yaml", head + recipe)
    _write_json(folder / "croissant.json", croissant_metadata(release, metadata))
    _write_json(folder / LINEAGE, {**release.lineage, "card": metadata})


def _write_json(file: Path, content: dict[str, Any]) -> None:
    write_new(file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def local_folders(state: RecipeState) -> list[str]:
    """Return the local folders that no published file may mention.

    They are the home, recipe, and lake folders, and the virtual environment.
    """
    environments = [os.environ.get(name, "") for name in ("VIRTUAL_ENV", "CONDA_PREFIX")]
    if sys.prefix != sys.base_prefix:
        environments.append(sys.prefix)
    named = [home_folder(), state.recipe.folder, state.lake.root]
    named += [Path(each) for each in environments if each]
    places = {place for each in named if each for place in (each, each.resolve())}
    return sorted(str(place) for place in places if place.is_absolute() and len(place.parts) > 1)


def _check_private(state: RecipeState, folder: Path, allowed: Sequence[str]) -> None:
    """Raise PublishError if a file other than a Parquet file contains a local path or a secret.

    The pre-publish checks cover the Parquet files. Secrets can be allowed, local paths cannot.
    """
    scanner = Scanner(local_folders(state))
    for name, file in files_of(folder):
        if file.suffix == ".parquet":
            continue
        for hit in scanner.scan(file.read_text(encoding="utf-8")):
            if hit.kind == LOCAL:
                raise PublishError(
                    name,
                    f"the published file would contain the local path {hit.value}",
                    "remove the path from the recipe, or from the `source` field of the prompts",
                )
            if hit.check == "secrets" and "secrets" not in allowed:
                raise PublishError(
                    name,
                    f"the published file would contain a possible secret ({hit.kind})",
                    "remove the secret from the recipe, the rubric, or the policy, or publish it "
                    "anyway with `--allow secrets`",
                )


def files_of(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the repository path and the local path of each file in a folder.

    The files are sorted by path.
    """
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield file.relative_to(folder).as_posix(), file
