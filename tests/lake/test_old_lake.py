"""A lake of preference-factory 0.1.0 stays valid: no key changes, and no row is regenerated.

`tests/lakes/0.1` is the lake of a toy recipe, and keys.json has the key of each of its steps. Pair
builds are exempt: their keys may change between releases, since building pairs calls no model.
"""

import json
import shutil
from pathlib import Path

import pytest

from factory.lake import Lake, verify_lake
from factory.plan import read_state
from factory.progress import Silent
from factory.recipe import load_recipe
from factory.run import run_recipe

OLD = Path(__file__).parents[1] / "lakes" / "0.1"


@pytest.fixture
def old(tmp_path) -> Path:
    shutil.copytree(OLD, tmp_path / "old")
    return tmp_path / "old"


def files(lake: Path) -> dict[str, bytes]:
    """Return the rows and models of a lake by path, without pair builds, datasets, and caches."""
    tables = ("prompts", "samples", "judgments", "verdicts", "models")
    return {
        path.relative_to(lake).as_posix(): path.read_bytes()
        for table in tables
        for path in (lake / table).rglob("*")
        if path.is_file()
    }


def test_every_file_of_the_old_lake_is_as_it_was_written(old):
    report = verify_lake(Lake(old / "made"))
    assert report.faults == []
    assert report.shards > 20
    assert report.models == 3


def test_a_run_on_the_old_lake_makes_nothing_but_pair_builds(old, monkeypatch):
    lake, recipe = Lake(old / "made"), load_recipe(old / "recipe.yaml")
    before = files(old / "made")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an up-to-date lake needs no engine")

    monkeypatch.setattr("factory.run.engine_cache.open_engine", refuse)
    monkeypatch.setattr("factory.engines.function.open_engine", refuse)
    run_recipe(recipe, lake, Silent())
    assert files(old / "made") == before

    keys = json.loads((old / "keys.json").read_text())
    found = read_state(recipe, lake).steps
    assert [step.label for step, state in found.items() if not state.done] == []
    now = {step.label: state.folder.key for step, state in found.items()}
    assert now.keys() == keys.keys()
    changed = {label for label in keys if now[label] != keys[label]}
    assert changed <= {label for label in keys if label.startswith("pairs ")}
