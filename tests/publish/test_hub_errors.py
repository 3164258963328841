"""Tests of errors of the Xet storage: the real Xet client against a local Hub, and their sentences.

All faults run in one process, because importing the Hub's clients takes a second.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("hf_xet")

from factory.publish.hub_errors import XetError, explain, is_of_hub, is_transient

PASSING = [
    (step, kind)
    for step in ("xet_token", "grant", "store", "xorb", "shard")
    for kind in ("500", "drop", "lost")
]
"""Faults that affect one request. The Xet client retries it."""

AGAIN = "run the same command again"
WRITE = "use a token with write access"
STOPPING = [
    ("xet_token", "401", "the Hub rejected the token (401", "create a token with write access"),
    ("xet_token", "403", "the token has no write access to org/toy (403: fault 403)", WRITE),
    ("xet_token", "quota", "the storage quota of org/toy is used up (403: Private", "free some"),
    (
        "grant",
        "403",
        "the Hub's storage refused the upload to org/toy (403)",
        "check that the token",
    ),
    ("shard", "401", "the Hub rejected the token (401)", "create a token with write access"),
    (
        "shard",
        "403",
        "the Hub's storage refused the upload to org/toy (403)",
        "check that the token",
    ),
    ("shard", "402", "the storage quota of org/toy is used up (402)", "free some space"),
    ("shard", "507", "the storage quota of org/toy is used up (507)", "free some space"),
    ("shard", "frame", "the storage quota of org/toy is used up (storage quota", "free some space"),
    ("shard", "429", "the Hub's storage answered 429", AGAIN),
    ("shard", "503", "the Hub's storage answered 503", AGAIN),
    ("shard", "drop", "the connection to the Hub's storage was lost", "HF_HUB_DISABLE_XET=1"),
    ("shard", "422", "the Hub's storage rejected the upload (422)", "HF_HUB_DISABLE_XET=1"),
]
"""Faults that affect all requests of a step, with the fault and the remedy in the error."""

SCRIPT = """
import json
import os
import sys
from pathlib import Path

from hub import TOKEN, Hub

hub = Hub().__enter__()
os.environ["HF_ENDPOINT"] = hub.url

from factory.errors import HubError
from factory.progress import Silent
from factory.publish.hub import Change, Repository

repository = Repository("org/toy", "main", Silent())
repository.create(public=False)

def commit(path):
    hub.reset_counts()
    try:
        repository.commit(Change({path.name: path}), repository.state(), "a file", as_pull=False)
        error = None
    except HubError as raised:
        error = str(raised)
    stored = hub.repositories["org/toy"].main.get(path.name) == path.read_bytes()
    return {"error": error, "stored": stored, "requests": list(hub.requests)}

told = []
for place, (step, kind, times) in enumerate(json.loads(sys.argv[1])):
    file = Path(f"{place}.parquet")
    file.write_bytes(os.urandom(30_000))
    hub.break_(step, kind, times=times)
    first = commit(file)
    hub.faults.clear()
    told.append([first, commit(file)])
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Return what two pushes of one file did under each fault. The second one has no fault."""
    from hub import TOKEN

    place = tmp_path_factory.mktemp("xet")
    faults = [(step, kind, 1) for step, kind in PASSING]
    faults += [(step, kind, 99) for step, kind, *_ in STOPPING]
    tests = str(Path(__file__).parents[1])
    environment = {
        **{name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"},
        "PYTHONPATH": os.pathsep.join([tests, str(Path(tests).parent)]),
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(place / "hf"),
        "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "1",
        "HF_XET_CLIENT_RETRY_BASE_DELAY": "1ms",
    }
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(faults)],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert TOKEN not in ended.stdout
    return dict(zip(faults, json.loads(ended.stdout), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("step", "kind"), PASSING)
def test_the_xet_client_waits_for_a_fault_that_passes(told, step, kind):
    first, again = told[step, kind, 1]
    assert first["error"] is None
    assert first["stored"]
    assert first["requests"].count("commit") == 1
    assert again["requests"].count("store") == 0


@pytest.mark.slow
@pytest.mark.parametrize(("step", "kind", "fault", "remedy"), STOPPING)
def test_a_fault_of_the_storage_is_a_sentence_and_the_next_push_continues(
    told, step, kind, fault, remedy
):
    first, again = told[step, kind, 99]
    assert f"uploading: {fault}" in first["error"]
    assert remedy in first["error"]
    assert "http://" not in first["error"]
    assert "\n" not in first["error"]
    assert not first["stored"]
    assert first["requests"].count("commit") == 0
    assert again["error"] is None
    assert again["stored"]
    # A xorb that reached the storage is not sent again.
    assert again["requests"].count("store") == (0 if step == "shard" else 1)


@pytest.mark.parametrize(
    ("text", "fault", "remedy"),
    [
        ("I/O error: No space left on device (os error 28)", "cannot read or write a file", "disk"),
        (
            "Timeout: Request error: operation timed out",
            "connection to the Hub's storage was",
            AGAIN,
        ),
        (
            "Network error: error sending request for url (https://cas.example/x?signature=a1b2)",
            "the connection to the Hub's storage was lost",
            AGAIN,
        ),
        ("Internal error: Invalid response: no words", "rejected the upload (Invalid resp", AGAIN),
        ("something else", "rejected the upload (something else)", AGAIN),
    ],
)
def test_other_errors_of_the_xet_client_are_sentences(text, fault, remedy):
    error = XetError(RuntimeError(text))
    assert is_of_hub(error)
    assert not is_transient(error)  # the Xet client has retried it
    told = str(explain("uploading", error, "org/toy", 1, "a token"))
    assert fault in told
    assert remedy in told
    assert "signature" not in told
