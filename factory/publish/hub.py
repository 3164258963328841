"""One dataset repository on the Hugging Face Hub: what it holds, and one commit to it.

Of the Hub's own client, uploads and listings try again by themselves, and commits and questions
about a repository do not (huggingface-hub 2.4): every call here goes through `_call`, which does.
Knows files and commits, and nothing of what is in them. The token is handed to the client and
stands nowhere else.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from factory.errors import HubError, PublishError
from factory.fingerprint import file_digest
from factory.progress import Progress
from factory.publish.hub_errors import causes, is_of_hub, is_transient, short, status, waiting

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DatasetInfo

T = TypeVar("T")

TRIES = 6
LONGEST_WAIT = 300.0
"""Seconds: what the Hub asks to wait beyond this is left to the person."""

TOGETHER = 5
"""Files that are uploaded at once, as many as the client has threads for."""

_FULL = ("quota", "storage limit", "storage_limit", "exceeded")


@dataclass(frozen=True)
class State:
    """What a repository holds at a commit."""

    commit: str
    private: bool
    files: Mapping[str, str]
    """By name: the SHA-256 of a large file, the git id of a small one."""


@dataclass(frozen=True)
class Change:
    """From what a repository holds to what it shall hold."""

    write: dict[str, Path] = field(default_factory=dict)
    delete: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.write or self.delete)

    @property
    def size(self) -> int:
        """Bytes of the files that are written."""
        return sum(path.stat().st_size for path in self.write.values())


@dataclass(frozen=True)
class Landed:
    """A commit that the Hub has."""

    commit: str
    url: str


class Repository:
    """A dataset repository and the branch that is written to."""

    def __init__(self, name: str, branch: str, progress: Progress, *, tries: int = TRIES) -> None:
        """Raises PublishError where there is no token, or no network is allowed."""
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.constants import is_offline_mode
        from huggingface_hub.utils import disable_progress_bars

        if is_offline_mode():
            raise PublishError(
                "HF_HUB_OFFLINE",
                "HF_HUB_OFFLINE is set, so nothing can be sent",
                "unset it, or use --dry-run",
            )
        token = get_token()
        if not token:
            raise PublishError(
                "HF_TOKEN",
                "no token for the Hub",
                "run `hf auth login`, or set HF_TOKEN to a token with write access",
            )
        disable_progress_bars()  # the client's own bars would be drawn over ours
        self.name, self.branch = name, branch
        self._api = HfApi(token=token)
        self._token: str = token
        self._progress = progress
        self._tries = tries

    @property
    def url(self) -> str:
        return f"{self._api.endpoint}/datasets/{self.name}"

    # what it holds

    def state(self, revision: str | None = None) -> State | None:
        """Return the content at the head of the branch, or at another revision; None if there is no
        such repository or revision, or none that the token may see."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        def ask() -> "DatasetInfo | None":
            try:
                return self._api.dataset_info(self.name, revision=revision or self.branch)
            except (RepositoryNotFoundError, RevisionNotFoundError):
                return None

        info = self._call("asking for the repository", ask)
        if info is None or info.sha is None:
            return None
        return State(info.sha, bool(info.private), self._files(info.sha))

    def _files(self, commit: str) -> dict[str, str]:
        from huggingface_hub.hf_api import RepoFile

        tree = self._call(
            "listing its files",
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
        """The content of its small files of these names, of those that it has."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        def read(name: str) -> str:
            address = hf_hub_url(self.name, name, repo_type="dataset", revision=state.commit)
            answer = get_session().get(address, headers=build_hf_headers(token=self._token))
            hf_raise_for_status(answer)
            return answer.content.decode("utf-8")

        def reading(name: str) -> str:
            return self._call(f"reading its {name}", lambda: read(name))

        return {name: reading(name) for name in names if name in state.files}

    def tagged(self, tag: str) -> str | None:
        """The commit that a tag names."""
        refs = self._call(
            "listing its tags",
            lambda: self._api.list_repo_refs(self.name, repo_type="dataset"),
        )
        return next((ref.target_commit for ref in refs.tags if ref.name == tag), None)

    def exists(self) -> bool:
        return self.state("main") is not None

    # what is written

    def create(self, *, public: bool) -> None:
        """Makes it, and the branch, where they are not there."""
        self._call(
            "making the repository",
            lambda: self._api.create_repo(
                self.name, repo_type="dataset", private=not public, exist_ok=True
            ),
        )
        self.create_branch()

    def create_branch(self) -> None:
        """Makes the branch at the head of main, where it is not there."""
        if self.branch != "main":
            self._call(
                "making the branch",
                lambda: self._api.create_branch(
                    self.name, branch=self.branch, repo_type="dataset", exist_ok=True
                ),
            )

    def commit(self, change: Change, state: State, message: str, *, as_pull: bool) -> Landed:
        """Uploads what a change writes and makes it one commit on `state`, or a pull request.

        Raises HubError where somebody else changed the branch meanwhile.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        adds = [CommitOperationAdd(name, str(path)) for name, path in change.write.items()]
        deletes = [CommitOperationDelete(name) for name in change.delete]
        self._upload(adds, as_pull=as_pull)

        def send() -> Landed:
            return self._send([*adds, *deletes], state, message, as_pull=as_pull)

        def landed() -> Landed | None:
            return self.pull(change, message) if as_pull else self._there(change, state)

        return self._call("the commit", send, landed)

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
            if is_of_hub(error):
                raise
            # The Xet client raises these for what its server answers, and names no status.
            raise ConnectionError(f"the upload broke off: {error}") from error

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
        """The commit whose answer was lost. Raises HubError where the branch has another."""
        now = self.state()
        if now is None or now.commit == before.commit:
            return None
        if not left(change, now):
            return Landed(now.commit, f"{self.url}/commit/{now.commit}")
        raise HubError(
            "--repo",
            f"{self.name}: somebody else pushed meanwhile ({self.branch} is at {now.commit[:12]}, "
            f"and was at {before.commit[:12]}); nothing of theirs was changed",
            "look at it and run the same command again, or use --create-pr",
        )

    def pull(self, change: Change, message: str) -> Landed | None:
        """An open pull request that makes this very change."""
        found = self._call(
            "listing its pull requests",
            lambda: list(
                self._api.get_repo_discussions(
                    self.name,
                    repo_type="dataset",
                    discussion_type="pull_request",
                    discussion_status="open",
                )
            ),
        )
        for discussion in found:
            if discussion.title == message:
                now = self.state(f"refs/pr/{discussion.num}")
                if now is not None and not left(change, now):
                    return Landed(now.commit, f"{self.url}/discussions/{discussion.num}")
        return None

    def tag(self, tag: str, commit: str) -> None:
        """Names a commit; a tag that names it already is left."""
        self._call(
            "the tag",
            lambda: self._api.create_tag(
                self.name, tag=tag, revision=commit, repo_type="dataset", exist_ok=True
            ),
        )

    # trying again

    def _call(
        self, what: str, call: Callable[[], T], landed: Callable[[], T | None] | None = None
    ) -> T:
        """What a call gives, tried again where the fault is one that passes.

        `landed` checks whether the call that failed took effect all the same.
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
                    raise self._sentence(what, error, n + 1) from error
                place = f"{n + 1} of {self._tries}"
                self._progress.say(
                    f"  {what}: {short(error)}; trying again in {wait:.0f} s ({place})"
                )
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _sentence(self, what: str, error: Exception, tries: int) -> HubError:
        code, message = status(error), self._message(error)
        again = "run the same command again: what was uploaded is not sent again"
        if code == 401:
            return HubError(
                "HF_TOKEN",
                f"{what}: the Hub does not take the token (401{message})",
                "create one with write access at huggingface.co/settings/tokens, and run `hf auth "
                "login` or set HF_TOKEN",
            )
        if code in (402, 413, 507) or (code == 403 and any(w in message.lower() for w in _FULL)):
            return HubError(
                "--repo",
                f"{what}: the storage of {self.name} is full ({code}{message})",
                f"make room, and {again}",
            )
        if code == 403:
            return HubError(
                "HF_TOKEN",
                f"{what}: the token may not do this in {self.name} (403{message})",
                "take a token with the right to write there, or another --repo",
            )
        if is_transient(error):
            wait = waiting(error, tries - 1)
            if wait > LONGEST_WAIT:
                again = f"wait {wait / 60:.0f} minutes, and {again}"
            return HubError("--repo", f"{what}: {short(error)} after {tries} tries{message}", again)
        return HubError("--repo", f"{what}: the Hub refused it ({code or short(error)}{message})")

    def _message(self, error: Exception) -> str:
        """The server's own words, behind a colon, and never the token."""
        for each in causes(error):
            words = getattr(each, "server_message", None)
            if words:
                return ": " + " ".join(str(words).split()).replace(self._token, "…")[:200]
        return ""


def left(change: Change, state: State) -> list[str]:
    """The files of a change that a state does not have as the change wants them."""
    wrong = [
        name for name, path in change.write.items() if not is_same(path, state.files.get(name))
    ]
    return wrong + [name for name in change.delete if name in state.files]


def is_same(path: Path, file_id: str | None) -> bool:
    """Whether a repository's file, by its id, is this one."""
    if file_id is None:
        return False
    return file_id == (file_digest(path) if len(file_id) == 64 else git_id(path))


def git_id(path: Path) -> str:
    """The id that git gives a file's content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
