import numpy as np
import pytest

from tests.sim.robots import ARM, arms, silent
from wm_robot.robots import load_spec
from wm_robot_sim.goals import MovingTarget
from wm_robot_sim.motion import minimum_jerk
from wm_robot_sim.reachable_poses import compute_gripper_positions, sample_reachable_poses

pytestmark = pytest.mark.sim


def test_a_path_is_its_goals():
    target, same = (MovingTarget(ARM, seed=4) for _ in range(2))
    path = target.compute_path(300)
    assert path.shape == (300, 3) and path.dtype == np.float32
    # Asked for out of order, and further on than any path.
    late = same.compute_goal(2000)
    np.testing.assert_array_equal(path[::50], [same.compute_goal(t) for t in range(0, 300, 50)])
    np.testing.assert_array_equal(late, target.compute_goal(2000))


def test_a_target_is_always_where_some_pose_leads():
    limits = np.array([joint.position for joint in ARM.joints])
    for seed in range(20):
        target = MovingTarget(ARM, seed=seed)
        poses = target.compute_phantom_poses(np.arange(500))
        assert (poses >= limits[:, 0]).all() and (poses <= limits[:, 1]).all()
        np.testing.assert_allclose(target.compute_path(500), compute_gripper_positions(ARM, poses), atol=1e-6)
        assert target.compute_path(500)[:, 2].min() > 0.02


def test_a_target_moves_smoothly_rests_and_goes_places():
    paths = np.stack([MovingTarget(ARM, seed=seed).compute_path(1000) for seed in range(20)])
    speed = np.linalg.norm(np.diff(paths, axis=1), axis=-1) / ARM.dt
    assert speed.max() < 1.0 and np.abs(np.diff(speed, axis=1)).max() < 0.2
    assert 0.1 < (speed < 1e-4).mean() < 0.7
    assert paths.std((0, 1)).min() > 0.05


def test_a_nominal_arm_can_go_where_the_target_rests():
    pose = sample_reachable_poses(ARM, np.random.default_rng(1), 8)
    sim = arms([silent()] * 8)
    for _ in range(200):
        sim.step(pose)
    assert (
        np.linalg.norm(sim.compute_gripper_position() - compute_gripper_positions(ARM, pose), axis=1).max()
        < 0.06
    )


def test_a_robot_without_a_chain_has_an_empty_goal():
    target = MovingTarget(load_spec("cartpole"), seed=0)
    assert target.compute_goal(3).shape == (0,) and target.compute_path(7).shape == (7, 0)


def test_a_minimum_jerk_move_starts_and_ends_at_rest():
    way = minimum_jerk(np.linspace(-0.5, 1.5, 2001))
    assert way[0] == 0 and way[-1] == 1 and way[1000] == pytest.approx(0.5)
    assert (np.diff(way) >= -1e-12).all()
    assert np.abs(np.diff(way, 2)).max() < 1e-5
