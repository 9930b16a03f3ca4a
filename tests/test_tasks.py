import numpy as np
import pytest

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec, Task
from wm_robot.tasks import REWARDS, compute_gripper_position, make_reward


def robot(names=("lift", "turn"), **changes) -> RobotSpec:
    """A planar pair whose chain lists the hinges in another order than the joints."""
    limits = {"position": [-3, 3], "velocity": 3, "effort": 3}
    parts = {
        "name": "pair",
        "rate": 50,
        "model": "pair.xml",
        "joints": [{"name": name, **limits} for name in names],
        "actuators": [
            {"name": name, "joint": name, "kind": "position", "range": [-3, 3], "rate": 5} for name in names
        ],
        "chain": [
            {"joint": "turn", "origin": [0, 0, 0], "axis": [0, 0, 1]},
            {"joint": "lift", "origin": [0.5, 0, 0], "axis": [0, 0, 1]},
        ],
        "tip": [0.25, 0, 0],
    }
    return RobotSpec.from_dict({**parts, **changes})


def obs(turn=0.0, lift=0.0, turning=0.0, lifting=0.0):
    return np.array([lift, turn, lifting, turning])


ACTION = np.zeros(2)


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
    reward = make_reward(robot(), Task(reward="reach"))
    away, there = obs(), obs(turn=np.pi / 2)
    goal = np.array([0.0, 0.75, 0.0])
    assert reward(away, ACTION, there, goal) == pytest.approx(-1e-3)
    assert reward(there, ACTION, away, goal) == pytest.approx(-np.hypot(0.75, 0.75), abs=1e-6)


def test_reach_charges_for_speed_when_asked():
    goal = np.array([0.75, 0.0, 0.0])
    moving = obs(turning=2.0, lifting=1.0)
    free = make_reward(robot(), Task(reward="reach"))(moving, ACTION, moving, goal)
    paid = make_reward(robot(), Task(reward="reach", parameters={"speed_cost": 0.1}))
    assert paid(moving, ACTION, moving, goal) == pytest.approx(free - 0.1 * 2.5)


def test_channels_are_found_by_name_in_any_order_of_interfaces():
    turned = robot(interfaces=["velocity", "position"])
    seen = np.array([1.0, 2.0, 0.0, np.pi / 2])
    np.testing.assert_allclose(compute_gripper_position(turned, seen), [0, 0.75, 0], atol=1e-12)
    goal = np.array([0.0, 0.75, 0.0])
    paid = make_reward(turned, Task(reward="reach", parameters={"speed_cost": 0.1}))
    assert paid(seen, ACTION, seen, goal) == pytest.approx(-1e-3 - 0.1 * 2.5)


@pytest.mark.parametrize("name", ["reach", "swingup"])
def test_a_robot_that_does_not_sense_what_the_reward_needs_is_refused(name):
    with pytest.raises(SpecError, match="does not sense '.*/velocity'"):
        make_reward(robot(interfaces=["position"]), Task(reward=name))


def test_swingup_needs_a_cart_and_a_pole():
    with pytest.raises(SpecError, match="needs a cart and a pole"):
        make_reward(robot(("a", "b", "c"), chain=[]), Task(reward="swingup"))


def test_swingup_is_best_upright_at_rest_in_the_middle():
    reward = make_reward(robot(("slide", "hinge"), chain=[]), Task(reward="swingup"))

    def of(slide, hinge, spin):
        return reward(np.zeros(4), ACTION, np.array([slide, hinge, 0.0, spin]), np.zeros(0))

    assert of(0, 0, 0) == pytest.approx(1)
    assert of(0, np.pi, 0) == pytest.approx(0, abs=1e-12)
    assert 0 < of(1, 0, 0) < 1 and 0 < of(0, 0, 10) < 1


def test_rewards_of_many_steps_are_rewards_of_each():
    rng = np.random.default_rng(0)
    before, after, goal = rng.normal(size=(6, 4)), rng.normal(size=(6, 4)), rng.normal(size=(6, 3))
    for name in sorted(REWARDS):
        reward = make_reward(robot(), Task(reward=name))
        many = reward(before, np.zeros((6, 2)), after, goal)
        one = [reward(before[i], ACTION, after[i], goal[i]) for i in range(6)]
        np.testing.assert_allclose(many, one)


def test_an_unknown_reward_names_the_known():
    with pytest.raises(SpecError, match=r"reward 'fame' is unknown; known are \['reach', 'swingup'\]"):
        make_reward(robot(), Task(reward="fame"))


@pytest.mark.learn
def test_planner_and_report_judge_alike():
    import torch

    rng = np.random.default_rng(1)
    parts = [rng.normal(size=(6, size)) for size in (4, 2, 4, 3)]
    for name in sorted(REWARDS):
        reward = make_reward(robot(), Task(reward=name))
        by_torch = reward(*(torch.from_numpy(part) for part in parts))
        np.testing.assert_allclose(by_torch.numpy(), reward(*parts), atol=1e-12)
