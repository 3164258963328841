"""Tests that a Hub repository is found in the cache if it has what the factory needs."""

import shutil

import pytest
from toys import QUICKSTART

from factory.errors import NotDownloaded
from factory.models import locate_model
from factory.recipe import Model

hub = pytest.importorskip("huggingface_hub")

from huggingface_hub import _tree_cache, constants  # noqa: E402

COMMIT = "a" * 40


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Return a function that fills the cache with a repository, of which some files are missing."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def fill(lost=(), renamed=None):
        storage = tmp_path / "hub" / "models--org--model"
        folder = storage / "snapshots" / COMMIT
        shutil.copytree(QUICKSTART / "m0", folder)
        if renamed:
            (folder / "model.safetensors").rename(folder / renamed)
        (storage / "refs").mkdir()
        (storage / "refs" / "main").write_text(COMMIT)
        names = [file.name for file in folder.iterdir()]
        entries = {
            name: _tree_cache.TreeCacheEntry(size=1, blob_id="b" * 40, lfs_sha256=None)
            for name in [*names, *lost]
        }
        _tree_cache.write_tree_cache(str(storage), COMMIT, entries)
        return folder

    return fill


def locate(toy):
    return locate_model(Model(path="org/model"), toy.recipe(), field="model", download=False)


@pytest.mark.parametrize(
    "lost", ["pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json", "model.gguf"]
)
def test_files_that_are_not_needed_need_not_be_cached(cached, toy, lost):
    folder = cached(lost=[lost])
    assert locate(toy) == folder


def test_weights_in_the_second_format_are_found(cached, toy):
    folder = cached(renamed="pytorch_model.bin")
    assert locate(toy) == folder


@pytest.mark.parametrize("lost", ["vocab.json", "model-00002-of-00002.safetensors"])
def test_a_repository_without_a_needed_file_is_not_downloaded(cached, toy, lost):
    cached(lost=[lost])
    with pytest.raises(NotDownloaded, match="hf download org/model"):
        locate(toy)


@pytest.mark.parametrize("kept", ["tokenizer.json", "model-00001-of-00002.safetensors"])
def test_a_repository_with_some_of_its_weights_is_not_downloaded(toy, tmp_path, monkeypatch, kept):
    """Other programs leave such caches, without a list of the repository's files."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    storage = tmp_path / "hub" / "models--org--model"
    folder = storage / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (storage / "refs").mkdir()
    (storage / "refs" / "main").write_text(COMMIT)
    (folder / kept).write_text("{}")
    with pytest.raises(NotDownloaded, match="only partly in this machine's Hub cache"):
        locate(toy)
