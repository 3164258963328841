"""A simulated Hugging Face Hub on the loopback interface, with faults on demand.

It implements the HTTP protocol that `huggingface_hub`, `hf_xet`, and `datasets` use to publish and
load a dataset: repositories with branches, tags, and pull requests, commits with parents,
collections, and files in the tree or, for Parquet, in Xet storage (or in LFS, if the client does
not use Xet). It counts requests, received bytes, and commits.
"""

import base64
import hashlib
import json
import re
import threading
import time
import uuid
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from xet import files_in

TOKEN = "hf_aTokenThatMustNotBeSeenAnywhere"


@dataclass
class Fault:
    """A fault that affects some requests of one step."""

    step: str
    kind: str
    """A status such as `500`, `drop` (ignore the request and close the connection), `lost` (process
    the request, but do not answer), `quota`, or `race` (another commit happens just before)."""
    times: int = 1
    """Number of requests that fail."""
    after: int = 0
    """Number of requests of the step that succeed first."""


@dataclass
class Commit:
    oid: str
    parent: str | None
    title: str
    files: dict[str, bytes]


@dataclass
class Repository:
    private: bool
    commits: list[Commit] = field(default_factory=list)
    refs: dict[str, str] = field(default_factory=dict)
    """Commits of branches, and of pull requests as refs/pr/N."""
    tags: dict[str, str] = field(default_factory=dict)
    pulls: list[dict] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    """Large files by SHA-256."""

    def commit(self, ref, title, files, parent):
        oid = hashlib.sha1(f"{len(self.commits)} {title} {parent}".encode()).hexdigest()
        self.commits.append(Commit(oid, parent, title, files))
        self.refs[ref] = oid
        return oid

    def at(self, revision):
        oid = self.refs.get(revision) or self.tags.get(revision) or revision
        return next((commit for commit in self.commits if commit.oid == oid), None)

    @property
    def main(self):
        return self.at("main").files


STEPS = (
    ("create", "POST", r"/api/repos/create"),
    ("yaml", "POST", r"/api/validate-yaml"),
    ("whoami", "GET", r"/api/whoami-v2"),
    ("preupload", "POST", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/preupload/(?P<rev>[^/]+)"),
    ("commit", "POST", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/commit/(?P<rev>[^/]+)"),
    ("branch", "POST", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/branch/(?P<rev>[^/]+)"),
    ("tag", "POST", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/tag/(?P<rev>[^/]+)"),
    ("paths", "POST", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/paths-info/(?P<rev>[^/]+)"),
    ("collection", "GET", r"/api/collections/(?P<slug>[^/]+/[^/]+)"),
    ("collect", "POST", r"/api/collections/(?P<slug>[^/]+/[^/]+)/items"),
    ("refs", "GET", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/refs"),
    ("pulls", "GET", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/discussions"),
    ("tree", "GET", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/tree/(?P<rev>[^/]+)(?P<path>/.*)?"),
    ("info", "GET", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/revision/(?P<rev>[^/]+)"),
    ("info", "GET", r"/api/datasets/(?P<repo>[^/]+/[^/]+)"),
    ("batch", "POST", r"/datasets/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch"),
    ("put", "PUT", r"/lfs/(?P<repo>[^/]+/[^/]+)/(?P<path>[0-9a-f]+)"),
    ("verify", "POST", r"/lfs/(?P<repo>[^/]+/[^/]+)/verify"),
    ("xet_token", "GET", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/xet-write-token/(?P<rev>[^/]+)"),
    ("grant", "POST", r"/v1/xorb-grants/default/(?P<path>[0-9a-f]{64})"),
    ("store", "PUT", r"/xet-store/(?P<path>[0-9a-f]{64})"),
    ("xorb", "POST", r"/v1/xorb-commits/default/(?P<path>[0-9a-f]{64})/grant/(?P<grant>[^/]+)"),
    ("xorb", "POST", r"/v1/xorbs/default/(?P<path>[0-9a-f]{64})"),
    ("shard", "POST", r"/v2/shards"),
    ("chunk", "GET", r"/v1/chunks/default/(?P<path>[0-9a-f]{64})"),
    ("telemetry", "POST", r"/v1/telemetry"),
    ("head", "HEAD", r"/datasets/(?P<repo>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)"),
    ("get", "GET", r"/datasets/(?P<repo>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)"),
)
WRITING = {"create", "preupload", "xet_token", "commit", "branch", "tag", "collect"} | {
    *("batch", "put", "verify")
}
XET = {"grant", "xorb", "shard", "chunk", "telemetry"}
"""Requests to the Xet storage, which have the short-lived token of `xet_token`."""


class Hub:
    """A running Hub, used as a context manager. `url` is the value for HF_ENDPOINT."""

    def __init__(self):
        self.id = uuid.uuid4().hex
        self.repositories: dict[str, Repository] = {}
        self.xorbs: dict[str, bytes] = {}
        self.xet_tokens: dict[str, str] = {}
        """Repositories by the short-lived token that may upload to them."""
        self.collections: dict[str, list[str]] = {}
        """Names of the datasets in each collection, by the collection's slug."""
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.received = 0
        """Total size of the received request bodies in bytes."""
        self.may_write = True
        self.retry_after = 1
        self.on: tuple[str, int] | None = None
        """Name of a step and a number n. After the first n requests of the step, its requests set
        `reached` and get no answer."""
        self.reached = threading.Event()
        self.lock = threading.RLock()
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def break_(self, step, kind, times=1, after=0):
        self.faults.append(Fault(step, str(kind), times, after))

    def fault(self, step):
        for fault in self.faults:
            if fault.step == step and fault.times > 0:
                if fault.after > 0:
                    fault.after -= 1
                    return None
                fault.times -= 1
                return fault.kind
        return None

    def make(self, name, private=True):
        repository = self.repositories[name] = Repository(private)
        repository.commit("main", "initial commit", {".gitattributes": b"*.parquet lfs\n"}, None)
        return repository

    def change(self, name, files, ref="main", title="by hand"):
        """Commit changed files, as a user would in the browser. A file set to None is deleted."""
        repository = self.repositories[name]
        held = repository.at(ref)
        merged = {**held.files, **files}
        kept = {path: content for path, content in merged.items() if content is not None}
        return repository.commit(ref, title, kept, held.oid)

    def reset_counts(self):
        self.requests.clear()
        self.received = 0


class _Refused(Exception):
    def __init__(self, status, code=None, message=None, **headers):
        self.status, self.code, self.message, self.headers = status, code, message, headers


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise, every answer waits 40 ms for an acknowledgment
    hub: Hub

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self):
        body = self._body()
        url = urlsplit(self.path)
        step, found = _step(self.command, url.path)
        if found is None:
            self._send(404, {"error": f"no such address: {self.command} {url.path}"})
            return
        parts = {name: unquote(part) for name, part in found.groupdict(default="").items()}
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        with self.hub.lock:
            self.hub.requests.append(step)
            self.hub.received += len(body)
            kind = self.hub.fault(step)
            at, n = self.hub.on or ("", 0)
            if step == at and self.hub.requests.count(step) > n:
                kind = "drop"
                self.hub.reached.set()
            if kind == "drop":
                self.close_connection = True
                return
            try:
                if kind == "race":
                    self.hub.change(parts["repo"], {"theirs.txt": b"theirs"}, title="theirs")
                elif kind == "quota":
                    raise _Refused(403, message="Private repository storage limit reached")
                elif kind == "frame":  # the status is sent before the Xet storage finds the error
                    told = {"type": "error", "message": "storage quota exceeded"}
                    self._send(200, {**told, "retryable": False})
                    return
                elif kind and kind != "lost":
                    headers = {"Retry-After": str(self.hub.retry_after)} if kind == "429" else {}
                    raise _Refused(int(kind), message=f"fault {kind}", **headers)
                self._check_token(step, parts)
                status, answer, headers = getattr(self, f"_{step}")(body, query, **parts)
            except _Refused as refused:
                status, answer = refused.status, {"error": refused.message or "refused"}
                headers = dict(refused.headers)
                if refused.code:
                    headers["X-Error-Code"] = refused.code
                if refused.message:
                    headers["X-Error-Message"] = refused.message
        if kind == "lost":
            self.close_connection = True
            return
        self._send(status, answer, headers)

    def _send(self, status, answer, headers=()):
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        headers = dict(headers)
        self.send_response(status)
        if "Content-Length" not in headers:
            headers["Content-Length"] = str(len(content))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _check_token(self, step, parts):
        if step in ("put", "store", "yaml"):
            return  # a signed URL needs no token
        given = self.headers.get("Authorization", "")
        if step in XET:
            if given.removeprefix("Bearer ") not in self.hub.xet_tokens:
                raise _Refused(401, message="unknown token")
            return
        known = given == f"Bearer {TOKEN}"
        if given and not known:
            raise _Refused(401, message="Invalid credentials in Authorization header")
        repository = self.hub.repositories.get(parts.get("repo", ""))
        if "repo" in parts and (repository is None or (repository.private and not known)):
            raise _Refused(404 if known else 401, "RepoNotFound", "Repository not found")
        if step in WRITING and not (known and self.hub.may_write):
            raise _Refused(403, message="You don't have the rights to write here")

    def _repository(self, repo):
        return self.hub.repositories[repo]

    def _commit_at(self, repo, rev):
        found = self._repository(repo).at(rev)
        if found is None:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {rev}")
        return found

    def _create(self, body, query):
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        url = f"{self.hub.url}/datasets/{name}"
        if name in self.hub.repositories:
            return 409, {"error": "You already created this dataset repo", "url": url}, {}
        self.hub.make(name, private=asked.get("visibility", "public") == "private")
        return 200, {"url": url, "name": name}, {}

    def _yaml(self, body, query):
        return 200, {"errors": [], "warnings": []}, {}

    def _whoami(self, body, query):
        return 200, {"name": "somebody", "type": "user", "orgs": []}, {}

    def _info(self, body, query, repo, rev="main"):
        commit = self._commit_at(repo, rev)
        siblings = [{"rfilename": path} for path in commit.files]
        private = self._repository(repo).private
        return (
            200,
            {"id": repo, "sha": commit.oid, "private": private, "siblings": siblings, "tags": []},
            {},
        )

    def _preupload(self, body, query, repo, rev):
        files = self._commit_at(repo, rev).files
        return (
            200,
            {
                "files": [
                    {
                        "path": asked["path"],
                        "uploadMode": "lfs" if _is_large(asked["path"]) else "regular",
                        "shouldIgnore": _is_ignored(asked["path"], files),
                        "oid": _git_oid(asked["path"], files[asked["path"]])
                        if asked["path"] in files
                        else None,
                    }
                    for asked in json.loads(body)["files"]
                ]
            },
            {},
        )

    def _batch(self, body, query, repo):
        stored = self._repository(repo).stored
        objects = []
        for asked in json.loads(body)["objects"]:
            answer = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in stored:
                base = f"{self.hub.url}/lfs/{repo}"
                answer["actions"] = {
                    "upload": {"href": f"{base}/{asked['oid']}", "header": {}},
                    "verify": {"href": f"{base}/verify", "header": {}},
                }
            objects.append(answer)
        return 200, {"transfer": "basic", "objects": objects}, {}

    def _put(self, body, query, repo, path):
        if hashlib.sha256(body).hexdigest() != path:
            raise _Refused(400, message="the content is not what its name says")
        self._repository(repo).stored[path] = body
        return 200, b"", {}

    def _verify(self, body, query, repo):
        asked = json.loads(body)
        held = self._repository(repo).stored.get(asked["oid"])
        if held is None or len(held) != asked["size"]:
            raise _Refused(404, message="not uploaded")
        return 200, {}, {}

    def _xet_token(self, body, query, repo, rev):
        if query.get("create_pr") != "1":
            self._commit_at(repo, rev)
        token = f"xet-token-{len(self.hub.xet_tokens)}"
        self.hub.xet_tokens[token] = repo
        exp = int(time.time()) + 900
        return 200, {"casUrl": self.hub.url, "accessToken": token, "exp": exp}, {}

    def _grant(self, body, query, path):
        if path in self.hub.xorbs:
            return 200, {}, {}
        url = f"{self.hub.url}/xet-store/{path}"
        return 201, {"id": "grant", "method": "PUT", "url": url, "headers": {}}, {}

    def _store(self, body, query, path):
        self.hub.xorbs[path] = body
        return 200, b"", {}

    def _xorb(self, body, query, path, grant=""):
        if not grant:
            self.hub.xorbs[path] = body
        elif path not in self.hub.xorbs:
            raise _Refused(404, message="the xorb was not stored")
        return 200, {"was_inserted": True}, {}

    def _shard(self, body, query):
        token = self.headers["Authorization"].removeprefix("Bearer ")
        stored = self._repository(self.hub.xet_tokens[token]).stored
        for content in files_in(body, self.hub.xorbs):
            stored[hashlib.sha256(content).hexdigest()] = content
        return 200, b'{"type": "result"}\n', {}

    def _chunk(self, body, query, path):
        raise _Refused(404, message="unknown chunk")

    def _telemetry(self, body, query):
        return 200, {}, {}

    def _commit(self, body, query, repo, rev):
        repository = self._repository(repo)
        head = self._commit_at(repo, rev)
        header, *operations = [json.loads(line) for line in body.splitlines() if line]
        title, parent = header["value"]["summary"], header["value"].get("parentCommit")
        as_pull = query.get("create_pr") == "1"
        if parent and parent != head.oid and not as_pull:
            raise _Refused(412, message="A commit has happened since. Please refresh and try again")
        files = dict(self._commit_at(repo, parent or head.oid).files)
        for operation in operations:
            value = operation["value"]
            match operation["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    if value["oid"] not in repository.stored:
                        raise _Refused(400, message="a large file is missing")
                    files[value["path"]] = repository.stored[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        ref = rev
        if as_pull:
            ref = f"refs/pr/{len(repository.pulls) + 1}"
            repository.pulls.append({"num": len(repository.pulls) + 1, "title": title})
        oid = repository.commit(ref, title, files, parent or head.oid)
        url = f"{self.hub.url}/datasets/{repo}"
        answer = {"success": True, "commitOid": oid, "commitUrl": f"{url}/commit/{oid}"}
        if as_pull:
            answer["pullRequestUrl"] = f"{url}/discussions/{len(repository.pulls)}"
        return 200, answer, {}

    def _branch(self, body, query, repo, rev):
        repository = self._repository(repo)
        if rev in repository.refs:
            raise _Refused(409, message="Reference already exists")
        start = json.loads(body or b"{}").get("startingPoint", "main")
        repository.refs[rev] = self._commit_at(repo, start).oid
        return 201, {}, {}

    def _tag(self, body, query, repo, rev):
        repository, name = self._repository(repo), json.loads(body)["tag"]
        if name in repository.tags:
            raise _Refused(409, message="Tag reference exists already")
        repository.tags[name] = self._commit_at(repo, rev).oid
        return 201, {}, {}

    def _collection(self, body, query, slug):
        if slug not in self.hub.collections:
            raise _Refused(404, message="Collection not found")
        items = [
            {"_id": str(place), "id": name, "type": "dataset", "position": place}
            for place, name in enumerate(self.hub.collections[slug])
        ]
        told = {"slug": slug, "title": "toys", "owner": {"name": "org"}, "items": items}
        more = {"private": True, "position": 0, "theme": "blue", "upvotes": 0}
        return 200, {**told, **more, "lastUpdated": "2026-01-01T00:00:00.000Z"}, {}

    def _collect(self, body, query, slug):
        item = json.loads(body)["item"]
        assert item["type"] == "dataset"
        if item["id"] in self.hub.collections[slug]:
            raise _Refused(409, message="The item is already in the collection")
        self.hub.collections[slug].append(item["id"])
        return self._collection(body, query, slug)

    def _refs(self, body, query, repo):
        repository = self._repository(repo)

        def listed(refs, folder):
            return [
                {"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": oid}
                for name, oid in refs.items()
                if not name.startswith("refs/")
            ]

        return (
            200,
            {
                "branches": listed(repository.refs, "heads"),
                "tags": listed(repository.tags, "tags"),
                "converts": [],
                "pullRequests": [
                    {"name": name, "ref": name, "targetCommit": oid}
                    for name, oid in repository.refs.items()
                    if name.startswith("refs/pr/")
                ],
            },
            {},
        )

    def _pulls(self, body, query, repo):
        pulls = self._repository(repo).pulls
        found = [
            {
                "num": pull["num"],
                "title": pull["title"],
                "status": "open",
                "isPullRequest": True,
                "author": {"name": "somebody"},
                "createdAt": "2026-01-01T00:00:00.000Z",
                "repo": {"name": repo, "type": "dataset"},
            }
            for pull in pulls
        ]
        start = 0 if query.get("p", "0") == "0" else len(found)
        return 200, {"discussions": found[start:], "count": len(found), "start": start}, {}

    def _tree(self, body, query, repo, rev, path):
        files = self._commit_at(repo, rev).files
        prefix = path.strip("/") + "/" if path.strip("/") else ""
        rows = []
        folders = set()
        for name, content in sorted(files.items()):
            if not name.startswith(prefix):
                continue
            rest = name[len(prefix) :]
            if "/" in rest:
                folders |= {
                    prefix + "/".join(rest.split("/")[: n + 1]) for n in range(rest.count("/"))
                }
                if query.get("recursive", "").lower() not in ("1", "true"):
                    continue
            rows.append(_entry(name, content))
        if prefix and not rows and not folders:
            raise _Refused(404, "EntryNotFound", f"{path} does not exist")
        if query.get("recursive", "").lower() not in ("1", "true"):
            folders = {folder for folder in folders if "/" not in folder[len(prefix) :]}
        found = [
            {"type": "directory", "oid": "0" * 40, "size": 0, "path": folder}
            for folder in sorted(folders)
        ]
        return 200, found + rows, {}

    def _paths(self, body, query, repo, rev):
        asked = parse_qs(body.decode())
        paths = asked.get("paths") or json.loads(body).get("paths", [])
        files = self._commit_at(repo, rev).files
        found = [_entry(path, files[path]) for path in paths if path in files]
        found += [
            {"type": "directory", "oid": "0" * 40, "size": 0, "path": path}
            for path in paths
            if any(name.startswith(path + "/") for name in files)
        ]
        return 200, found, {}

    def _get(self, body, query, repo, rev, path):
        commit = self._commit_at(repo, rev)
        if path not in commit.files:
            raise _Refused(404, "EntryNotFound", f"{path} does not exist")
        content = commit.files[path]
        etag = hashlib.sha256(content).hexdigest() if _is_large(path) else _git_oid(path, content)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and self.command == "GET":
            first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            return 206, content[first : last + 1], headers
        if self.command == "HEAD":
            headers["Content-Length"] = str(len(content))
        return 200, content, headers

    _head = _get


def _step(command, path):
    for step, method, pattern in STEPS:
        if method == command and (found := re.fullmatch(pattern, path)):
            return step, found
    return None, None


def _is_ignored(path, files):
    patterns = files.get(".gitignore", b"").decode().splitlines()
    return any(fnmatch(path, pattern) for pattern in patterns)


def _is_large(path):
    return path.endswith((".parquet", ".png"))


def _git_oid(path, content):
    if _is_large(path):
        digest = hashlib.sha256(content).hexdigest()
        content = (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\n"
            f"size {len(content)}\n"
        ).encode()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(path, content):
    entry = {
        "type": "file",
        "oid": _git_oid(path, content),
        "size": len(content),
        "path": path,
    }
    if _is_large(path):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
    return entry
