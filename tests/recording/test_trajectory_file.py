"""Trajectory file: data are unchanged, and only loaded for the same recipe."""

import numpy as np
import pytest

from wm_robot.errors import SnapshotError
from wm_robot.recording.trajectory_file import load_trajectories, save_trajectories
from wm_robot.types import TrajectoryBatch

RECIPE = {"robot": "point", "lives": 2, "seed": 0}


@pytest.fixture
def lives() -> TrajectoryBatch:
    rng = np.random.default_rng(0)
    return TrajectoryBatch(
        obs=rng.normal(size=(2, 6, 3)).astype(np.float32),
        action=rng.normal(size=(2, 5, 1)).astype(np.float32),
        initial_action=rng.normal(size=(2, 1)).astype(np.float32),
        goal=rng.normal(size=(2, 6, 1)).astype(np.float32),
        physics=rng.normal(size=(2, 2, 4)).astype(np.float32),
        world=rng.integers(2, size=(2, 5)),
    )


def test_lives_come_back_as_they_were(tmp_path, lives):
    save_trajectories(tmp_path / "lives", lives, RECIPE)
    back = load_trajectories(tmp_path / "lives", dict(reversed(RECIPE.items())))
    for name in lives.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(back, name), getattr(lives, name))


def test_gaps_of_optional_sensors_come_back(tmp_path, lives):
    lives.obs[:, 2:4, 2] = np.nan
    save_trajectories(tmp_path / "lives", lives, RECIPE)
    np.testing.assert_array_equal(load_trajectories(tmp_path / "lives", RECIPE).obs, lives.obs)


def test_lives_gathered_otherwise_are_refused_by_name(tmp_path, lives):
    save_trajectories(tmp_path / "lives", lives, RECIPE)
    with pytest.raises(SnapshotError, match="collected with lives 2 instead of 9, seed 0 instead of 1"):
        load_trajectories(tmp_path / "lives", RECIPE | {"lives": 9, "seed": 1})


@pytest.mark.parametrize("damage", ["cut", "text", "missing"])
def test_what_holds_no_lives_is_refused(tmp_path, lives, damage):
    path = tmp_path / "lives"
    save_trajectories(path, lives, RECIPE)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    if damage == "text":
        path.write_text("lives")
    if damage == "missing":
        path.unlink()
    with pytest.raises(SnapshotError, match="holds no trajectories"):
        load_trajectories(path, RECIPE)
