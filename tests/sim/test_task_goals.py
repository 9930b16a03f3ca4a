import numpy as np
import pytest

pytestmark = pytest.mark.sim
pytest.importorskip("mujoco")

from wm_robot.errors import SpecError
from wm_robot.robots import load_spec
from wm_robot.spec import Task
from wm_robot_sim.goals import MovingTarget
from wm_robot_sim.task_goals import TaskGoals

ARM = load_spec("arm")
REACH = Task(reward="reach", goal=3)


def test_a_point_is_the_moving_target():
    goals, target = TaskGoals(ARM, REACH, seed=4), MovingTarget(ARM, seed=4)
    np.testing.assert_array_equal(goals.compute_path(200), target.compute_path(200))
    np.testing.assert_array_equal(goals.compute_goal(777), target.compute_goal(777))


def test_a_pose_has_its_position():
    goals = TaskGoals(ARM, Task(reward="reach", goal=7), seed=4).compute_path(50)
    np.testing.assert_array_equal(goals[:, :3], MovingTarget(ARM, seed=4).compute_path(50))
    np.testing.assert_array_equal(goals[:, 3:], [[0, 0, 0, 1]] * 50)


def test_joint_positions_are_those_of_a_reachable_pose_that_moves():
    poses = MovingTarget(ARM, seed=4).compute_phantom_poses(np.arange(300))
    hold = TaskGoals(ARM, Task(reward="hold", goal=6), seed=4).compute_path(300)
    np.testing.assert_allclose(hold, poses, rtol=1e-6)
    assert np.ptp(hold, axis=0).max() > 0.1
    listed = Task(reward="track_joints", goal=2, parameters={"joints": ["elbow_pitch", "base_yaw"]})
    np.testing.assert_allclose(TaskGoals(ARM, listed, seed=4).compute_path(300), poses[:, [2, 0]], rtol=1e-6)


def test_a_task_without_a_goal_has_an_empty_one_and_unknown_goals_are_zero():
    assert TaskGoals(ARM, Task(reward="hold"), seed=0).compute_path(5).shape == (5, 0)
    assert TaskGoals(ARM, Task(reward="hold"), seed=0).compute_goal(5).shape == (0,)
    unknown = TaskGoals(ARM, Task(reward="my-package:mine", goal=2), seed=0)
    np.testing.assert_array_equal(unknown.compute_path(3), np.zeros((3, 2)))


def test_joints_that_do_not_fit_the_goal_are_refused():
    with pytest.raises(SpecError, match="a goal of 5 values arrives as a JointState, and its joints are"):
        TaskGoals(ARM, Task(reward="hold", goal=5), seed=0)
