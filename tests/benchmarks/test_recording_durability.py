"""A killed recorder loses nothing it acknowledged, and the trial sees it where one does."""

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.episodes]

from wm_robot_benchmarks.measures.recording_durability import (
    EpisodeFolderCheck,
    check_one_file,
    check_session,
    check_unrecovered_session,
    load_recording_libraries,
    write_episodes,
    write_one_file,
    write_session,
)
from wm_robot_benchmarks.measures.snapshot_durability import DurabilityFinding, kill_while_writing

SIZE = 100


def ends(writer, found, folder, trials=8):
    load_recording_libraries()
    return [
        kill_while_writing(
            writer, found, folder, number=trial + 1, size=SIZE, delay=0.05 + 0.2 * trial / trials
        )
        for trial in range(trials)
    ]


def test_killed_recorders_lose_no_episode_and_no_step_that_was_synced(tmp_path):
    seen = ends(write_episodes, EpisodeFolderCheck(SIZE), tmp_path)
    assert sum(each.acknowledged for each in seen) > 20
    assert not any(each.lost or each.unreadable for each in seen)


def test_killed_recorders_lose_no_message_that_was_flushed(tmp_path):
    seen = ends(write_session, check_session, tmp_path)
    assert sum(each.acknowledged for each in seen) > 20
    assert not any(each.lost or each.unreadable for each in seen)


@pytest.mark.parametrize(
    ("writer", "found"), [(write_one_file, check_one_file), (write_session, check_unrecovered_session)]
)
def test_what_has_no_end_cannot_be_read(tmp_path, writer, found):
    seen = ends(writer, found, tmp_path)
    assert sum(each.unreadable for each in seen) >= 4


@pytest.mark.parametrize("fault", ["gap", "damaged", "short"])
def test_a_recorder_that_loses_something_is_seen(tmp_path, fault):
    said = []

    def listen(folder, acknowledged):
        said.extend(acknowledged)
        return DurabilityFinding(len(acknowledged), False, False, 0)

    kill_while_writing(write_episodes, listen, tmp_path, number=1, size=SIZE, delay=0.4)
    assert "0 closed" in said
    if fault == "gap":
        (tmp_path / "episode_000000.parquet").rename(tmp_path / "episode_009999.parquet")
    if fault == "damaged":
        (tmp_path / "episode_000000.parquet").write_bytes(b"")
    if fault == "short":
        said.append("0 101")
    result = EpisodeFolderCheck(SIZE)(tmp_path, said)
    assert result.lost or result.unreadable
