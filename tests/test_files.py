"""Files are written beside a user's files without touching them."""

import os
import stat

import pytest

from factory.errors import UserError
from factory.files import (
    copy_file,
    finish,
    new_temporary_folder,
    open_to_append,
    remove_folder,
    remove_unfinished,
    temporary_folder,
    unfinished_file,
    unfinished_folder,
    write_new,
    write_whole,
)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def theirs(tmp_path):
    """Return a file of the user, which no test may change."""
    file = tmp_path / "theirs"
    file.write_text("theirs")
    yield file
    assert file.read_text() == "theirs"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".factory-")]


def test_a_file_is_written_with_the_usual_permissions(tmp_path, theirs):
    write_whole(tmp_path / "ours", "new")
    assert (tmp_path / "ours").read_text() == "new"
    assert mode(tmp_path / "ours") == mode(theirs)


def test_a_link_is_replaced_and_never_followed(tmp_path, theirs):
    link = tmp_path / "link"
    for write in (
        lambda: write_whole(link, "new"),
        lambda: copy_file(tmp_path / "new", link),
    ):
        link.unlink(missing_ok=True)
        link.symlink_to(theirs)
        (tmp_path / "new").write_text("new")
        write()
        assert not link.is_symlink()


@pytest.mark.parametrize("open_", [lambda path: open_to_append(path, "a+"), None])
def test_a_link_is_not_opened(tmp_path, theirs, open_):
    (tmp_path / "link").symlink_to(theirs)
    with pytest.raises(OSError, match=r"symbolic links|exists"):
        (open_ or (lambda path: write_new(path, "new")))(tmp_path / "link")


def test_a_failed_write_leaves_the_old_file(tmp_path, theirs):
    def write_half():
        with unfinished_file(theirs) as unfinished:
            assert mode(unfinished) == 0o600
            unfinished.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()


def test_a_folder_is_private_until_it_is_finished(tmp_path, theirs):
    with unfinished_folder(tmp_path) as folder:
        assert mode(folder) == 0o700
        (folder / "a").touch()
        finish(folder, tmp_path / "done")
    assert (tmp_path / "done" / "a").exists()
    assert mode(tmp_path / "done") & 0o500 == 0o500
    with unfinished_folder(tmp_path) as folder:
        pass
    assert not folder.exists()


def test_only_unfinished_files_are_removed(tmp_path, theirs):
    others = [tmp_path / ".tmp-mine", tmp_path / ".factory"]
    for path in others:
        path.mkdir()
    (tmp_path / ".factory-unfinished-a").touch()
    (tmp_path / ".factory-unfinished-b").mkdir()
    (tmp_path / ".factory-unfinished-c").symlink_to(tmp_path / ".factory")
    remove_unfinished(tmp_path)
    assert all(path.is_dir() for path in others)


def test_a_link_to_a_folder_is_removed_without_its_target(tmp_path, theirs):
    (tmp_path / "link").symlink_to(tmp_path)
    remove_folder(tmp_path / "link")
    assert not (tmp_path / "link").exists()


@pytest.mark.parametrize("name", ["it's", "two\nlines", "ä☃", os.fsdecode(b"caf\xe9"), "a*[1]?"])
def test_temporary_folders_are_private(tmp_path, monkeypatch, name):
    (tmp_path / name).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / name))
    with temporary_folder() as folder:
        assert mode(folder) == 0o700
        assert folder.parent == tmp_path / name
    assert not folder.exists()


def test_without_a_temporary_folder_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(UserError, match="set TMPDIR to a folder that you can write to"):
        new_temporary_folder()
