"""Publish a dataset: write its folder, run the pre-publish checks, and push it in one commit.

The module `hub` has the calls to the Hub.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from factory.errors import Argument, HubError, PublishError
from factory.files import remove_unfinished, unfinished_folder
from factory.lake import writing
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
    """Write the dataset folder that `factory publish` would upload, without uploading it.

    If the Hub can be reached, the card keeps the text that a user wrote into the repository's card.
    Raises PublishError if the folder is not empty. Raises Refused, after writing the folder, if the
    pre-publish checks fail.
    """
    check_options(state, options)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PublishError(
            Argument("dry_run"),
            f"{folder} is not an empty folder",
            "choose a new or empty folder",
        )
    published = _published_if_reachable(options, progress)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        findings = write_folder(state, folder, options, published, progress)
    except OSError as error:
        raise PublishError(
            Argument("dry_run"),
            f"cannot write to the folder {folder} ({error.strerror})",
            "choose another folder",
        ) from error
    pass_gate(findings, options.allowed)
    return findings


def _published_if_reachable(options: PublishOptions, progress: Progress) -> Published:
    """Read the existing card from the Hub; without a connection, return an empty one."""
    try:
        repository = Repository(options.repository, options.branch or "main", progress, tries=1)
        return _published(repository, repository.state())
    except (PublishError, HubError) as error:
        progress.say(
            f"could not read the repository, so the card is that of a new repository: {error}"
        )
        return Published()


def _published(repository: Repository, remote: State | None) -> Published:
    return read_published(repository.texts(remote, CARD, LINEAGE)) if remote else Published()


@dataclass(frozen=True)
class Pushed:
    """The result of a push to the Hugging Face Hub."""

    url: str
    """Address of the commit or the pull request."""
    commit: str
    changed: bool
    """Whether the push made a commit."""
    made: bool
    """Whether the push created the repository."""
    private: bool
    files: int = 0
    """Number of files that were added or changed."""
    size: int = 0
    """Size of these files in bytes."""
    deleted: int = 0
    """Number of files that were deleted."""


def push_dataset(state: RecipeState, options: PublishOptions, progress: Progress) -> Pushed:
    """Write the dataset folder, run the pre-publish checks, and push the folder to the Hub.

    Raises PublishError or LakeError before anything is written, Refused if the pre-publish checks
    fail, and HubError if the Hub rejects the push. Calling it again after a HubError finishes the
    push.
    """
    check_options(state, options)
    repository = Repository(options.repository, options.branch or "main", progress)
    remote = check_contents(repository)
    main = Repository(options.repository, "main", progress)
    # A new branch starts at main: keep the user's text there, and refuse someone else's dataset.
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
    """Create a temporary folder in the lake for one push."""
    lake = state.lake
    root = lake.root / "published"
    doing = f"factory publish of {state.recipe.name}"
    with lake.lock("published", doing, progress.say):
        with writing(lake.root):
            root.mkdir(exist_ok=True)
            remove_unfinished(root)
        with ExitStack() as stack:
            with writing(lake.root):
                folder = stack.enter_context(unfinished_folder(root))
            yield folder


def check_contents(repository: Repository) -> State | None:
    """Return the state of a repository's branch, or None if the repository or branch is missing.

    Raises PublishError if the folders that `factory publish` writes contain files that it did not
    write.
    """
    remote = repository.state()
    if remote is None or LINEAGE in remote.files:
        return remote
    theirs = sorted(name for name in remote.files if name.split("/")[0] in FOLDERS)
    if theirs:
        raise PublishError(
            Argument("repo"),
            f"{repository.name} already contains a dataset that `factory publish` did not create "
            f"(for example, {theirs[0]})",
            "choose a new repository, or one that `factory publish` created",
        )
    return remote


def push_folder(
    folder: Path,
    options: PublishOptions,
    repository: Repository,
    remote: State | None,
    message: str,
) -> Pushed:
    """Push a folder to a Hub repository, so that the repository matches the folder.

    `remote` is the repository's current state, or None if the repository or branch does not exist.
    The call is safe to repeat: it skips files that the repository already has and steps that are
    already done.
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
            Argument("repo"),
            f"the Hub created {options.repository} but does not list it yet",
            "run the same command again",
        )
    return remote


def _check_landed(repository: Repository, change: Change, landed: Landed) -> None:
    """Raise HubError if the commit lacks part of the change.

    The Hub's client silently skips files that the repository's .gitignore matches.
    """
    now = repository.state(landed.commit)
    if now is None or (lacking := left(change, now)):
        named = "" if now is None else f" (for example, {lacking[0]})"
        raise HubError(
            Argument("repo"),
            f"the commit {landed.commit[:12]} in {repository.name} does not include all "
            f"changes{named}",
            "remove .gitignore from the repository, then run the same command again",
        )


def change_to(folder: Path, remote: State) -> Change:
    """Return the file changes that make a Hub repository match a local folder.

    Files outside the folders that `factory publish` writes are never deleted.
    """
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
            Argument("tag"),
            f"the tag {tag} already points to the commit {tagged[:12]}",
            "choose another tag",
        )
