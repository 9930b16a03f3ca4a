"""Durable files: files and their folders are whole or absent."""

import errno
import os

import pytest

from wm_robot.io import durable
from wm_robot.io.durable import is_locked, lock_exclusive, lock_shared, try_lock, write_file


def test_a_file_is_replaced_whole(tmp_path):
    write_file(tmp_path / "a", b"old")
    write_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 1


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_file(tmp_path / "a", b"old")

    def fails(handle):
        raise OSError("no space left")

    monkeypatch.setattr(durable.os, "fsync", fails)
    with pytest.raises(OSError, match="no space"):
        write_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(("call", "number"), [("posix_fallocate", errno.ENOSPC), ("open", errno.EROFS)])
def test_what_the_system_refuses_names_the_file_that_was_meant(tmp_path, monkeypatch, call, number):
    def refuses(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(durable.os, call, refuses)
    with pytest.raises(OSError, match=f"{os.strerror(number)}: '{tmp_path / 'a'}'") as refused:
        write_file(tmp_path / "a", b"new")
    monkeypatch.undo()
    assert refused.value.errno == number and not list(tmp_path.iterdir())


def test_who_only_reads_waits_for_who_changes_and_makes_no_lock(tmp_path):
    lock = tmp_path / ".lock"
    with lock_shared(lock):
        assert not lock.exists() and not is_locked(lock)
    with lock_exclusive(lock):
        assert is_locked(lock)
    with lock_shared(lock), lock_shared(lock):
        # A shared lock does not exclude other readers.
        assert not is_locked(lock)
        with lock.open("rb") as other:
            assert not try_lock(other)
    assert lock.read_bytes() == b""


def test_every_new_name_is_synced_into_the_folder_that_holds_it(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync

    def noted(handle):
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    monkeypatch.setattr(durable.os, "fsync", noted)
    write_file(tmp_path / "new" / "newer" / "a", b"x")
    assert [path.removeprefix(str(tmp_path)) for path in synced if ".part" not in path] == [
        "",
        "/new",
        "/new/newer",
    ]
