"""A client that reads a dataset repository on the Hugging Face Hub and commits to it.

huggingface-hub 2.4 retries uploads and listings, but not commits and queries about a repository.
Every call here therefore goes through `_call`, which retries. The token is passed only to the Hub's
client and is never written to a file or a message.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from factory.errors import Argument, HubError, PublishError
from factory.fingerprint import file_digest
from factory.progress import Progress
from factory.publish.hub_errors import (
    LONGEST_WAIT,
    XetError,
    explain,
    is_of_hub,
    is_of_xet,
    is_transient,
    short,
    waiting,
)
from factory.texts import keep_secret

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DatasetInfo

T = TypeVar("T")

TRIES = 6
"""Number of attempts per call to the Hub."""

TOGETHER = 5
"""Number of files per upload call: as many as the Hub's client uploads in parallel."""


@dataclass(frozen=True)
class State:
    """The files and the visibility of a Hub repository at one commit."""

    commit: str
    private: bool
    files: Mapping[str, str]
    """ID of each file by its name: the SHA-256 of an LFS file, the git blob ID of another file."""


@dataclass(frozen=True)
class Change:
    """A change to a repository: the files to write and the files to delete."""

    write: dict[str, Path] = field(default_factory=dict)
    delete: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.write or self.delete)

    @property
    def size(self) -> int:
        """Return the total size of the files to write, in bytes."""
        return sum(path.stat().st_size for path in self.write.values())


@dataclass(frozen=True)
class Landed:
    """A commit on the Hub, and a link to the commit or to its pull request."""

    commit: str
    url: str


class Repository:
    """A client for one branch of a dataset repository on the Hub."""

    def __init__(self, name: str, branch: str, progress: Progress, *, tries: int = TRIES) -> None:
        """Open the client. Raises PublishError without a token, or if HF_HUB_OFFLINE is set."""
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.constants import is_offline_mode
        from huggingface_hub.utils import disable_progress_bars

        if is_offline_mode():
            raise PublishError(
                "HF_HUB_OFFLINE",
                "HF_HUB_OFFLINE is set, so the Hub cannot be reached",
                "unset HF_HUB_OFFLINE, or do a dry run",
            )
        token = get_token()
        if not token:
            raise PublishError(
                "HF_TOKEN",
                "no Hub token was found",
                "run `hf auth login`, or set HF_TOKEN to a token with write access",
            )
        disable_progress_bars()  # they would overwrite our progress lines
        self.name, self.branch = name, branch
        self._api = HfApi(token=token)
        self._token: str = token
        keep_secret(token)
        self._progress = progress
        self._tries = tries

    @property
    def url(self) -> str:
        return f"{self._api.endpoint}/datasets/{self.name}"

    def on(self, branch: str) -> "Repository":
        """Return a client for another branch, or for a pull request as refs/pr/N."""
        return Repository(self.name, branch, self._progress, tries=self._tries)

    # reading

    def state(self, revision: str | None = None) -> State | None:
        """Return the repository's state at the head of the branch or at another revision.

        Returns None if the repository or revision does not exist or the token cannot see it.
        """
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        def ask() -> "DatasetInfo | None":
            try:
                return self._api.dataset_info(self.name, revision=revision or self.branch)
            except (RepositoryNotFoundError, RevisionNotFoundError):
                return None

        info = self._call("reading the repository", ask)
        if info is None or info.sha is None:
            return None
        return State(info.sha, bool(info.private), self._files(info.sha))

    def _files(self, commit: str) -> dict[str, str]:
        from huggingface_hub.hf_api import RepoFile

        tree = self._call(
            "listing the files",
            lambda: list(
                self._api.list_repo_tree(
                    self.name, revision=commit, recursive=True, repo_type="dataset"
                )
            ),
        )
        return {
            entry.path: entry.lfs.sha256 if entry.lfs else entry.blob_id
            for entry in tree
            if isinstance(entry, RepoFile)
        }

    def texts(self, state: State, *names: str) -> dict[str, str]:
        """Download text files from the repository, and return their texts by file name.

        Files that do not exist are left out.
        """
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        def read(name: str) -> str:
            address = hf_hub_url(self.name, name, repo_type="dataset", revision=state.commit)
            answer = get_session().get(address, headers=build_hf_headers(token=self._token))
            hf_raise_for_status(answer)
            return answer.content.decode("utf-8")

        def reading(name: str) -> str:
            return self._call(f"reading {name}", lambda: read(name))

        return {name: reading(name) for name in names if name in state.files}

    def tagged(self, tag: str) -> str | None:
        """Return the commit that a tag points to, or None if the tag does not exist."""
        refs = self._call(
            "listing the tags",
            lambda: self._api.list_repo_refs(self.name, repo_type="dataset"),
        )
        return next((ref.target_commit for ref in refs.tags if ref.name == tag), None)

    def pull(self, title: str) -> int | None:
        """Return the number of the newest open pull request with this title by the token's user."""
        user = self._call("reading the name of the token's user", self._api.whoami)["name"]
        found = self._call(
            "listing the pull requests",
            lambda: list(
                self._api.get_repo_discussions(
                    self.name,
                    repo_type="dataset",
                    discussion_type="pull_request",
                    discussion_status="open",
                )
            ),
        )
        ours = (each.num for each in found if each.title == title and each.author == user)
        return max(ours, default=None)

    def in_collection(self, slug: str) -> bool:
        """Return whether the dataset is in a collection.

        Raises PublishError if the collection does not exist or the token cannot see it.
        """
        from huggingface_hub.errors import HfHubHTTPError

        def ask() -> set[str] | None:
            try:
                items = self._api.get_collection(slug).items
            except HfHubHTTPError as error:
                if error.response.status_code != 404:
                    raise
                return None
            return {item.item_id for item in items if item.item_type == "dataset"}

        names = self._call("reading the collection", ask)
        if names is None:
            raise PublishError(
                Argument("collection"),
                f"the collection {slug} does not exist, or the token cannot see it",
                "create it on the Hub, or use the slug at the end of its URL",
            )
        return self.name in names

    # writing

    def create(self, *, public: bool) -> None:
        """Create the repository and the branch if they do not exist."""
        self._call(
            "creating the repository",
            lambda: self._api.create_repo(
                self.name, repo_type="dataset", private=not public, exist_ok=True
            ),
        )
        self.create_branch()

    def create_branch(self) -> None:
        """Create the branch from main, unless the branch exists."""
        if self.branch != "main":
            self._call(
                "creating the branch",
                lambda: self._api.create_branch(
                    self.name, branch=self.branch, repo_type="dataset", exist_ok=True
                ),
            )

    def commit(self, change: Change, state: State, message: str, *, as_pull: bool) -> Landed:
        """Upload a change to the repository as one commit or one pull request.

        `state` is the state of the repository for which the change was computed. Raises HubError if
        someone else pushed to the branch since then.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        adds = [CommitOperationAdd(name, str(path)) for name, path in change.write.items()]
        deletes = [CommitOperationDelete(name) for name in change.delete]
        self._upload(adds, as_pull=as_pull)

        def send() -> Landed:
            return self._send([*adds, *deletes], state, message, as_pull=as_pull)

        def landed() -> Landed | None:
            return self._opened(change, message) if as_pull else self._there(change, state)

        return self._call("creating the commit", send, landed)

    def _upload(self, adds: "list[CommitOperationAdd]", *, as_pull: bool) -> None:
        size = sum(add.upload_info.size for add in adds)
        with self._progress.task("uploading", size, "bytes") as task:
            for start in range(0, len(adds), TOGETHER):
                some = adds[start : start + TOGETHER]
                self._call("uploading", partial(self._upload_some, some, as_pull))
                task.advance(sum(add.upload_info.size for add in some))

    def _upload_some(self, adds: "list[CommitOperationAdd]", as_pull: bool) -> None:
        try:
            self._api.preupload_lfs_files(
                self.name,
                adds,
                repo_type="dataset",
                revision=self.branch,
                create_pr=as_pull,
                free_memory=False,
            )
        except (RuntimeError, OSError) as error:
            if not is_of_xet(error):
                raise
            fault = XetError(error)
            if fault.is_of_token and fault.code is not None:
                self._ask_for_storage(as_pull=as_pull)
            raise fault from error

    def _ask_for_storage(self, *, as_pull: bool) -> None:
        """Raise the Hub's error if it refuses access to its storage.

        The Xet client asks for the same access, but its error lacks the Hub's message.
        """
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        branch = quote(self.branch, safe="")
        address = f"{self._api.endpoint}/api/datasets/{self.name}/xet-write-token/{branch}"
        answer = get_session().get(
            address,
            params={"create_pr": "1"} if as_pull else {},
            headers=build_hf_headers(token=self._token),
        )
        hf_raise_for_status(answer)

    def _send(
        self,
        operations: "list[CommitOperationAdd | CommitOperationDelete]",
        state: State,
        message: str,
        *,
        as_pull: bool,
    ) -> Landed:
        made = self._api.create_commit(
            self.name,
            operations,
            commit_message=message,
            repo_type="dataset",
            revision=self.branch,
            create_pr=as_pull,
            parent_commit=state.commit,
        )
        return Landed(made.oid, made.pr_url if as_pull and made.pr_url else made.commit_url)

    def _there(self, change: Change, before: State) -> Landed | None:
        """Return the commit if it succeeded although its response was lost.

        Raises HubError if the branch has another new commit.
        """
        now = self.state()
        if now is None or now.commit == before.commit:
            return None
        if not left(change, now):
            return Landed(now.commit, f"{self.url}/commit/{now.commit}")
        raise HubError(
            Argument("repo"),
            f"the push was canceled because another commit moved the branch {self.branch} of "
            f"{self.name} from {before.commit[:12]} to {now.commit[:12]}",
            "review the other commit and run the same command again, or create a pull request",
        )

    def _opened(self, change: Change, message: str) -> Landed | None:
        """Return the pull request if it was opened although its response was lost."""
        number = self.pull(message)
        if number is None:
            return None
        now = self.state(f"refs/pr/{number}")
        if now is None or left(change, now):
            return None
        return Landed(now.commit, self.pull_url(number))

    def pull_url(self, number: int) -> str:
        return f"{self.url}/discussions/{number}"

    def tag(self, tag: str, commit: str) -> None:
        """Tag a commit in the repository. An existing tag of the same name stays unchanged."""
        self._call(
            "creating the tag",
            lambda: self._api.create_tag(
                self.name, tag=tag, revision=commit, repo_type="dataset", exist_ok=True
            ),
        )

    def collect(self, slug: str) -> None:
        """Add the dataset to a collection, unless it is already there."""
        self._call(
            "adding the dataset to the collection",
            lambda: self._api.add_collection_item(slug, self.name, "dataset", exists_ok=True),
            place=f"the collection {slug}",
        )

    # retries

    def _call(
        self,
        what: str,
        call: Callable[[], T],
        landed: Callable[[], T | None] | None = None,
        place: str = "",
    ) -> T:
        """Return the result of a call to the Hub, and retry it after transient errors.

        `landed` returns the result if the failed call took effect, or None. `place` is what the
        call changes, by default the repository. Raises HubError if the error is not transient or
        the attempts are used up.
        """
        for n in range(self._tries):
            try:
                return call()
            except Exception as error:
                if not is_of_hub(error):
                    raise
                if landed is not None and (done := landed()) is not None:
                    return done
                wait = waiting(error, n)
                if not is_transient(error) or n == self._tries - 1 or wait > LONGEST_WAIT:
                    raise explain(what, error, place or self.name, n + 1, self._token) from error
                attempt = f"attempt {n + 1} of {self._tries}"
                self._progress.say(
                    f"  {what}: {short(error)}, retrying in {wait:.0f} s ({attempt} failed)"
                )
                time.sleep(wait)
        raise AssertionError("unreachable: the last attempt either returns or raises an error")


def left(change: Change, state: State) -> list[str]:
    """Return the names of the files to which a change has not been applied yet."""
    wrong = [
        name for name, path in change.write.items() if not is_same(path, state.files.get(name))
    ]
    return wrong + [name for name in change.delete if name in state.files]


def is_same(path: Path, file_id: str | None) -> bool:
    """Return whether a local file has the same content as the repository file with the given ID."""
    if file_id is None:
        return False
    return file_id == (file_digest(path) if len(file_id) == 64 else git_id(path))


def git_id(path: Path) -> str:
    """Return the git blob ID of a file."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
