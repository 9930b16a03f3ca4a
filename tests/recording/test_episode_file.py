"""Episode files: whole or absent, with every number unchanged, and of one robot only."""

import json
import os
import resource
import signal
import time
from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.episodes

import pyarrow.parquet as pq

from wm_robot.errors import SnapshotError, SpecError
from wm_robot.recording import episode_file
from wm_robot.recording.episode_file import read_episode, read_origin, write_episode
from wm_robot.recording.episode_folder import (
    EpisodeFolder,
    get_episode_number,
    list_episodes,
    list_open_files,
)
from wm_robot.recording.episode_origin import EpisodeOrigin
from wm_robot.recording.open_episode import OpenEpisode, read_open_episode
from wm_robot.spec import Actuator, Joint, RobotSpec
from wm_robot.types import Episode

START, PERIOD = 10**18, 20_000_000
SPEC = RobotSpec(
    name="elbow",
    rate=50,
    model="",
    joints=(Joint(name="elbow", position=(-9.0, 9.0), velocity=9.0, effort=1.0),),
    actuators=(Actuator(name="elbow", joint="elbow", kind="position", range=(-9.0, 9.0), rate=9.0),),
)
ORIGIN = EpisodeOrigin.from_robot(SPEC, base_digest="b" * 64, source="a test")


@pytest.fixture
def folder(tmp_path):
    with EpisodeFolder(tmp_path) as folder:
        yield folder


def obs(step: int) -> np.ndarray:
    return np.array([step / 7, -step / 3])


def act(step: int) -> np.ndarray:
    """Return the action before the observation of a step."""
    return np.array([step / 11])


def an_episode(steps: int = 9, *, dtype: type = np.float64, goal: int = 0, **changes) -> Episode:
    """Return an episode in which every element is recognisable."""
    rows = range(steps + 1)
    parts = {
        "stamp": START + PERIOD * np.arange(steps + 1),
        "obs": np.array([obs(row) for row in rows], dtype),
        "action": np.array([act(row) for row in rows[1:]], dtype),
        "initial_action": act(0).astype(dtype),
        "reward": np.arange(steps) / 13,
        "goal": np.arange((steps + 1) * goal, dtype=np.float64).reshape(steps + 1, goal) / 17,
        "valid": np.arange(steps) != 4,
        "truncated": True,
    }
    return Episode(**{**parts, **changes})


def check_equal(found: Episode, expected: Episode) -> None:
    for name in expected.__dataclass_fields__:
        one, other = getattr(found, name), getattr(expected, name)
        np.testing.assert_array_equal(one, other)
        assert getattr(one, "dtype", None) == getattr(other, "dtype", None), name


def fill(episode: OpenEpisode, steps: int) -> None:
    for step in range(steps + 1):
        led = {"action": act(step), "reward": (step - 1) / 13, "valid": step != 5}
        episode.append(START + PERIOD * step, obs(step), **led)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("goal", [0, 3])
def test_every_number_comes_back_as_it_was(tmp_path, dtype, goal):
    rare = np.array([np.nan, np.inf, 5e-324 if dtype is np.float64 else 1e-45, -0.0, np.pi], dtype)
    episode = an_episode(dtype=dtype, goal=goal)
    episode.obs[2:7, 1] = rare
    episode = replace(episode, initial_action=np.array([np.nan], dtype))
    write_episode(tmp_path / "e.parquet", episode, ORIGIN)
    back = read_episode(tmp_path / "e.parquet", SPEC)
    check_equal(back, episode)
    assert back.obs.tobytes() == episode.obs.tobytes()
    assert back.valid.tolist() == [True, False, False, False, False, True, True, True, True]


def test_a_reward_and_a_goal_that_nobody_gave_are_null_and_come_back_as_nan(tmp_path):
    goal = np.array([[np.nan]] * 3 + [[0.5]] * 7)
    episode = replace(an_episode(), reward=np.array([np.nan, 1.0] + [np.nan] * 7), goal=goal)
    write_episode(tmp_path / "e.parquet", episode, ORIGIN)
    check_equal(read_episode(tmp_path / "e.parquet"), episode)
    table = pq.read_table(tmp_path / "e.parquet")
    assert table["reward"].to_pylist()[:3] == [None, 1.0, None]
    assert table["goal/0"].to_pylist()[2:4] == [None, 0.5]


def test_a_reader_that_knows_nothing_of_us_sees_named_columns_and_one_row_an_observation(tmp_path):
    write_episode(tmp_path / "e.parquet", an_episode(), ORIGIN)
    table = pq.read_table(tmp_path / "e.parquet")
    names = ["step", "stamp", "elbow/position", "elbow/velocity", "action/elbow", "reward", "valid"]
    assert table.column_names == names and len(table) == 10
    rows = table.to_pylist()
    # The action of a row follows its observation, and none follows the last.
    assert [row["action/elbow"] for row in rows] == [step / 11 for step in range(1, 10)] + [None]
    assert [row["stamp"] - START for row in rows] == [PERIOD * step for step in range(10)]
    about = json.loads(table.schema.metadata[b"wm_robot"])
    assert (about["robot"], about["spec_digest"], about["steps"]) == ("elbow", SPEC.compute_digest(), 9)
    assert (about["terminated"], about["truncated"], about["base_digest"]) == (False, True, "b" * 64)


def test_equal_episodes_have_equal_digests_and_others_have_others(tmp_path):
    def digest(episode, origin=ORIGIN):
        written = write_episode(tmp_path / "e.parquet", episode, origin)
        assert read_origin(tmp_path / "e.parquet") == (origin, written)
        return written

    one = digest(an_episode())
    assert digest(an_episode()) == one
    others = [an_episode(terminated=True), an_episode(reward=np.full(9, np.nan)), an_episode(steps=8)]
    changed = an_episode()
    changed.obs[3, 1] += 1e-16
    assert (
        len({one, *map(digest, [*others, changed]), digest(an_episode(), replace(ORIGIN, source="x"))}) == 6
    )


def test_another_robots_episode_is_refused_by_name(tmp_path):
    write_episode(tmp_path / "e.parquet", an_episode(), ORIGIN)
    with pytest.raises(SpecError, match="is of robot 'elbow' with spec .* this is robot 'knee'"):
        read_episode(tmp_path / "e.parquet", replace(SPEC, name="knee"))


def test_an_episode_of_other_channels_is_not_written(tmp_path):
    with pytest.raises(SpecError, match=r"obs is float64 \(10, 1\); robot 'elbow' has 2 channels"):
        write_episode(tmp_path / "e.parquet", an_episode(obs=np.zeros((10, 1))), ORIGIN)
    with pytest.raises(SpecError, match=r"action is int64 \(9, 1\)"):
        write_episode(tmp_path / "e.parquet", an_episode(action=np.zeros((9, 1), int)), ORIGIN)
    assert not list(tmp_path.iterdir())


def test_a_file_cut_or_changed_anywhere_is_refused(tmp_path):
    path = tmp_path / "e.parquet"
    write_episode(path, an_episode(steps=200), ORIGIN)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    original = read_episode(path)
    for place in rng.integers(len(content), size=60):
        path.write_bytes(content[:place])
        with pytest.raises(SnapshotError, match="is no whole episode file"):
            read_episode(path)
        changed = bytearray(content)
        changed[place] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        try:
            # Some bits have no effect, such as those of statistics.
            check_equal(read_episode(path), original)
        except (SnapshotError, SpecError):
            continue


def test_numbers_changed_by_another_hand_are_noticed(tmp_path):
    path = tmp_path / "e.parquet"
    write_episode(path, an_episode(), ORIGIN)
    table = pq.read_table(path)
    place = table.column_names.index("elbow/position")
    pq.write_table(table.set_column(place, "elbow/position", table["elbow/velocity"]), path)
    with pytest.raises(SnapshotError, match="is damaged: its content has another digest"):
        read_episode(path)


@pytest.mark.parametrize("what", ["missing", "text", "table", "format", "large", "columns"])
def test_what_is_no_episode_is_refused_with_the_reason(tmp_path, monkeypatch, what):
    path, words = tmp_path / "e.parquet", "is no whole episode file"
    write_episode(path, an_episode(), ORIGIN)
    table = pq.read_table(path)
    if what == "missing":
        path.unlink()
    if what == "text":
        path.write_text("an episode")
    if what == "table":
        pq.write_table(table.replace_schema_metadata({}), path)
    if what == "format":
        monkeypatch.setattr(episode_file, "FORMAT", 2)
        words = "is a 'episode' of format 1; this version reads a 'episode' of format 2"
    if what == "large":
        monkeypatch.setattr(episode_file, "MAX_EPISODE_BYTES", 60)
        words = "is larger than"
    if what == "columns":
        pq.write_table(table.drop_columns(["valid"]), path)
        words = r"has other columns than its metadata lists: \['valid'\]"
    with pytest.raises(SnapshotError, match=words):
        read_episode(path)


def test_a_file_that_says_it_holds_more_than_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "e.parquet"
    still = {"obs": np.zeros((5001, 2)), "action": np.zeros((5000, 1)), "reward": np.zeros(5000)}
    write_episode(path, an_episode(steps=5000, **still, valid=np.ones(5000, bool)), ORIGIN)
    assert path.stat().st_size < 34_000
    monkeypatch.setattr(episode_file, "MAX_EPISODE_BYTES", 34_000)
    with pytest.raises(SnapshotError, match="claims 5001 observations"):
        read_episode(path)


def test_an_episode_that_ends_is_the_one_that_was_appended(tmp_path):
    with EpisodeFolder(tmp_path) as folder:
        episode = folder.start_episode(ORIGIN)
        fill(episode, 9)
        assert [path.name for path in list_open_files(tmp_path)] == ["episode_000000.open"]
        path = folder.end_episode(episode, truncated=True)
    assert path == tmp_path / "episode_000000.parquet" and not list_open_files(tmp_path)
    check_equal(read_episode(path, SPEC), an_episode())
    assert read_origin(path)[0] == ORIGIN


def test_a_goal_and_how_it_ended_are_kept(tmp_path):
    with EpisodeFolder(tmp_path) as folder:
        episode = folder.start_episode(ORIGIN, goal_size=2, dtype=np.float32)
        episode.append(START, obs(0), action=None)
        episode.append(START + PERIOD, obs(1), action=act(1), goal=np.array([1.0, 2.0]))
        back = read_episode(folder.end_episode(episode, terminated=True))
    assert np.isnan(back.goal[0]).all() and back.goal[1].tolist() == [1.0, 2.0]
    assert np.isnan(back.initial_action).all() and np.isnan(back.reward).all()
    assert (back.terminated, back.truncated, back.obs.dtype) == (True, False, np.float32)


def test_episodes_are_numbered_without_gaps_over_restarts(tmp_path):
    for steps in (3, 0, 4, -1, 5):
        with EpisodeFolder(tmp_path) as folder:
            episode = folder.start_episode(ORIGIN)
            fill(episode, steps)
            # An episode without a transition is not written.
            assert (folder.end_episode(episode) is None) == (steps < 1)
    assert [get_episode_number(path) for path in list_episodes(tmp_path)] == [0, 1, 2]
    assert [len(read_episode(path)) for path in list_episodes(tmp_path)] == [3, 4, 5]


def test_two_processes_do_not_write_in_one_folder(tmp_path):
    with EpisodeFolder(tmp_path):
        with pytest.raises(SnapshotError, match="another process writes episodes in"):
            EpisodeFolder(tmp_path)
    EpisodeFolder(tmp_path).close()


def test_a_stamp_that_does_not_rise_and_a_wrong_size_are_refused(folder):
    episode = folder.start_episode(ORIGIN)
    fill(episode, 3)
    with pytest.raises(SpecError, match=f"stamp {START} is not after {START + 3 * PERIOD}; end the episode"):
        episode.append(START, obs(4), action=act(4))
    with pytest.raises(SpecError, match=r"action has shape \(2,\); it must have 1 numbers"):
        episode.append(START + 4 * PERIOD, obs(4), action=np.zeros(2))
    assert episode.num_steps == 3


def test_what_is_appended_is_synced_once_a_second_of_the_robots_clock(folder, monkeypatch):
    synced = []

    def note_sync(episode: OpenEpisode) -> None:
        synced.append(episode.num_steps)

    monkeypatch.setattr(OpenEpisode, "_sync", note_sync)
    episode = folder.start_episode(ORIGIN)
    fill(episode, 160)
    assert synced == [50, 100, 150]


def left_by_a_dead_process(folder, steps: int, *, flushed: bool = True) -> None:
    child = os.fork()
    if child == 0:
        episode = EpisodeFolder(folder).start_episode(ORIGIN)
        fill(episode, steps)
        if flushed:
            episode.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def test_what_a_dead_process_left_is_saved_by_the_next_and_its_file_is_kept(tmp_path):
    left_by_a_dead_process(tmp_path, 9)
    with EpisodeFolder(tmp_path) as folder:
        (saved,) = folder.salvage_results
        assert folder.start_episode(ORIGIN).path.name == "episode_000001.open"
    assert (saved.fault, saved.steps, saved.stamp) == ("its process died", 9, START + 9 * PERIOD)
    check_equal(read_episode(tmp_path / "episode_000000.parquet"), an_episode())
    assert read_origin(tmp_path / "episode_000000.parquet")[0] == replace(ORIGIN, salvaged=True)
    assert (tmp_path / "episode_000000.cut").exists()


def test_of_an_episode_cut_within_its_first_second_nothing_is_left_and_its_number_is_used_again(tmp_path):
    left_by_a_dead_process(tmp_path, 9, flushed=False)
    with EpisodeFolder(tmp_path) as folder:
        assert [saved.fault for saved in folder.salvage_results] == ["it holds no transition"]
        assert folder.start_episode(ORIGIN).path.name == "episode_000000.open"


def test_an_open_file_cut_anywhere_holds_a_true_beginning(tmp_path):
    episode = OpenEpisode(tmp_path / "episode_000000.open", ORIGIN)
    fill(episode, 400)
    episode.end(truncated=True)
    content, seen = episode.path.read_bytes(), set()
    for length in [*np.random.default_rng(0).integers(len(content), size=60), len(content)]:
        episode.path.write_bytes(content[:length])
        left = read_open_episode(episode.path)
        steps = 0 if left.episode is None else len(left.episode)
        seen.add(steps)
        if left.episode is not None:
            np.testing.assert_array_equal(left.episode.obs, [obs(step) for step in range(steps + 1)])
    assert left.has_end and steps == 400 and len(seen) > 5


@pytest.mark.parametrize("moment", ["before the episode is written", "before the open file is removed"])
def test_a_kill_while_an_episode_is_put_away_leaves_one_of_it_and_the_same(tmp_path, monkeypatch, moment):
    with EpisodeFolder(tmp_path / "undisturbed") as folder:
        episode = folder.start_episode(ORIGIN)
        fill(episode, 9)
        undisturbed = folder.end_episode(episode, terminated=True)
    child = os.fork()
    if child == 0:
        name = "write_episode" if moment == "before the episode is written" else "remove_file"
        monkeypatch.setattr(
            f"wm_robot.recording.episode_folder.{name}", lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        )
        folder = EpisodeFolder(tmp_path / "killed")
        episode = folder.start_episode(ORIGIN)
        fill(episode, 9)
        folder.end_episode(episode, terminated=True)
    os.waitpid(child, 0)
    assert len(list_open_files(tmp_path / "killed")) == 1
    EpisodeFolder(tmp_path / "killed").close()
    assert [path.name for path in sorted((tmp_path / "killed").iterdir())] == [
        ".lock",
        "episode_000000.parquet",
    ]
    assert read_origin(list_episodes(tmp_path / "killed")[0]) == read_origin(undisturbed)


def test_a_damaged_episode_beside_its_open_file_is_made_again_from_that(tmp_path):
    left_by_a_dead_process(tmp_path, 9)
    (tmp_path / "episode_000000.parquet").write_bytes(b"damaged")
    EpisodeFolder(tmp_path).close()
    check_equal(read_episode(tmp_path / "episode_000000.parquet"), an_episode())
    assert (tmp_path / "episode_000000.damaged").read_bytes() == b"damaged"


def test_a_foreign_open_file_keeps_nobody_from_recording_and_is_not_destroyed(tmp_path):
    (tmp_path / "episode_000000.open").write_text("a note of somebody's")
    with EpisodeFolder(tmp_path) as folder:
        assert "is no open episode" in folder.salvage_results[0].fault
        assert folder.start_episode(ORIGIN).path.name == "episode_000000.open"
    assert (tmp_path / "episode_000000.damaged").read_text() == "a note of somebody's"


def test_killed_at_random_instants_nothing_that_was_synced_is_lost(tmp_path):
    rng, known = np.random.default_rng(0), 0
    for _ in range(12):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            folder = EpisodeFolder(tmp_path)
            while True:
                episode = folder.start_episode(ORIGIN)
                for step in range(200):
                    episode.append(START + PERIOD * step, obs(step), action=act(step))
                    if step % 20 == 19:
                        episode.flush()
                        os.write(writing, f"{get_episode_number(episode.path)} {step}\n".encode())
                folder.end_episode(episode, truncated=True)
        os.close(writing)
        time.sleep(0.02 + 0.1 * rng.random())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with open(reading) as pipe:
            said = [tuple(map(int, line.split())) for line in pipe.read().splitlines()]
        EpisodeFolder(tmp_path).close()
        files = list_episodes(tmp_path)
        assert [get_episode_number(path) for path in files] == list(range(len(files)))
        if said:
            number, step = said[-1]
            assert number < len(files) and len(read_episode(files[number])) >= step
        for path in files[known:]:
            episode = read_episode(path, SPEC)
            np.testing.assert_array_equal(episode.obs, [obs(step) for step in range(len(episode) + 1)])
            assert pq.read_table(path).num_rows == len(episode) + 1
        known = len(files)
    assert known > 5


@pytest.mark.parametrize("limit", [0, 400, 3000, 9000])
def test_a_full_disk_is_said_and_costs_nothing_that_was_synced(tmp_path, limit):
    with EpisodeFolder(tmp_path) as folder:
        episode = folder.start_episode(ORIGIN)
        fill(episode, 3)
        folder.end_episode(episode)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            folder = EpisodeFolder(tmp_path)
            episode = folder.start_episode(ORIGIN)
            for step in range(1000):
                episode.append(START + PERIOD * step, obs(step), action=act(step))
            folder.end_episode(episode)
        except OSError as error:
            code = 0 if "Make room" in str(error) and "episode_000001.open" in str(error) else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with EpisodeFolder(tmp_path) as folder:
        assert len(read_episode(tmp_path / "episode_000000.parquet")) == 3
        assert all(path.stat().st_size for path in tmp_path.glob("*.parquet"))
        assert limit < 9000 or folder.salvage_results[0].steps >= 50


def test_a_disk_that_is_full_when_an_episode_ends_keeps_its_open_file(folder, tmp_path, monkeypatch):
    episode = folder.start_episode(ORIGIN)
    fill(episode, 9)

    def full(*_):
        raise OSError(28, "No space left on device", "episode_000000.parquet")

    monkeypatch.setattr("wm_robot.recording.episode_folder.write_episode", full)
    with pytest.raises(OSError, match="No space left on device"):
        folder.end_episode(episode, truncated=True)
    folder.close()
    monkeypatch.undo()
    EpisodeFolder(tmp_path).close()
    check_equal(read_episode(tmp_path / "episode_000000.parquet"), an_episode())
