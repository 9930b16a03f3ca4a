"""Episode files of robots with sensors: gaps of optional ones are null, and held readings are no new ones."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.episodes

import pyarrow.parquet as pq

from tests.recording.test_episode_file import ORIGIN, PERIOD, SPEC, START, act, an_episode, check_equal
from wm_robot.errors import SnapshotError, SpecError
from wm_robot.recording.episode_file import read_episode, read_origin, write_episode
from wm_robot.recording.episode_folder import EpisodeFolder
from wm_robot.recording.episode_origin import EpisodeOrigin
from wm_robot.spec import Sensor
from wm_robot.types import Episode

GOLDEN = Path(__file__).parents[1] / "golden" / "episode.parquet"
"""Of a version without sensors."""
GYRO = Sensor(name="imu", kind="imu", frame="hand", fields=("angular_velocity",), required=True)
BATTERY = Sensor(name="battery", kind="battery", nominal=24.0, rate=10.0)
SENSING = replace(SPEC, sensors=(GYRO, BATTERY))
SENSING_ORIGIN = EpisodeOrigin.from_robot(SENSING, source="a test")
GAP, BROKEN = 3, 6
"""Row without a voltage, and row without an angular velocity."""


def sensed(dtype: type = np.float64, steps: int = 9) -> Episode:
    """Return an episode of a robot with a gyroscope and a slow battery."""
    rows = np.arange(steps + 1)
    obs = np.stack([rows / 7, -rows / 3, rows / 5, rows / 9, rows / 2, 24 - rows // 5 / 10], -1).astype(dtype)
    obs[GAP, 5], obs[BROKEN, 3] = np.nan, np.nan
    is_new = np.ones(obs.shape, bool)
    is_new[:, 5] = rows % 5 == 0
    plain = an_episode(steps, dtype=dtype)
    return replace(plain, obs=obs, is_required=SENSING.layout.is_required, is_new=is_new)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gaps_and_held_readings_come_back_as_they_were(tmp_path, dtype):
    episode = sensed(dtype)
    write_episode(tmp_path / "e.parquet", episode, SENSING_ORIGIN)
    for spec in (None, SENSING):
        check_equal(read_episode(tmp_path / "e.parquet", spec), episode)
    # An optional gap is valid, and a required one is not; 4 was invalid before.
    assert np.flatnonzero(~episode.valid).tolist() == [4, BROKEN - 1, BROKEN]
    assert read_origin(tmp_path / "e.parquet")[0] == SENSING_ORIGIN


def test_a_gap_is_null_and_each_field_has_one_column_of_new_readings(tmp_path):
    write_episode(tmp_path / "e.parquet", sensed(), SENSING_ORIGIN)
    table = pq.read_table(tmp_path / "e.parquet")
    gyro = [f"imu/angular_velocity.{axis}" for axis in "xyz"]
    news = ["new/imu/angular_velocity", "new/battery/voltage"]
    joints = ["elbow/position", "elbow/velocity"]
    assert table.column_names == [
        *("step", "stamp", *joints, *gyro, "battery/voltage", *news, "action/elbow", "reward", "valid")
    ]
    assert table["battery/voltage"].to_pylist()[2:5] == [24.0, None, 24.0]
    assert table["new/battery/voltage"].to_pylist() == [True, *[False] * 4] * 2
    # Of a required sensor it is no gap but a broken reading.
    assert np.isnan(table[gyro[1]].to_pylist()[BROKEN])
    about = json.loads(table.schema.metadata[b"wm_robot"])
    assert [(each["kind"], each["is_required"]) for each in about["sensor_fields"]] == [
        ("imu/angular_velocity", True),
        ("battery/voltage", False),
    ]


def test_the_spec_decides_what_is_required_when_it_is_read(tmp_path):
    write_episode(tmp_path / "e.parquet", sensed(), SENSING_ORIGIN)
    strict = replace(SENSING, sensors=(GYRO, replace(BATTERY, required=True)))
    assert strict.compute_digest() == SENSING.compute_digest()
    found = read_episode(tmp_path / "e.parquet", strict)
    assert np.flatnonzero(~found.valid).tolist() == [GAP - 1, GAP, 4, BROKEN - 1, BROKEN]


def test_an_open_episode_becomes_the_same_file(tmp_path):
    episode = sensed()
    with EpisodeFolder(tmp_path) as folder:
        growing = folder.start_episode(SENSING_ORIGIN)
        for row, obs in enumerate(episode.obs):
            growing.append(
                START + PERIOD * row,
                obs,
                action=act(row),
                reward=(row - 1) / 13,
                valid=row != 5,
                is_new=episode.is_new[row],
            )
        path = folder.end_episode(growing, truncated=True)
        assert folder.add_episode(episode, SENSING_ORIGIN) == (path, False)
    check_equal(read_episode(path, SENSING), episode)


def test_a_file_of_a_robot_without_sensors_is_that_of_earlier_versions(tmp_path):
    episode = an_episode(goal=3)
    check_equal(read_episode(GOLDEN, SPEC), episode)
    origin, digest = read_origin(GOLDEN)
    assert (origin.sensor_fields, origin.sensors, origin) == ((), (), replace(ORIGIN, code=origin.code))
    assert write_episode(tmp_path / "e.parquet", episode, origin) == digest
    old, new = (pq.read_table(path) for path in (GOLDEN, tmp_path / "e.parquet"))
    assert new.schema.equals(old.schema, check_metadata=True)


@pytest.mark.parametrize(
    ("sensors", "difference"),
    [
        ((), "sensor 'imu' is in the episode and not in the spec"),
        ((GYRO,), "sensor 'battery' is in the episode and not in the spec"),
        (
            (GYRO, BATTERY, replace(BATTERY, name="spare")),
            "sensor 'spare' is in the spec and not in the episode",
        ),
        (
            (GYRO, replace(BATTERY, rate=5.0)),
            "sensor 'battery' has rate 10.0 in the episode and 5.0 in the spec",
        ),
        (
            (BATTERY, GYRO),
            r"the sensors are \['joints', 'imu', 'battery'\] in the episode and \['joints', 'battery'",
        ),
    ],
)
def test_another_set_of_sensors_is_refused_by_its_first_difference(tmp_path, sensors, difference):
    write_episode(tmp_path / "e.parquet", sensed(), SENSING_ORIGIN)
    with pytest.raises(SpecError, match=difference):
        read_episode(tmp_path / "e.parquet", replace(SPEC, sensors=sensors))


def test_a_file_without_sensors_is_refused_by_a_spec_with_some():
    with pytest.raises(SpecError, match="sensor 'imu' is in the spec and not in the episode"):
        read_episode(GOLDEN, SENSING)


def test_a_changed_flag_is_damage(tmp_path):
    path = tmp_path / "e.parquet"
    write_episode(path, sensed(), SENSING_ORIGIN)
    table = pq.read_table(path)
    column = table.column_names.index("new/battery/voltage")
    flipped = [not each for each in table["new/battery/voltage"].to_pylist()]
    pq.write_table(table.set_column(column, "new/battery/voltage", [flipped]), path)
    with pytest.raises(SnapshotError, match="another digest"):
        read_episode(path)
