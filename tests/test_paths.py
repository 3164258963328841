"""Paths that no file can have are refused in one sentence."""

import os
from pathlib import Path

import pytest

from factory import paths
from factory.errors import UserError
from factory.paths import folder_path, home_folder, user_path

UNUSABLE = {
    "x" * 5000: "the path is too long",
    "a\0b": "a null character",
    "~nosuchuser/x": "the home folder ~nosuchuser is unknown",
    "loop/x": "a loop of symbolic links",
    "/dev/null/x": "a part of the path is a file",
    os.fsdecode(b"caf\xe9"): "not valid UTF-8",
    "\ud800": "not valid UTF-8",
}

ARGUMENTS = {path: fault for path, fault in UNUSABLE.items() if path not in ("a\0b", "\ud800")}
"""The system passes no other ones to a command."""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", UNUSABLE, ids=UNUSABLE.values())
def test_an_unusable_path_is_refused(tmp_path, path):
    with pytest.raises(UserError, match=UNUSABLE[path]) as refused:
        user_path(path, "prompts.files")
    assert len(str(refused.value).encode()) < 200
    with pytest.raises(UserError, match=UNUSABLE[path]):
        user_path(path, base=tmp_path)


@pytest.mark.parametrize("path", ARGUMENTS, ids=ARGUMENTS.values())
def test_a_command_refuses_it_before_any_work(toy, factory, path):
    for args in (
        ["plan", path],
        ["run", toy.path, "--lake", path],
        ["export", toy.path, "--to", "trl", "--out", path],
        ["init", path],
        ["verify", "--lake", path],
    ):
        ran = factory(*args)
        assert (ran.code, len(ran.err.strip().splitlines())) == (2, 1), args
    assert not toy.lake.exists()


@pytest.mark.parametrize("path", UNUSABLE, ids=UNUSABLE.values())
def test_a_recipe_with_one_is_refused(toy, factory, path):
    (toy.folder / "loop").symlink_to("loop")
    for fields in (
        {"model": {"path": path}},
        {"model": {"path": "m0", "adapter": path}},
        {"model": {"path": "m0"}, "prompts": {"files": [path]}},
        {"prompts": {"files": ["prompts.jsonl"]}, "judge": {"rubric": path}},
        {"judge": {"rubric": "additive"}, "loop": {"policy": f"{path}.sql"}},
    ):
        toy.write(**fields)
        ran = factory("plan", toy.path, "--lake", toy.lake)
        assert ran.code == 2, fields


def test_a_lake_that_is_a_file_is_refused(toy, factory):
    for command in ("plan", "run", "status", "doctor"):
        ran = factory(command, toy.path, "--lake", toy.path)
        assert ran.code == 2
        assert "is not a folder" in ran.err


def test_a_lake_that_is_a_link_to_nothing_is_refused(tmp_path):
    (tmp_path / "lake").symlink_to(tmp_path / "missing")
    with pytest.raises(UserError, match="is a link to a folder that does not exist"):
        folder_path(tmp_path / "lake", "--lake")


def test_usable_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/x") == tmp_path / "x"
    assert user_path("missing/x") == Path("missing/x")
    assert user_path("x", base=tmp_path) == tmp_path / "x"
    assert folder_path("new", "--lake") == Path("new")


def test_a_user_without_a_home(monkeypatch):
    def fail(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(paths.Path, "home", classmethod(fail))
    assert home_folder() is None
