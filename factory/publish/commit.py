"""Publish a dataset: write its folder, run the pre-publish checks, and push it in one commit.

The module `hub` has the calls to the Hub.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from factory.errors import Argument, FactoryError, HubError, PublishError
from factory.files import remove_unfinished, unfinished_folder
from factory.lake import writing
from factory.plan import RecipeState
from factory.progress import Progress
from factory.publish.folder import CARD, LINEAGE, Published, files_of, read_published, write_folder
from factory.publish.gate import Finding, pass_gate
from factory.publish.hub import Change, Landed, Repository, State, is_same, left
from factory.publish.options import PublishOptions, check_options
from factory.publish.repository import FOLDERS


@dataclass(frozen=True)
class Target:
    """The place on the Hub that a push writes to, and its state before the push."""

    repository: Repository
    """The branch to commit to: the branch of the open pull request, if there is one."""
    remote: State | None
    """State of the branch. None if the repository or the branch does not exist."""
    base: Repository
    """The branch with the card whose text is kept. A new branch starts at main."""
    base_state: State | None
    is_new: bool
    """Whether the repository does not exist."""
    pull: int | None = None
    """Number of the open pull request that the push updates."""
    in_collection: bool = False
    """Whether the dataset is already in the collection of the options."""

    @property
    def published(self) -> Published:
        """The card and the metadata of the last publish."""
        if self.base_state is None:
            return Published()
        return read_published(self.base.texts(self.base_state, CARD, LINEAGE))


def find_target(options: PublishOptions, title: str, main: Repository) -> Target:
    """Read what a push would write to. `title` is the title of its pull request.

    Raises PublishError if the repository is public although the user asked for a private one, if
    it has someone else's dataset, or if the collection does not exist.
    """
    main_state = main.state()
    if options.private and main_state and not main_state.private:
        raise PublishError(
            Argument("private"),
            f"the repository {main.name} already exists and is public",
            "make it private in its settings on the Hub, choose another repository, or publish "
            "without --private",
        )
    repository, remote, number = main, main_state, None
    if options.as_pull and main_state:
        number = main.pull(title)
        if number is not None:
            repository = main.on(f"refs/pr/{number}")
            remote = repository.state()
    elif options.branch not in (None, "main"):
        repository = main.on(options.branch)
        remote = repository.state()
    base = repository if remote else main
    base_state = remote or main_state
    check_contents(main.name, base_state)
    is_collected = options.collection is not None and main.in_collection(options.collection)
    return Target(repository, remote, base, base_state, main_state is None, number, is_collected)


def commit_title(state: RecipeState) -> str:
    """Return the title of the commit or the pull request."""
    rows = "pairs" if state.policy.trains == "dpo" else "answers"
    return f"{state.recipe.name}: {rows}, candidates, judgments and card"


@dataclass(frozen=True)
class DryPush:
    """The result of a dry run: the findings of the checks, and what a push would do."""

    findings: list[Finding]
    steps: list[str]
    """What a push would do, as sentences. Empty if the Hub could not be read."""


def write_dry_run(
    state: RecipeState, options: PublishOptions, folder: Path, progress: Progress
) -> DryPush:
    """Write the dataset folder that `factory publish` would upload, without uploading it.

    If the Hub can be reached, the card keeps the text that a user wrote into the repository's card,
    and the result says what a push would do. Raises PublishError if the folder is not empty or the
    push would be refused. Raises Refused, after writing the folder, if the pre-publish checks fail.
    """
    check_options(state, options)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PublishError(
            Argument("dry_run"),
            f"{folder} is not an empty folder",
            "choose a new or empty folder",
        )
    target = _target_if_reachable(options, commit_title(state), progress)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        published = target.published if target else Published()
        findings = write_folder(state, folder, options, published, progress)
    except OSError as error:
        raise PublishError(
            Argument("dry_run"),
            f"cannot write to the folder {folder} ({error.strerror})",
            "choose another folder",
        ) from error
    pass_gate(findings, options.allowed)
    return DryPush(findings, planned_steps(folder, options, target) if target else [])


def _target_if_reachable(options: PublishOptions, title: str, progress: Progress) -> Target | None:
    """Read the repository on the Hub; without a connection or a token, return None."""
    try:
        main = Repository(options.repository, "main", progress, tries=1)
    except PublishError as error:
        reason: FactoryError = error
    else:
        try:
            return find_target(options, title, main)
        except HubError as error:
            reason = error
    progress.say(
        f"could not read the repository, so the card is that of a new repository: {reason}"
    )
    return None


def planned_steps(folder: Path, options: PublishOptions, target: Target) -> list[str]:
    """Return what a push of a folder would do, as sentences.

    Raises PublishError if the tag already exists on other content.
    """
    change = change_to(folder, target.base_state)
    needs_tag = not is_tagged(options.tag, folder, target)
    steps = []
    if target.is_new:
        visibility = "public" if options.public else "private"
        steps.append(f"create the {visibility} repository {options.repository}")
    if target.remote is None and options.branch not in (None, "main"):
        steps.append(f"create the branch {options.branch}")
    size = f"{len(change.write):,} files with {change.size:,} bytes"
    size += f", {len(change.delete):,} deleted" if change.delete else ""
    if not change:
        steps.append("commit nothing, because nothing has changed")
    elif target.pull is not None:
        steps.append(f"update the pull request {target.base.pull_url(target.pull)}: {size}")
    elif options.as_pull:
        steps.append(f"open a pull request: {size}")
    else:
        steps.append(f"commit to the branch {target.repository.branch}: {size}")
    if needs_tag:
        steps.append(f"tag the commit as {options.tag}")
    if options.collection and not target.in_collection:
        steps.append(f"add the dataset to the collection {options.collection}")
    return steps


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
    pull: Literal["opened", "updated"] | None = None
    """What the push did with a pull request."""
    tagged: bool = False
    """Whether the push created the tag."""
    collected: bool = False
    """Whether the push added the dataset to the collection."""


def push_dataset(state: RecipeState, options: PublishOptions, progress: Progress) -> Pushed:
    """Write the dataset folder, run the pre-publish checks, and push the folder to the Hub.

    Raises PublishError or LakeError before anything is written, Refused if the pre-publish checks
    fail, and HubError if the Hub rejects the push. Calling it again after a HubError finishes the
    push.
    """
    check_options(state, options)
    title = commit_title(state)
    target = find_target(options, title, Repository(options.repository, "main", progress))
    with _staging(state, progress) as folder:
        published = target.published
        with writing(state.lake.root):
            findings = write_folder(state, folder, options, published, progress)
        pass_gate(findings, options.allowed)
        return push_folder(folder, options, target, title)


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


def check_contents(name: str, remote: State | None) -> None:
    """Raise PublishError if the folders that `factory publish` writes have files of someone else.

    `name` is the repository, and `remote` its state; None if it does not exist.
    """
    if remote is None or LINEAGE in remote.files:
        return
    theirs = sorted(name for name in remote.files if name.split("/")[0] in FOLDERS)
    if theirs:
        raise PublishError(
            Argument("repo"),
            f"{name} already contains a dataset that `factory publish` did not create "
            f"(for example, {theirs[0]})",
            "choose a new repository, or one that `factory publish` created",
        )


def push_folder(folder: Path, options: PublishOptions, target: Target, title: str) -> Pushed:
    """Push a folder to a Hub repository, so that the repository matches the folder.

    The call is safe to repeat: it skips files that the repository already has and steps that are
    already done.
    """
    repository, remote = target.repository, target.remote
    needs_tag = not is_tagged(options.tag, folder, target)
    if remote is None:
        remote = _create(repository, options)
    change = change_to(folder, remote)
    opens = options.as_pull and target.pull is None
    landed = Landed(remote.commit, f"{repository.url}/commit/{remote.commit}")
    if change:
        landed = repository.commit(change, remote, title, as_pull=opens)
        _check_landed(repository, change, landed)
    url = repository.pull_url(target.pull) if target.pull is not None else landed.url
    pull: Literal["opened", "updated"] | None = None
    if options.as_pull and change:
        pull = "opened" if opens else "updated"
    if options.tag and needs_tag:
        repository.tag(options.tag, landed.commit)
    collects = options.collection is not None and not target.in_collection
    if options.collection and collects:
        repository.collect(options.collection)
    return Pushed(
        url,
        landed.commit,
        bool(change),
        target.is_new,
        remote.private,
        len(change.write),
        change.size,
        len(change.delete),
        pull,
        needs_tag,
        collects,
    )


def _create(repository: Repository, options: PublishOptions) -> State:
    repository.create(public=options.public)
    remote = repository.state()
    check_contents(repository.name, remote)
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


def change_to(folder: Path, remote: State | None) -> Change:
    """Return the file changes that make a Hub repository match a local folder.

    Files outside the folders that `factory publish` writes are never deleted.
    """
    files = dict(files_of(folder))
    there = remote.files if remote else {}
    stale = [name for name in there if name.split("/")[0] in FOLDERS and name not in files]
    write = {name: path for name, path in files.items() if not is_same(path, there.get(name))}
    return Change(write, sorted(stale))


def is_tagged(tag: str | None, folder: Path, target: Target) -> bool:
    """Return whether a tag already exists on a commit with the content of a folder.

    True without a tag. Raises PublishError if the tag exists on other content.
    """
    if tag is None:
        return True
    commit = None if target.is_new else target.base.tagged(tag)
    if commit is None:
        return False
    if change_to(folder, target.base.state(commit)):
        raise PublishError(
            Argument("tag"),
            f"the tag {tag} already points to the commit {commit[:12]}, which has other content",
            "choose another tag for this version, or delete the tag on the Hub",
        )
    return True
