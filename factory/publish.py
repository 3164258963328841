"""Publishing: the folder of a dataset repository, its gate, and the push.

Knows what is written and in which order; the Hub itself is in `hub`.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from factory import card
from factory.card_head import read_card
from factory.croissant import croissant
from factory.errors import HubError, LakeError, PublishError
from factory.gate import (
    Finding,
    allowed_findings,
    check_names,
    examine,
    pass_gate,
    place_pattern,
)
from factory.hub import Change, Landed, Repository, State, is_same, left
from factory.lake import remove_unfinished, writing
from factory.lineage import lineage, public_recipe
from factory.named_queries import named_queries
from factory.patterns import SECRETS
from factory.picture import picture
from factory.progress import Progress
from factory.query import sql_text
from factory.repository import FOLDERS, Contents, iterations, open_views, write_repository
from factory.survey import Survey
from factory.verify import verify_folders

CARD, LINEAGE = "README.md", "lineage.json"
"""What a publish reads of the one before it."""


@dataclass(frozen=True)
class Asked:
    """What a person wants published, beside the recipe."""

    repository: str
    """organisation/name"""
    public: bool = False
    """Of a repository that is made; one that is there stays as it is."""
    branch: str | None = None
    as_pull: bool = False
    tag: str | None = None
    allowed: Sequence[str] = ()
    """The checks of the gate that may find what they look for."""
    evaluation: Sequence[Path] = ()
    """Files with texts that no prompt may share."""


def check_asked(survey: Survey, asked: Asked) -> None:
    """What can be refused before anything is written: raises PublishError for an option, for a
    recipe that was never run, LakeError where the lake is not what it was."""
    check_repository(asked.repository)
    check_names(asked.allowed)
    for file in asked.evaluation:
        if not file.is_file():
            raise PublishError(f"--evaluation {file}: no such file; expected one with texts")
    if asked.as_pull and asked.tag:
        raise PublishError("--tag names a commit of a branch, and --create-pr makes none: take one")
    made = iterations(survey)
    folders = {
        found.folder.key: found.folder
        for step, found in survey.found.items()
        if found.folder and step.iteration in made
    }
    report = verify_folders(folders.values())
    if report.faults:
        fault = report.faults[0]
        raise LakeError(
            f"{len(report.faults)} files of the lake are not as they were written, {fault.file} "
            f"({fault.why}) among them: `factory verify` lists them, and `factory run` makes the "
            "missing rows again"
        )


def check_repository(name: str) -> None:
    """Raises PublishError unless a name is one that the Hub takes, with its organisation."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    wanted = "expected ORG/NAME of letters, digits, -, _ and ., 96 characters at most"
    if name.count("/") != 1:
        raise PublishError(f"--repo {name}: {wanted}")
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise PublishError(
            f"--repo {name}: {wanted}, none of - and . at an end of the name or twice in a row"
        ) from None


def write_folder(
    survey: Survey, folder: Path, asked: Asked, published: "Published", progress: Progress
) -> list[Finding]:
    """Writes all that is pushed to an empty folder, and what the gate found in it.

    `published` is what the repository has of the last publish, whose user's text is kept.
    """
    contents = write_repository(survey, folder, progress)
    with open_views(folder) as views:
        tokens = [token for model in survey.models.values() for token in model.control_tokens]
        findings = examine(views, folder, sorted(set(tokens)), asked.evaluation, _places(survey))
        _write_picture(views, folder)
        _write_texts(survey, contents, views, folder, asked, findings, published)
    _check_private(survey, folder)
    return findings


@dataclass(frozen=True)
class Published:
    """What a repository has of the last publish."""

    card: str = ""
    metadata: dict[str, Any] | None = None
    """What that publish wrote into the card's head."""


def read_published(files: dict[str, str]) -> Published:
    """What the texts of a repository's CARD and LINEAGE say."""
    try:
        metadata = json.loads(files.get(LINEAGE, "{}")).get("card")
    except ValueError:
        metadata = None
    return Published(files.get(CARD, ""), metadata)


def _write_picture(views: Any, folder: Path) -> None:
    gaps = views.sql("from gaps").to_arrow_table().to_pylist()
    bins = views.sql(named_queries()["score_distribution"].sql).to_arrow_table().to_pylist()
    (folder / "scores.svg").write_text(picture(gaps, bins), encoding="utf-8")


def _write_texts(
    survey: Survey,
    contents: Contents,
    views: Any,
    folder: Path,
    asked: Asked,
    findings: Sequence[Finding],
    published: Published,
) -> None:
    recipe, ways = public_recipe(survey), lineage(survey, contents.iterations)
    sources = views.sql(sql_text("published_sources")).to_arrow_table().to_pylist()
    kept = read_card(published.card, published.metadata or {})
    text, generated = card.text(
        views,
        contents,
        recipe,
        ways,
        sources,
        allowed_findings(findings, asked.allowed),
        asked.repository,
        kept,
    )
    (folder / CARD).write_text(text, encoding="utf-8")
    head = "# All that decides the data, as it was resolved; not how or where it was run.\n"
    shown = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
    (folder / "recipe.yaml").write_text(head + shown, encoding="utf-8")
    croissants = croissant(asked.repository, generated, contents, recipe, ways, sources)
    _write_json(folder / "croissant.json", croissants)
    _write_json(folder / LINEAGE, {**ways, "card": generated})


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _places(survey: Survey) -> list[str]:
    """The folders of this machine that nothing published should name."""
    named = (Path.home(), survey.recipe.folder, survey.lake.root)
    places = {place for each in named for place in (each, each.resolve())}
    return sorted(str(place) for place in places if place.is_absolute() and len(place.parts) > 1)


def _check_private(survey: Survey, folder: Path) -> None:
    """Raises PublishError where a file that is no row, and no text of a row, names a folder of this
    machine."""
    for name, file in files_of(folder):
        if file.suffix != ".parquet":
            content = file.read_text(encoding="utf-8")
            for place in _places(survey):
                if re.search(place_pattern(place), content):
                    raise PublishError(
                        f"{name} would name {place}, a folder of this machine, which a field of "
                        "the recipe or a prompt's source says: take it out of there"
                    )
            for kind, pattern in SECRETS.items():
                if name != CARD and re.search(pattern, content):
                    raise PublishError(
                        f"{name} would hold what looks like a {kind}, which a field of the recipe, "
                        "a rubric or a policy says: take it out of there"
                    )


def dry(survey: Survey, asked: Asked, folder: Path, progress: Progress) -> list[Finding]:
    """Writes to `folder` what a push would, and sends nothing.

    What a person wrote into the repository's card is in it where the Hub can be asked. Raises
    PublishError where the folder is not empty, Refused, with the folder written, where the gate
    would stop the push.
    """
    check_asked(survey, asked)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PublishError(f"--dry-run {folder}: expected a folder that is empty or not there yet")
    published = _asked_of_hub(asked, progress)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        findings = write_folder(survey, folder, asked, published, progress)
    except OSError as error:
        raise PublishError(
            f"--dry-run {folder}: cannot be written ({error.strerror}): name another folder"
        ) from error
    pass_gate(findings, asked.allowed)
    return findings


def _asked_of_hub(asked: Asked, progress: Progress) -> Published:
    try:
        repository = Repository(asked.repository, asked.branch or "main", progress, tries=1)
        return _published(repository, repository.state())
    except (PublishError, HubError) as error:
        progress.say(f"the card is that of a new repository, for the Hub was not asked: {error}")
        return Published()


def _published(repository: Repository, state: State | None) -> Published:
    return read_published(repository.texts(state, CARD, LINEAGE)) if state else Published()


@dataclass(frozen=True)
class Pushed:
    """What came of a push."""

    url: str
    """Of the commit or the pull request."""
    commit: str
    changed: bool
    """Whether there was anything to commit."""
    made: bool
    """Whether the repository was not there before."""
    private: bool
    files: int = 0
    """Files that were written."""
    size: int = 0
    """Their bytes."""
    deleted: int = 0


def push(survey: Survey, asked: Asked, progress: Progress) -> Pushed:
    """Writes the folder, looks it through, and makes it the content of the repository.

    Raises PublishError or LakeError before anything is written, Refused where the gate finds what
    must not be published, HubError where the Hub does not take it: the same command then ends what
    this one began.
    """
    check_asked(survey, asked)
    repository = Repository(asked.repository, asked.branch or "main", progress)
    state = look(repository)
    main = Repository(asked.repository, "main", progress)
    # A new branch begins as main does: what a person wrote there is kept, what is not ours refused.
    held = state if state or asked.branch in (None, "main") else look(main)
    with _staging(survey, progress) as folder:
        published = _published(repository if state else main, held)
        with writing(survey.lake.root):
            findings = write_folder(survey, folder, asked, published, progress)
        pass_gate(findings, asked.allowed)
        message = f"{survey.recipe.name}: pairs, candidates, judgments and card"
        return push_folder(folder, asked, repository, state, message)


@contextmanager
def _staging(survey: Survey, progress: Progress) -> Iterator[Path]:
    """A folder of the lake that is there for one push."""
    lake = survey.lake
    root = lake.root / "published"
    holder = f"process {os.getpid()} (factory publish of {survey.recipe.name})"
    with lake.lock("published", holder, lambda other: progress.say(f"  waiting for {other}")):
        with writing(lake.root):
            root.mkdir(exist_ok=True)
        remove_unfinished(root)
        folder = root / f".tmp-{os.getpid()}"
        try:
            with writing(lake.root):
                folder.mkdir()
            yield folder
        finally:
            remove_unfinished(root)


def look(repository: Repository) -> State | None:
    """What a repository holds at its branch; None where it, or the branch, is not there.

    Raises PublishError where it holds files of somebody else's making in places that are ours.
    """
    state = repository.state()
    if state is None or LINEAGE in state.files:
        return state
    theirs = sorted(name for name in state.files if name.split("/")[0] in FOLDERS)
    if theirs:
        raise PublishError(
            f"{repository.name} holds a dataset that `factory publish` did not make ({theirs[0]} "
            "and the like): expected a new repository, one without data, or one that it made"
        )
    return state


def push_folder(
    folder: Path, asked: Asked, repository: Repository, state: State | None, message: str
) -> Pushed:
    """Makes a folder the content of a repository that was seen to hold `state`.

    Safe to repeat: what is there is not sent, and what was carried out is not done twice.
    """
    made = state is None and not repository.exists()
    if state is None:
        repository.create(public=asked.public)
        state = look(repository)
    if state is None:
        raise HubError(
            f"{asked.repository} was made, and the Hub does not show it yet: run the same command "
            "again"
        )
    change = change_to(folder, state)
    if asked.tag:
        _check_tag(asked.tag, repository, state, change)
    landed = Landed(state.commit, f"{repository.url}/commit/{state.commit}")
    if change:
        landed = (asked.as_pull and repository.pull(change, message)) or repository.commit(
            change, state, message, as_pull=asked.as_pull
        )
        _check_landed(repository, change, landed)
    if asked.tag:
        repository.tag(asked.tag, landed.commit)
    return Pushed(
        landed.url,
        landed.commit,
        bool(change),
        made,
        state.private,
        len(change.write),
        change.size,
        len(change.delete),
    )


def _check_landed(repository: Repository, change: Change, landed: Landed) -> None:
    """The client leaves out what a .gitignore of the repository names, and says nothing."""
    now = repository.state(landed.commit)
    if now is None or (lacking := left(change, now)):
        named = "" if now is None else f" of {lacking[0]} and the like"
        raise HubError(
            f"{repository.name}: the commit {landed.commit[:12]} is not what was sent{named}: look "
            "for a .gitignore in the repository, take it out and run the same command again"
        )


def change_to(folder: Path, state: State) -> Change:
    """What makes a repository's content that of a folder: files in places that are not ours are
    left."""
    files = dict(files_of(folder))
    stale = [name for name in state.files if name.split("/")[0] in FOLDERS and name not in files]
    write = {name: path for name, path in files.items() if not is_same(path, state.files.get(name))}
    return Change(write, sorted(stale))


def _check_tag(tag: str, repository: Repository, state: State, change: Change) -> None:
    held = repository.tagged(tag)
    if held is not None and (change or held != state.commit):
        raise PublishError(
            f"--tag {tag}: names the commit {held[:12]} already: expected a name that is free"
        )


def files_of(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of a folder by their names in the repository, sorted."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield file.relative_to(folder).as_posix(), file
