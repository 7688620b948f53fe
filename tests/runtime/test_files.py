"""Files: whole or absent, whatever their names and whatever stops a write."""

import errno
import os
import stat

import pytest

from tsds_jax.runtime.files import abandoned, atomic


def test_a_file_or_folder_is_on_disk_before_it_has_its_name_and_the_name_is_after(tmp_path, monkeypatch):
    seen, really = [], os.fsync

    def fsync(opened):
        seen.append((os.fstat(opened).st_ino, {path.name for path in tmp_path.iterdir() if path.suffix != ".part"}))
        really(opened)

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic(tmp_path / "file.txt") as temporary:
        temporary.write_text("all of it")
    assert seen == [((tmp_path / "file.txt").stat().st_ino, set()), (tmp_path.stat().st_ino, {"file.txt"})]
    seen.clear()
    with atomic(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "inside.txt").write_text("some")
    places = (tmp_path / "folder" / "inside.txt", tmp_path / "folder", tmp_path)
    assert [one for one, _ in seen] == [place.stat().st_ino for place in places]
    assert [names for _, names in seen] == [{"file.txt"}, {"file.txt"}, {"file.txt", "folder"}]


def test_a_disk_that_is_full_when_it_is_to_be_written_keeps_what_was_there(tmp_path, monkeypatch):
    (tmp_path / "file.txt").write_text("before")

    def fsync(opened):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"), atomic(tmp_path / "file.txt") as temporary:
        temporary.write_text("after")
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]
    assert (tmp_path / "file.txt").read_text() == "before"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF])
def test_a_file_system_that_puts_no_folders_on_disk_is_written_to_and_one_that_puts_no_files_is_not(
    tmp_path, monkeypatch, number
):
    def fsync(opened):
        if kind(os.fstat(opened).st_mode):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    kind = stat.S_ISDIR
    with atomic(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "inside.txt").write_text("some")
    kind = stat.S_ISREG
    with pytest.raises(OSError, match=os.strerror(number)), atomic(tmp_path / "file.txt") as temporary:
        temporary.write_text("all of it")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "inside.txt"]


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_an_atomic_write_that_fails_leaves_the_old_file(tmp_path, kind):
    (tmp_path / "a").write_text("old")

    def fail_half_way():
        with atomic(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise kind

    with pytest.raises(kind):
        fail_half_way()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


@pytest.mark.parametrize("letter", ["n", "é", "名"])
def test_a_name_as_long_as_the_system_allows_can_be_written_and_what_a_killed_writer_left_is_known(tmp_path, letter):
    name = letter * (255 // len(letter.encode()))
    with atomic(tmp_path / name) as temporary:
        temporary.write_text("all of it")
        assert abandoned(tmp_path) == [temporary]
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "all of it")]
