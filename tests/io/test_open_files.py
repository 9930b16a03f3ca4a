"""Detection of files that another program writes: by its open file, or because they grow."""

import os
import subprocess
import sys
import threading
import time

import pytest

from wm_robot.io import open_files
from wm_robot.io.open_files import QUIET_TIME, find_growing_files, find_writer

linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux tells who has a file open"
)


def holding(path, mode):
    """Return a process that has a file open; a line on its input ends it."""
    words = f"import sys; file = open(sys.argv[1], {mode!r}); print('open', flush=True); sys.stdin.readline()"
    process = subprocess.Popen(
        [sys.executable, "-c", words, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "open\n"
    return process


@linux
@pytest.mark.parametrize(
    ("mode", "writes"), [("rb", False), ("wb", True), ("ab", True), ("r+b", True), ("w+b", True)]
)
def test_who_has_a_file_open_to_write_is_found_and_who_reads_is_not(tmp_path, mode, writes):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    process = holding(path, mode)
    try:
        os.link(path, tmp_path / "other name")
        for name in (path, tmp_path / "other name"):
            found = find_writer(name)
            assert found is None if not writes else found.startswith(f"process {process.pid} (")
    finally:
        process.communicate("\n")
    assert find_writer(path) is None


def test_where_the_system_tells_nothing_no_writer_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(open_files, "PROC_FOLDER", tmp_path / "nothing")
    path = tmp_path / "file"
    with path.open("wb"):
        assert find_writer(path) is None


def test_files_that_were_left_alone_for_long_are_not_watched(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    os.utime(path, (0, 0))
    began = time.monotonic()
    assert find_growing_files([path]) == set() and find_growing_files([]) == set()
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("ahead", [0, 3600])
def test_a_fresh_file_is_watched_and_one_that_grows_is_found(tmp_path, ahead):
    """Also if the clock of the file system is ahead of the local one."""
    still, grown = tmp_path / "still", tmp_path / "grown"
    for path in (still, grown):
        path.write_bytes(b"x")
        os.utime(path, (time.time() + ahead,) * 2)
    later = threading.Timer(0.5, lambda: grown.write_bytes(b"xy"))
    later.start()
    began = time.monotonic()
    assert find_growing_files([still, grown]) == {grown}
    assert time.monotonic() - began == pytest.approx(QUIET_TIME, abs=0.5)
    later.join()
