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
    state: RecipeState, options: PublishOptions, folder: Path, progress: Progress
) -> list[Finding]:
    """Write the folder that a push would send, and send nothing.

    If the Hub can be reached, the card has the text that a person wrote into the repository's card.
    Raises PublishError if the folder is not empty. Raises Refused, after the folder is written, if
    the gate would stop the push.
    """
    check_options(state, options)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PublishError(
            "--dry-run",
            f"{folder} is not an empty folder",
            "expected a folder that is empty or not there yet",
        )
    published = _published_if_reachable(options, progress)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        findings = write_folder(state, folder, options, published, progress)
    except OSError as error:
        raise PublishError(
            "--dry-run", f"{folder} cannot be written ({error.strerror})", "name another folder"
        ) from error
    pass_gate(findings, options.allowed)
    return findings


def _published_if_reachable(options: PublishOptions, progress: Progress) -> Published:
    try:
        repository = Repository(options.repository, options.branch or "main", progress, tries=1)
        return _published(repository, repository.state())
    except (PublishError, HubError) as error:
        progress.say(
            f"the card is that of a new repository, because the Hub was not reached: {error}"
        )
        return Published()


def _published(repository: Repository, remote: State | None) -> Published:
    return read_published(repository.texts(remote, CARD, LINEAGE)) if remote else Published()


@dataclass(frozen=True)
class Pushed:
    """The result of a push."""

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


def push_dataset(state: RecipeState, options: PublishOptions, progress: Progress) -> Pushed:
    """Write the folder, check it, and make it the content of the repository.

    Raises PublishError or LakeError before anything is written, Refused if the gate finds rows that
    must not be published, and HubError if the Hub refuses the push. Run the same command again
    after a HubError to finish the push.
    """
    check_options(state, options)
    repository = Repository(options.repository, options.branch or "main", progress)
    remote = check_contents(repository)
    main = Repository(options.repository, "main", progress)
    # A new branch begins as main does: what a person wrote there is kept, what is not ours refused.
    base = remote if remote or options.branch in (None, "main") else check_contents(main)
    with _staging(state, progress) as folder:
        published = _published(repository if remote else main, base)
        with writing(state.lake.root):
            findings = write_folder(state, folder, options, published, progress)
        pass_gate(findings, options.allowed)
        message = f"{state.recipe.name}: pairs, candidates, judgments and card"
        return push_folder(folder, options, repository, remote, message)


@contextmanager
def _staging(state: RecipeState, progress: Progress) -> Iterator[Path]:
    """Make a folder in the lake for the time of one push."""
    lake = state.lake
    root = lake.root / "published"
    doing = f"factory publish of {state.recipe.name}"
    with lake.lock("published", doing, progress.say):
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
    """Return the content of a repository's branch; None if there is no such repository or branch.

    Raises PublishError if it has files in our folders that this package did not write.
    """
    remote = repository.state()
    if remote is None or LINEAGE in remote.files:
        return remote
    theirs = sorted(name for name in remote.files if name.split("/")[0] in FOLDERS)
    if theirs:
        raise PublishError(
            "--repo",
            f"{repository.name} holds a dataset that `factory publish` did not make ({theirs[0]} "
            "and the like)",
            "expected a new repository, one without data, or one that it made",
        )
    return remote


def push_folder(
    folder: Path,
    options: PublishOptions,
    repository: Repository,
    remote: State | None,
    message: str,
) -> Pushed:
    """Make a folder the content of a repository, whose content was `remote`.

    Safe to repeat: files that the repository has are not sent, and no step is done twice.
    """
    made = remote is None and not repository.exists()
    if remote is None:
        remote = _create(repository, options)
    change = change_to(folder, remote)
    if options.tag:
        _check_tag(options.tag, repository, remote, change)
    landed = Landed(remote.commit, f"{repository.url}/commit/{remote.commit}")
    if change:
        landed = (options.as_pull and repository.pull(change, message)) or repository.commit(
            change, remote, message, as_pull=options.as_pull
        )
        _check_landed(repository, change, landed)
    if options.tag:
        repository.tag(options.tag, landed.commit)
    return Pushed(
        landed.url,
        landed.commit,
        bool(change),
        made,
        remote.private,
        len(change.write),
        change.size,
        len(change.delete),
    )


def _create(repository: Repository, options: PublishOptions) -> State:
    repository.create(public=options.public)
    remote = check_contents(repository)
    if remote is None:
        raise HubError(
            "--repo",
            f"{options.repository} was created, and the Hub does not show it yet",
            "run the same command again",
        )
    return remote


def _check_landed(repository: Repository, change: Change, landed: Landed) -> None:
    """Raise HubError if the commit lacks part of the change: the client silently leaves out files
    that a .gitignore of the repository names."""
    now = repository.state(landed.commit)
    if now is None or (lacking := left(change, now)):
        named = "" if now is None else f" of {lacking[0]} and the like"
        raise HubError(
            "--repo",
            f"{repository.name}: the commit {landed.commit[:12]} is not what was sent{named}",
            "look for a .gitignore in the repository, remove it, and run the same command again",
        )


def change_to(folder: Path, remote: State) -> Change:
    """Return the change from a repository's content to that of a folder. Files outside our folders
    stay."""
    files = dict(files_of(folder))
    stale = [name for name in remote.files if name.split("/")[0] in FOLDERS and name not in files]
    write = {
        name: path for name, path in files.items() if not is_same(path, remote.files.get(name))
    }
    return Change(write, sorted(stale))


def _check_tag(tag: str, repository: Repository, remote: State, change: Change) -> None:
    tagged = repository.tagged(tag)
    if tagged is not None and (change or tagged != remote.commit):
        raise PublishError(
            "--tag", f"{tag} names the commit {tagged[:12]} already", "expected a name that is free"
        )
