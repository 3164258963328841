"""A lake, a dataset, and an export read their own files, whatever their folders are called."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
from toys import Toy

from factory.export import export_dataset, open_dataset, write_dataset
from factory.lake import Lake, verify_lake

NAMES = {
    "reference=birch": None,
    "margin=0": None,
    "split=test": None,
    "license=mit": None,
    "lr=1e-6": None,
    "iteration=7": None,
    "run[1]": "run1",
    "a*b": "axb",
    "what?": "whats",
    "{a,b}": "a",
    "**": "deep",
    'it\'s a "name"': None,
    "back\\slash": None,
    "100%25 ": None,
    "Übung 日本": None,
}
"""Names of folders. DuckDB's wildcards could also match the second name."""

QUICK = ("reference=birch", "run[1]")
"""The names that the quick tests try."""


def results(toy, folder):
    """Return what the folder's name could change, from each reader of Parquet files."""
    state = toy.look()
    dataset = write_dataset(state, "trial")
    export_dataset(open_dataset(dataset), "trl", folder / "trl")
    exported = [pq.read_table(file).to_pylist() for file in sorted(folder.glob("trl/**/*.parquet"))]
    pairs = toy.query("from pairs order by all")
    return json.dumps([pairs, toy.query("from final_pairs order by all"), exported], default=str)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    toy = Toy(tmp_path_factory.mktemp("plain") / "toy")
    toy.finish()
    return results(toy, toy.folder)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        pytest.param(*names, marks=[] if names[0] in QUICK else pytest.mark.slow)
        for names in NAMES.items()
    ],
    ids=list(NAMES),
)
def test_a_folder_s_name_changes_nothing(tmp_path, factory, plain, name, other):
    toy = Toy(tmp_path / name)
    toy.finish()
    if other is not None:
        shutil.copytree(toy.folder, tmp_path / other)
    assert results(toy, toy.folder) == plain
    assert verify_lake(Lake(toy.lake)).faults == []
    assert toy.to_do() == set()
    query = "select count(*) as n from pairs"
    ran = factory("sql", toy.path, query, "--lake", toy.lake, "--format", "json")
    assert ran.json() == [{"n": len(json.loads(plain)[0])}]
