"""Path of a recording: for a missing one, the error lists similar names."""

from pathlib import Path

import pytest

from wm_robot.errors import SnapshotError
from wm_robot.recording.recording_path import check_recording


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("monday.mcap", "tuesday.db3", "note.txt", "bag/bag_0.mcap", "empty/note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def refusal(path: Path) -> str:
    with pytest.raises(SnapshotError) as refused:
        check_recording(path, "RECORDING")
    return str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "right"), [("munday.mcap", "monday.mcap"), ("tuesday", "tuesday.db3"), ("bags", "bag")]
)
def test_a_name_that_is_nearly_right_gets_the_right_one(folder, wrong, right):
    assert (
        refusal(folder / wrong)
        == f"RECORDING '{folder / wrong}' does not exist. Did you mean '{folder / right}'?"
    )
    check_recording(folder / right)


def test_a_name_like_none_gets_what_is_there(folder):
    said = refusal(folder / "xyz")
    assert (
        said
        == f"RECORDING '{folder / 'xyz'}' does not exist. Recordings in {folder}: bag, monday.mcap, tuesday.db3"
    )
    for day in range(9):
        (folder / f"day{day}.mcap").touch()
    assert refusal(folder / "xyz").endswith("bag, day0.mcap, day1.mcap, day2.mcap, day3.mcap, …")


def test_where_nothing_was_recorded_the_kinds_are_named(folder):
    assert "Name a bag of ROS 2 (its folder, or a file of it)" in refusal(folder / "empty" / "monday.mcap")


def test_a_folder_that_is_missing_is_the_cause(folder):
    said = refusal(folder / "runs" / "monday.mcap")
    assert said.endswith(f"does not exist: there is no folder '{folder / 'runs'}'")
