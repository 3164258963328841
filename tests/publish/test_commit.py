"""Tests of the push: the real command in a separate process, the Hub's unpatched client, and a
local Hub server with injected faults.
"""

import json
import os
import subprocess
import sys

import httpx2
import pytest
from hub import TOKEN, Hub
from huggingface_hub.errors import HfHubHTTPError
from toys import publishable

from factory.errors import PublishError
from factory.publish import waiting
from factory.publish.options import check_collection, check_reference

datasets = pytest.importorskip("datasets")

REPO = "org/toy"


class Publisher:
    """A finished toy recipe and the command that publishes it."""

    def __init__(self, toy):
        self.toy = toy

    def __call__(self, hub, *args, repo=REPO, token=TOKEN, **environment):
        command = [sys.executable, "-m", "factory.cli", "publish", "recipe.yaml", "--repo", repo]
        return self.run([*command, *map(str, args)], hub, token, **environment)

    def run(self, command, hub, token=TOKEN, **environment):
        given = {
            name: value
            for name, value in os.environ.items()
            if name not in ("HF_HUB_OFFLINE", "HF_TOKEN")
        }
        given |= {
            "HF_ENDPOINT": hub.url if hub else "http://127.0.0.1:9",
            "HF_HOME": str(self.toy.folder / "hf"),
            # The cache remembers what a Hub at an address has, and a later Hub may get its port.
            "HF_XET_CACHE": str(self.toy.folder / "hf" / f"xet-{hub.id if hub else 'none'}"),
            "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "1",
            "HF_XET_CLIENT_RETRY_BASE_DELAY": "10ms",
            **({"HF_TOKEN": token} if token else {}),
            **environment,
        }
        ended = subprocess.run(
            command,
            cwd=self.toy.folder,
            env=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert TOKEN not in ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended


FOLDER = """
import sys
from pathlib import Path
from factory.errors import FactoryError
from factory.progress import Lines
from factory.publish import PublishOptions
from factory.publish.commit import find_target, push_folder
from factory.publish.hub import Repository

try:
    asked = PublishOptions("org/toy", as_pull="--pr" in sys.argv)
    target = find_target(asked, "toy", Repository(asked.repository, "main", Lines()))
    print(push_folder(Path("good"), asked, target, "toy").url)
except FactoryError as error:
    sys.exit(f"factory: {error}")
"""


ASK = """
import os
import duckdb
from huggingface_hub import snapshot_download

os.chdir(snapshot_download("org/toy", repo_type="dataset"))
con = duckdb.connect()
con.execute(open("sql/views.sql").read())
print(con.sql(open("sql/outcomes.sql").read()))
"""

LOAD = """
import datasets

for name in datasets.get_dataset_config_names("org/toy"):
    loaded = datasets.load_dataset("org/toy", name)
    print(name, {split: len(rows) for split, rows in loaded.items()})
"""


@pytest.fixture(scope="module")
def push(publish, good):
    """Push the written folder without the lake, as the tests of faults do."""

    def call(hub, *args, **environment):
        return publish.run([sys.executable, "-c", FOLDER, *args], hub, **environment)

    return call


def content(folder):
    """Return the files of a folder by name."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def published(hub, ref="main", repo=REPO):
    """Return the files of a repository, without those that the Hub adds."""
    files = dict(hub.repositories[repo].at(ref).files)
    files.pop(".gitattributes")
    return files


@pytest.fixture(scope="module")
def publish(tmp_path_factory):
    place = tmp_path_factory.mktemp("publish")
    toy = publishable(place / "toy")
    toy.finish()
    return Publisher(toy)


@pytest.fixture(scope="module")
def good(publish):
    """Return the files of the folder that would be pushed to a new repository."""
    with Hub() as hub:
        ended = publish(hub, "--dry-run", "good")
        assert ended.returncode == 0, ended.stderr
        assert "Nothing was sent. The folder to publish: good" in ended.stdout
        assert hub.repositories == {}
    return content(publish.toy.folder / "good")


@pytest.fixture
def hub():
    with Hub() as hub:
        yield hub


def test_what_is_pushed_is_what_the_dry_run_wrote_in_one_commit(publish, good, hub):
    ended = publish(hub)
    assert ended.returncode == 0, ended.stderr
    assert "new private repository, one commit" in ended.stdout
    assert published(hub) == good
    repository = hub.repositories[REPO]
    assert repository.private
    assert len(repository.commits) == 2  # the Hub's own, and ours
    assert repository.commits[1].parent == repository.commits[0].oid


@pytest.mark.slow
def test_it_loads_from_the_hub(publish, hub):
    publish(hub)
    told = publish.run([sys.executable, "-c", LOAD], hub)
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert {line.split()[0] for line in lines} == {
        "default",
        "anchored",
        "kto",
        "candidates",
        "judgments",
    }
    for name, split, n in [
        (config["config_name"], split["name"], split["num_examples"])
        for config in json.loads(published(hub)["lineage.json"])["card"]["dataset_info"]
        for split in config["splits"]
    ]:
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert f"'{split}': {n}" in line


@pytest.mark.slow
def test_duckdb_asks_a_copy_as_the_card_says(publish, hub):
    publish(hub)
    code = published(hub)["README.md"].decode().split("```python\n")[2].split("```")[0]
    assert code.strip() == ASK.strip().replace("outcomes", "score_gap")
    told = publish.run([sys.executable, "-c", ASK], hub)
    assert told.returncode == 0, told.stderr
    assert "kept" in told.stdout


@pytest.mark.slow
def test_pushed_again_nothing_is_sent(publish, hub):
    publish(hub)
    hub.reset_counts()
    ended = publish(hub)
    assert ended.returncode == 0
    assert "Nothing has changed, so there is no new commit: http" in ended.stdout
    assert hub.received == 0
    assert len(hub.repositories[REPO].commits) == 2


@pytest.mark.slow
def test_one_more_iteration_sends_only_its_own_files(tmp_path, hub):
    toy = publishable(tmp_path / "toy")
    toy.finish()
    publish = Publisher(toy)
    publish(hub)
    before = published(hub)
    toy.run("loop.iterations=2")
    hub.reset_counts()
    ended = publish(hub, "--set", "loop.iterations=2", "--json")
    told = json.loads(ended.stdout)
    after = published(hub)
    rows = [name for name in after if name.endswith(".parquet")]
    new = [name for name in rows if name not in before]
    assert all(after[name] == before[name] for name in before if name.endswith(".parquet"))
    assert all(name.endswith("-01.parquet") for name in new)
    assert new
    assert hub.requests.count("put") == 0  # all of it went to Xet storage
    assert hub.requests.count("commit") == 1
    assert hub.received < told["size"] * 1.5 + 20_000
    assert told["changed"]
    assert not told["made"]


@pytest.mark.slow
def test_what_is_no_longer_published_is_taken_out_and_what_is_not_ours_stays(publish, good, hub):
    publish(hub)
    hub.change(REPO, {"data/train-09.parquet": b"stale", "notes/mine.txt": b"mine"})
    ended = publish(hub)
    assert ended.returncode == 0, ended.stderr
    assert "1 deleted" in ended.stdout
    files = published(hub)
    assert files.pop("notes/mine.txt") == b"mine"
    assert files == good


@pytest.mark.slow
def test_a_persons_own_words_survive(publish, hub):
    publish(hub)
    card = hub.repositories[REPO].main["README.md"].decode()
    changed = card.replace("pretty_name: toy", "pretty_name: My toys\nlanguage: en")
    head, mark, rest = changed.partition("<!-- Written by")
    changed = f"{head}Read this first.\n\n{mark}{rest}\nAnd this last.\n"
    hub.change(REPO, {"README.md": changed.encode()})
    assert publish(hub).returncode == 0
    assert "no new commit" in publish(hub).stdout
    card = hub.repositories[REPO].main["README.md"].decode()
    scribbled = card.replace("## Contents", "## Scribbled")
    hub.change(REPO, {"README.md": scribbled.encode()})
    assert publish(hub).returncode == 0
    assert hub.repositories[REPO].main["README.md"].decode() == card
    assert "pretty_name: My toys" in card
    assert "\n# My toys\n" in card
    assert "language: en" in card
    assert "\nRead this first.\n" in card
    assert card.endswith("\nAnd this last.\n")


@pytest.mark.slow
def test_a_branch_a_tag_and_a_public_repository(publish, good, hub):
    ended = publish(hub, "--branch", "next", "--tag", "v1", "--public")
    assert ended.returncode == 0, ended.stderr
    repository = hub.repositories[REPO]
    assert not repository.private
    assert published(hub, "next") == good
    assert list(repository.main) == [".gitattributes"]
    assert repository.tags == {"v1": repository.refs["next"]}
    again = publish(hub, "--branch", "next", "--tag", "v1")
    assert again.returncode == 0, again.stderr
    hub.change(REPO, {"README.md": b"gone"}, ref="next")
    moved = publish(hub, "--branch", "next", "--tag", "v1")
    assert moved.returncode == 2
    assert "already points to the commit" in moved.stderr


COLLECTION = "org/toys-" + "a1" * 12


@pytest.mark.slow
def test_a_pull_request_is_opened_and_then_updated(publish, good, hub):
    hub.make(REPO)
    hub.collections[COLLECTION] = []
    args = ("--pr", "--collection", COLLECTION)
    hub.break_("collect", "422")
    first = publish(hub, *args)
    assert first.returncode == 1
    assert "adding the dataset to the collection: the Hub rejected" in first.stderr
    assert published(hub, "refs/pr/1") == good
    assert list(hub.repositories[REPO].main) == [".gitattributes"]
    hub.change(REPO, {"data/train-00.parquet": b"other"}, ref="refs/pr/1")
    second = publish(hub, *args)
    assert second.returncode == 0, second.stderr
    assert "Updated a pull request" in second.stdout
    assert f"{hub.url}/datasets/{REPO}/discussions/1\n" in second.stdout
    assert "The dataset is now in the collection." in second.stdout
    assert len(hub.repositories[REPO].pulls) == 1
    assert hub.collections[COLLECTION] == [REPO]
    assert published(hub, "refs/pr/1") == good


PUSHES = """
import json
import sys
from pathlib import Path
from factory.errors import FactoryError
from factory.progress import Silent
from factory.publish import PublishOptions
from factory.publish.commit import find_target, planned_steps, push_folder
from factory.publish.hub import Repository

for options in json.loads(sys.argv[1]):
    asked = PublishOptions("org/toy", **options)
    try:
        target = find_target(asked, "toy", Repository("org/toy", "main", Silent()))
        steps = planned_steps(Path("good"), asked, target)
        pushed = vars(push_folder(Path("good"), asked, target, "toy"))
        print(json.dumps({"steps": steps, **pushed}))
    except FactoryError as error:
        print(json.dumps({"error": str(error)}))
"""


@pytest.fixture(scope="module")
def pushes(publish, good):
    """Push the written folder several times in one process, and return what each push did."""

    def call(hub, *options):
        ended = publish.run([sys.executable, "-c", PUSHES, json.dumps(options)], hub)
        assert ended.returncode == 0, ended.stderr
        return [json.loads(line) for line in ended.stdout.splitlines()]

    return call


def test_each_push_does_only_what_is_left_to_do(pushes, good, hub):
    hub.collections[COLLECTION] = []
    hub.break_("tag", "422")
    hub.break_("collect", "422")
    asked = {"private": True, "branch": "next", "tag": "v1", "collection": COLLECTION}
    first, second, third, fourth, moved, other = pushes(
        hub, asked, asked, asked, asked, {"tag": "v1"}, {"tag": "v1", "as_pull": True}
    )
    assert "creating the tag: the Hub rejected the request (422" in first["error"]
    assert "adding the dataset to the collection: the Hub rejected" in second["error"]
    assert third["steps"] == [
        "commit nothing, because nothing has changed",
        f"add the dataset to the collection {COLLECTION}",
    ]
    assert (third["changed"], third["tagged"], third["collected"]) == (False, False, True)
    assert fourth["steps"] == ["commit nothing, because nothing has changed"]
    assert (fourth["tagged"], fourth["collected"]) == (False, False)
    # main does not have the commit yet, but the tag is on the same content.
    assert (moved["changed"], moved["tagged"]) == (True, False)
    assert other["changed"] is False
    repository = hub.repositories[REPO]
    assert published(hub, "next") == published(hub) == good
    assert repository.tags == {"v1": repository.refs["next"]}
    assert repository.pulls == []
    assert hub.requests.count("collect") == 2
    assert repository.private


@pytest.mark.slow
def test_a_push_that_cannot_end_well_is_refused_before_anything_is_sent(pushes, hub):
    repository = hub.make(REPO, private=False)
    repository.tags["v1"] = repository.refs["main"]
    hub.reset_counts()
    public, other, nowhere, branch = pushes(
        hub,
        {"private": True},
        {"tag": "v1"},
        {"collection": COLLECTION},
        {"tag": "v1", "branch": "next"},
    )
    assert "private: the repository org/toy already exists and is public" in public["error"]
    assert "tag: the tag v1 already points to the commit" in other["error"]
    assert "which has other content" in branch["error"]
    assert f"the collection {COLLECTION} does not exist" in nowhere["error"]
    assert not {"create", "preupload", "commit", "branch", "store"} & set(hub.requests)


@pytest.mark.slow
def test_the_steps_of_a_push_are_told_before_it(pushes, good, hub):
    size = f"{len(good):,} files with {sum(map(len, good.values())):,} bytes"
    hub.collections[COLLECTION] = []
    made, opened, updated = pushes(
        hub,
        {"public": True, "branch": "next", "tag": "v1", "collection": COLLECTION},
        {"as_pull": True},
        {"as_pull": True},
    )
    assert made["steps"] == [
        "create the public repository org/toy",
        "create the branch next",
        f"commit to the branch next: {size}",
        "tag the commit as v1",
        f"add the dataset to the collection {COLLECTION}",
    ]
    assert opened["steps"] == [f"open a pull request: {size}"]
    assert opened["pull"] == "opened"
    assert opened["url"].endswith("/discussions/1")
    assert updated["steps"] == ["commit nothing, because nothing has changed"]
    assert updated["url"].endswith("/discussions/1")
    assert updated["pull"] is None


# faults

QUICK = {("commit", "429"), ("commit", "lost"), ("commit", "race")}
"""Faults of the quick set: one passes, one loses an answer, and one stops the push."""


def fault(step, kind, *more):
    """Return a fault as a test's parameter. Each test takes seconds: few are in the quick set."""
    return pytest.param(step, kind, *more, marks=() if (step, kind) in QUICK else pytest.mark.slow)


PASSING = [
    fault(step, kind)
    for step in ("info", "create", "tree", "preupload", "yaml", "commit")
    for kind in ("429", "500", "drop")
]
LFS_PASSING = [fault("batch", "500"), fault("put", "drop"), fault("verify", "429")]
LFS = {"HF_HUB_DISABLE_XET": "1"}


@pytest.mark.parametrize(("step", "kind"), PASSING, ids=lambda value: value)
def test_a_fault_that_passes_is_waited_for(push, good, hub, step, kind):
    hub.break_(step, kind)
    ended = push(hub)
    assert ended.returncode == 0, ended.stderr
    assert published(hub) == good
    assert len(hub.repositories[REPO].commits) == 2


@pytest.mark.parametrize(("step", "kind"), LFS_PASSING, ids=lambda value: value)
def test_without_xet_a_fault_that_passes_is_waited_for(push, good, hub, step, kind):
    hub.break_(step, kind)
    ended = push(hub, **LFS)
    assert ended.returncode == 0, ended.stderr
    assert published(hub) == good
    assert hub.requests.count("shard") == 0


@pytest.mark.parametrize(("step", "kind"), [fault(step, "lost") for step in ("create", "commit")])
def test_an_answer_that_is_lost_does_nothing_twice(push, good, hub, step, kind):
    hub.break_(step, kind)
    ended = push(hub)
    assert ended.returncode == 0, ended.stderr
    assert published(hub) == good
    assert len(hub.repositories[REPO].commits) == 2


@pytest.mark.slow
def test_a_pull_request_whose_answer_is_lost_is_found(push, good, hub):
    hub.make(REPO)
    hub.break_("commit", "lost")
    ended = push(hub, "--pr")
    assert ended.returncode == 0, ended.stderr
    assert len(hub.repositories[REPO].pulls) == 1
    assert published(hub, "refs/pr/1") == good


STOPPING = [
    fault("info", "401", "the Hub rejected the token"),
    fault("create", "403", "the token has no write access to org/toy"),
    fault("commit", "401", "the Hub rejected the token"),
    fault("commit", "403", "the token has no write access to org/toy"),
    fault("commit", "quota", "the storage quota of org/toy is used up"),
    fault(
        "commit",
        "race",
        "the push was canceled because another commit moved the branch main",
    ),
    fault("commit", "422", "the Hub rejected the request (422"),
]


@pytest.mark.parametrize(("step", "kind", "said"), STOPPING, ids=lambda value: value[:12])
def test_a_fault_that_does_not_pass_is_a_sentence_and_run_again_all_is_well(
    push, good, hub, step, kind, said
):
    hub.break_(step, kind)
    ended = push(hub)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert ended.stderr.count("factory: ") == 1
    again = push(hub)
    assert again.returncode == 0, again.stderr
    files = published(hub)
    theirs = files.pop("theirs.txt", None)
    assert (theirs is not None) == (kind == "race")
    assert files == good


@pytest.mark.slow
def test_a_hub_that_is_down_is_given_up_and_uploads_are_not_repeated(push, good, hub):
    hub.break_("commit", "429", times=99)
    ended = push(hub)
    assert ended.returncode == 1
    assert "the Hub answered 429 on attempt 6" in ended.stderr
    assert "run the same command again" in ended.stderr
    hub.faults.clear()
    hub.reset_counts()
    assert push(hub).returncode == 0
    assert hub.requests.count("store") == 0
    assert published(hub) == good


@pytest.mark.slow
@pytest.mark.parametrize(("step", "after"), [("store", 0), ("shard", 0), ("store", 2)])
def test_killed_in_the_midst_and_run_again(publish, good, hub, step, after):
    hub.on = (step, after)
    command = [sys.executable, "-m", "factory.cli", "publish", "recipe.yaml", "--repo", REPO]
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": TOKEN,
    }
    with subprocess.Popen(
        command,
        cwd=publish.toy.folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        hub.reached.wait(60)
        process.kill()
    hub.on = None
    assert hub.repositories[REPO].main.keys() == {".gitattributes"}
    assert publish(hub).returncode == 0
    assert published(hub) == good
    assert not list((publish.toy.lake / "published").iterdir())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 4),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"Retry-After": "soon"}, 4),
        ({"ratelimit": '"api";r=0;t=55', "ratelimit-policy": '"fixed window";"api";q=5;w=300'}, 55),
        ({"ratelimit": '"api";r=3;t=55', "ratelimit-policy": '"fixed window";"api";q=5;w=300'}, 4),
    ],
)
def test_the_hub_says_how_long_to_wait(headers, seconds):
    error = RuntimeError("an upload failed")
    request = httpx2.Request("POST", "http://localhost")
    response = httpx2.Response(429, headers=headers, request=request)
    error.__cause__ = HfHubHTTPError("wait", response=response)
    assert waiting(error, 2) == seconds


@pytest.mark.slow
def test_longer_than_five_minutes_it_does_not_wait(push, hub):
    hub.retry_after = 3600
    hub.break_("commit", "429")
    ended = push(hub)
    assert ended.returncode == 1
    assert "wait 60 minutes, then run the same command again" in ended.stderr


@pytest.mark.slow
def test_a_commit_that_lacks_something_is_told(push, good, hub):
    hub.make(REPO)
    hub.change(REPO, {".gitignore": b"data/*"})
    ended = push(hub)
    assert ended.returncode == 1
    assert "remove .gitignore from the repository" in ended.stderr
    hub.change(REPO, {".gitignore": None})
    assert push(hub).returncode == 0
    assert published(hub) == good


# bad input


def test_no_token(publish, hub):
    ended = publish(hub, token=None)
    assert ended.returncode == 2
    assert "no Hub token was found: run `hf auth login`" in ended.stderr


def test_a_token_that_the_hub_does_not_know(publish, hub):
    ended = publish(hub, token="hf_another")
    assert ended.returncode == 1
    assert "the Hub rejected the token" in ended.stderr
    assert "hf_another" not in ended.stderr


def test_no_right_to_write(publish, hub):
    hub.may_write = False
    ended = publish(hub)
    assert ended.returncode == 1
    assert "use a token with write access, or choose another repository" in ended.stderr


@pytest.mark.parametrize("name", ["toy", "a/b/c", "org/to y", "org/-toy", "org/a..b", "org/"])
def test_a_name_that_is_not_allowed(publish, name, factory):
    toy = publish.toy
    ended = factory("publish", toy.path, "--lake", toy.lake, "--repo", name)
    assert ended.code == 2
    assert f"--repo: got {name}: use ORG/NAME" in ended.err


NAMES = ["", " ", "v 1", "refs/heads/a", "refs/pr/1", "a..b", "a/", "/a", ".a", "a.lock", "a//b"]
NAMES += ["a\nb", "a~1", "-a", "HEAD", "é", "0" * 40, "a" * 201]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("argument", ["branch", "tag"])
def test_a_branch_or_a_tag_that_is_not_allowed(argument, name):
    with pytest.raises(PublishError, match=rf"^{argument}: got '.*: use a short name") as refused:
        check_reference(argument, name)
    assert "\n" not in str(refused.value)
    for fine in ("v1", "v1.0.2-rc+1", "feature/new_pairs", None):
        check_reference(argument, fine)


@pytest.mark.parametrize(
    "slug", ["", "toys", "org/toys", "org/toys-a1", f"{COLLECTION}/", f" {COLLECTION}", "a/b/c"]
)
def test_a_collection_that_is_not_allowed(slug):
    with pytest.raises(PublishError, match=r"^collection: got '.*: use the end of the collection"):
        check_collection(slug)
    check_collection(COLLECTION)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--branch", "refs/x"], "--branch: got 'refs/x': use a short name such as next"),
        (["--tag", "main"], "--tag: got 'main': use a short name such as v1"),
        (["--collection", "toys"], "--collection: got 'toys': use the end of the collection's URL"),
        (["--public", "--private"], "--private: the option --public is also set"),
        (["--pr", "--tag", "v1"], "--tag: a pull request cannot be tagged"),
        (["--pr", "--branch", "next"], "--branch: a pull request has a branch of its own"),
    ],
)
def test_options_are_checked_before_any_work(publish, factory, args, told):
    toy = publish.toy
    ended = factory("publish", toy.path, "--lake", toy.lake, "--repo", REPO, *args)
    assert ended.code == 2
    assert told in ended.err
    assert ended.err.count("\n") == 1


def test_somebody_elses_dataset_is_left_alone(publish, hub):
    hub.make(REPO)
    hub.change(REPO, {"data/train.parquet": b"theirs"})
    ended = publish(hub)
    assert ended.returncode == 2
    assert "already contains a dataset that `factory publish` did not create" in ended.stderr
    assert hub.repositories[REPO].main["data/train.parquet"] == b"theirs"


@pytest.mark.slow
def test_a_lake_that_fails_verify(tmp_path, hub):
    toy = publishable(tmp_path / "toy", 12)
    toy.finish()
    (file, *_) = toy.lake.glob("models/*/model/scripted.json")
    file.write_text(file.read_text()[:-1] + " ")
    ended = Publisher(toy)(hub)
    assert ended.returncode == 1
    assert "have changed since they were written" in ended.stderr
    assert hub.requests == []


def test_a_recipe_that_was_never_run(tmp_path, hub):
    toy = publishable(tmp_path / "toy", 12)
    ended = Publisher(toy)(hub)
    assert ended.returncode == 2
    assert "run the recipe with `factory run` first" in ended.stderr
    assert hub.requests == []


def test_an_evaluation_set_that_is_not_there(publish):
    ended = publish(None, "--evaluation", "nowhere.jsonl")
    assert ended.returncode == 2
    assert "--evaluation: the file nowhere.jsonl does not exist" in ended.stderr


def test_a_dry_run_into_a_folder_that_is_not_empty(publish):
    (publish.toy.folder / "full").mkdir()
    (publish.toy.folder / "full" / "a").write_text("a")
    ended = publish(None, "--dry-run", "full")
    assert ended.returncode == 2
    assert "choose a new or empty folder" in ended.stderr


def test_a_dry_run_into_a_place_that_cannot_be_written(publish):
    (publish.toy.folder / "a_file").write_text("a")
    ended = publish(None, "--dry-run", "a_file/folder", HF_HUB_OFFLINE="1")
    assert ended.returncode == 2
    assert (
        "--dry-run: a part of the path is a file instead of a folder (a_file/folder)"
        in ended.stderr
    )


@pytest.mark.slow
def test_offline_a_dry_run_works_and_a_push_does_not(publish, good):
    ended = publish(None, "--dry-run", "offline", HF_HUB_OFFLINE="1")
    assert ended.returncode == 0, ended.stderr
    assert content(publish.toy.folder / "offline") == good
    assert "HF_HUB_OFFLINE is set" in publish(None, HF_HUB_OFFLINE="1").stderr


@pytest.mark.slow
def test_the_gate_stops_it_before_the_hub_is_changed(tmp_path, hub):
    toy = publishable(tmp_path / "toy", 12)
    toy.write(prompts={"license": None})
    toy.finish()
    publish = Publisher(toy)
    ended = publish(hub)
    assert ended.returncode == 1
    assert "prompts without a license" in ended.stderr
    assert "--allow license" in ended.stderr
    assert hub.repositories == {}
    allowed = publish(hub, "--allow", "license")
    assert allowed.returncode == 0, allowed.stderr
    card = published(hub)["README.md"].decode()
    assert "`--allow license`" in card
    assert "license: unknown" in card


@pytest.mark.slow
def test_the_token_stands_in_no_file(publish, hub):
    publish(hub)
    for content_ in published(hub).values():
        assert TOKEN.encode() not in content_
    for file in publish.toy.folder.rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file


@pytest.mark.slow
def test_a_dataset_without_training_is_pushed_and_grows_into_a_loop(tmp_path):
    toy = publishable(tmp_path / "toy")
    toy.fields["loop"] = {"iterations": 0, "chunks": 2}
    toy.write()
    toy.finish()
    publish = Publisher(toy)
    with Hub() as hub:
        ended = publish(hub)
        assert ended.returncode == 0, ended.stderr
        first = published(hub)
        assert "data/train-00.parquet" in first
        assert not [name for name in first if name.startswith("anchored/")]
        assert publish.run([sys.executable, "-c", LOAD], hub).stdout.startswith("default {")
        again = publish(hub)
        assert "Nothing has changed" in again.stdout
        toy.run("loop.iterations=1")
        later = publish(hub, "--set", "loop.iterations=1")
        assert later.returncode == 0, later.stderr
        # The first pairs are now those that train the future model.
        assert published(hub)["anchored/train-00.parquet"] == first["data/train-00.parquet"]
