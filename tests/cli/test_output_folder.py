"""A folder is refused before the run, and two runs never share one."""

import os

import pytest

from wm_robot.errors import ConfigError
from wm_robot_cli.output_folder import check_writable, lock_output_folder


def test_a_folder_that_is_there_or_can_be_made_is_taken_and_not_made(tmp_path):
    check_writable(tmp_path, "--out")
    check_writable(tmp_path / "a" / "b", "--out")
    assert not (tmp_path / "a").exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="--out is .*file: that is not a folder"):
        check_writable(tmp_path / "file", "--out")
    with pytest.raises(ConfigError, match="--out is .*file/a, to be created in .*file: that is not a folder"):
        check_writable(tmp_path / "file" / "a", "--out")


def test_a_folder_of_somebody_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode, **_: False)
    with pytest.raises(ConfigError, match="--work is .*: this user may not write there"):
        check_writable(tmp_path, "--work")


def test_a_second_writer_is_refused_until_the_first_has_ended(tmp_path):
    with lock_output_folder(tmp_path / "new" / "base", "--out"):
        with (
            pytest.raises(ConfigError, match="--out is .*base, and another run writes there"),
            lock_output_folder(tmp_path / "new" / "base", "--out"),
        ):
            raise AssertionError("two write to one folder")
        with lock_output_folder(tmp_path / "new" / "other", "--out"):
            pass
    with lock_output_folder(tmp_path / "new" / "base", "--out"):
        pass
    assert not (tmp_path / "new" / "base").exists()


def test_a_run_leaves_no_lock_behind(tmp_path):
    with lock_output_folder(tmp_path / "base", "--out"):
        assert [path.name for path in tmp_path.iterdir()] == [".base.lock"]
    assert list(tmp_path.iterdir()) == []
