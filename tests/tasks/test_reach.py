import numpy as np
import pytest

from tests.tasks.robots import ACTION, obs, robot
from wm_robot.errors import SpecError
from wm_robot.spec import Task
from wm_robot.tasks import compute_gripper_position, make_reward


def reach(**parameters) -> Task:
    return Task(reward="reach", goal=3, parameters=parameters)


def test_the_gripper_follows_the_chain_by_name_and_not_by_index():
    np.testing.assert_allclose(
        compute_gripper_position(robot(), obs(turn=np.pi / 2)), [0, 0.75, 0], atol=1e-12
    )
    np.testing.assert_allclose(
        compute_gripper_position(robot(), obs(lift=np.pi / 2)), [0.5, 0.25, 0], atol=1e-12
    )


def test_a_robot_without_a_chain_has_no_gripper():
    with pytest.raises(SpecError, match="'pair' has no chain"):
        compute_gripper_position(robot(chain=[]), obs())


def test_reach_is_minus_the_distance_after_the_step():
    reward = make_reward(robot(), reach())
    away, there = obs(), obs(turn=np.pi / 2)
    goal = np.array([0.0, 0.75, 0.0])
    assert reward(away, ACTION, there, goal) == pytest.approx(-1e-3)
    assert reward(there, ACTION, away, goal) == pytest.approx(-np.hypot(0.75, 0.75), abs=1e-6)


def test_of_a_pose_the_position_counts_alone():
    pose = Task(reward="reach", goal=7)
    there, goal = obs(turn=np.pi / 2), np.array([0.0, 0.75, 0.0])
    turned = np.append(goal, [0.0, 0.6, 0.8, 0.0])
    assert make_reward(robot(), pose)(there, ACTION, there, turned) == pytest.approx(-1e-3)


def test_reach_charges_for_speed_when_asked():
    goal = np.array([0.75, 0.0, 0.0])
    moving = obs(turning=2.0, lifting=1.0)
    free = make_reward(robot(), reach())(moving, ACTION, moving, goal)
    paid = make_reward(robot(), reach(speed_cost=0.1))
    assert paid(moving, ACTION, moving, goal) == pytest.approx(free - 0.1 * 2.5)


def test_channels_are_found_by_name_in_any_order_of_interfaces():
    turned = robot(interfaces=["velocity", "position"])
    seen = np.array([1.0, 2.0, 0.0, np.pi / 2])
    np.testing.assert_allclose(compute_gripper_position(turned, seen), [0, 0.75, 0], atol=1e-12)
    goal = np.array([0.0, 0.75, 0.0])
    paid = make_reward(turned, reach(speed_cost=0.1))
    assert paid(seen, ACTION, seen, goal) == pytest.approx(-1e-3 - 0.1 * 2.5)
