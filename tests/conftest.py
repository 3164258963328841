"""Shared fixtures: toy recipes, and the command line in the test's own process."""

import os

# Set before torch is imported, here or in child processes: the threads of parallel tests would
# spend most of their time waiting for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import json
import sys
from dataclasses import dataclass

import duckdb
import pytest
from toys import Toy, small_recipe

from factory.cli import ending, main
from factory.lake import database


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    def json(self):
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Give each database one thread, because a worker per core runs tests."""

    def connect(**options):
        return duckdb.connect(config={"threads": 1}, **options)

    monkeypatch.setattr(database, "connect", connect)


@pytest.fixture(scope="session", autouse=True)
def finished_lakes(tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # the parent is the session's folder
        base = base.parent
    Toy.finished_lakes = base / "finished-lakes"
    Toy.finished_lakes.mkdir(exist_ok=True)


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    """Return a function that returns the folder of a family's model, and builds it if necessary."""
    from zoo.build import build

    folder = tmp_path_factory.mktemp("zoo")

    def call(family):
        model = folder / family.name
        return model if model.exists() else build(family, model)

    return call


@pytest.fixture
def toy(tmp_path) -> Toy:
    return Toy(tmp_path / "toy")


@pytest.fixture
def factory(monkeypatch, capsys):
    """Return a function that runs a command and returns its exit code and output.

    Example: `factory("run", path)`.
    """

    def call(*args: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["factory", *map(str, args)])
        monkeypatch.setattr(ending.signal, "signal", lambda *_: None)
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return call


@pytest.fixture
def small(tmp_path) -> Toy:
    return small_recipe(tmp_path)
