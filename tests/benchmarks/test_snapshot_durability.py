"""A killed writer loses nothing it acknowledged, and the trial sees it where one does."""

import os
import signal

import pytest

from wm_robot.errors import SnapshotError
from wm_robot.store.store import Store
from wm_robot.store.verification import find_damage
from wm_robot_benchmarks.measures.snapshot_durability import (
    DiskImage,
    check_overwritten_file,
    check_store,
    cut_power_while_writing,
    kill_while_writing,
    overwrite_file,
    write_to_store,
)

SIZE = 1 << 20


def ends(writer, found, folder, trials):
    number, seen = 0, []
    for trial in range(trials):
        after = 0.01 + 0.1 * trial / trials
        seen.append(kill_while_writing(writer, found, folder, number=number + 1, size=SIZE, delay=after))
        number = max(number, seen[-1].number)
    return seen


def test_killed_writers_lose_nothing(tmp_path):
    seen = ends(write_to_store, check_store, tmp_path / "store", 12)
    assert sum(each.acknowledged for each in seen) > 0
    assert not any(each.lost or each.unreadable for each in seen)
    assert find_damage(Store(tmp_path / "store")) == []


def test_the_naive_writer_is_caught(tmp_path):
    seen = ends(overwrite_file, check_overwritten_file, tmp_path / "naive", 12)
    assert any(each.unreadable or each.lost for each in seen)


def test_a_store_that_lost_what_it_acknowledged_is_seen(tmp_path):
    def forgetful(folder, number, size, acknowledge):
        acknowledge("f" * 64)
        write_to_store(folder, number, size, acknowledge=lambda name: None)

    seen = kill_while_writing(forgetful, check_store, tmp_path / "x", number=1, size=SIZE, delay=0.5)
    assert seen.lost and not seen.unreadable


def test_a_writer_that_fails_by_itself_is_no_result(tmp_path):
    def broken(folder, number, size, acknowledge):
        os.kill(os.getpid(), signal.SIGCONT)
        os._exit(3)

    with pytest.raises(SnapshotError, match="ended by itself, with code 3"):
        kill_while_writing(broken, check_store, tmp_path, number=1, size=SIZE, delay=0.2)


def test_a_power_cut_loses_nothing(tmp_path):
    if why := DiskImage.find_obstacle():
        pytest.skip(why)
    disk = DiskImage(tmp_path)
    try:
        seen = [
            cut_power_while_writing(write_to_store, check_store, disk, number=1, size=1 << 16, delay=0.3)
            for _ in range(2)
        ]
    finally:
        disk.close()
    assert not any(each.lost or each.unreadable for each in seen)
