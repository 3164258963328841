"""Publishing: the folder of a dataset repository, its gate, and the push.

Knows what is written and in which order; the Hub itself is in `hub`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from factory.errors import HubError, PublishError
from factory.lake import remove_unfinished, writing
from factory.plan import RecipeState
from factory.progress import Progress
from factory.publish.folder import CARD, LINEAGE, Published, files_of, read_published, write_folder
from factory.publish.gate import Finding, pass_gate
from factory.publish.hub import Change, Landed, Repository, State, is_same, left
from factory.publish.options import PublishOptions, check_options
from factory.publish.repository import FOLDERS


def write_dry_run(
    survey: RecipeState, asked: PublishOptions, folder: Path, progress: Progress
) -> list[Finding]:
    """Writes to `folder` what a push would, and sends nothing.

    What a person wrote into the repository's card is in it where the Hub can be asked. Raises
    PublishError where the folder is not empty, Refused, with the folder written, where the gate
    would stop the push.
    """
    check_options(survey, asked)
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


def _asked_of_hub(asked: PublishOptions, progress: Progress) -> Published:
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


def push_dataset(survey: RecipeState, asked: PublishOptions, progress: Progress) -> Pushed:
    """Writes the folder, looks it through, and makes it the content of the repository.

    Raises PublishError or LakeError before anything is written, Refused where the gate finds what
    must not be published, HubError where the Hub does not take it: the same command then ends what
    this one began.
    """
    check_options(survey, asked)
    repository = Repository(asked.repository, asked.branch or "main", progress)
    state = check_contents(repository)
    main = Repository(asked.repository, "main", progress)
    # A new branch begins as main does: what a person wrote there is kept, what is not ours refused.
    held = state if state or asked.branch in (None, "main") else check_contents(main)
    with _staging(survey, progress) as folder:
        published = _published(repository if state else main, held)
        with writing(survey.lake.root):
            findings = write_folder(survey, folder, asked, published, progress)
        pass_gate(findings, asked.allowed)
        message = f"{survey.recipe.name}: pairs, candidates, judgments and card"
        return push_folder(folder, asked, repository, state, message)


@contextmanager
def _staging(survey: RecipeState, progress: Progress) -> Iterator[Path]:
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


def check_contents(repository: Repository) -> State | None:
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
    folder: Path, asked: PublishOptions, repository: Repository, state: State | None, message: str
) -> Pushed:
    """Makes a folder the content of a repository that was seen to hold `state`.

    Safe to repeat: what is there is not sent, and what was carried out is not done twice.
    """
    made = state is None and not repository.exists()
    if state is None:
        repository.create(public=asked.public)
        state = check_contents(repository)
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
