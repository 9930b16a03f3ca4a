"""Every robot that ships can be driven, and each of its tasks has a reward."""

import numpy as np
import pytest

from tests.sim.robots import ROBOTS, some_worlds
from wm_robot.robots import load_spec
from wm_robot.tasks import make_reward
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.motion import draw_random_actions
from wm_robot_sim.robot import SimRobot
from wm_robot_sim.task_goals import TaskGoals

pytestmark = pytest.mark.sim


@pytest.mark.parametrize("name", ROBOTS)
def test_a_shipped_robot_takes_random_actions_and_rewards_them(name):
    spec, rng = load_spec(name), np.random.default_rng(0)
    robot = SimRobot(spec, seed=0)
    obs = robot.read().values
    for step, action in enumerate(draw_random_actions(spec, rng, robot.last_action[None], 50)[0]):
        applied = robot.write(action)
        after = robot.read().values
        assert np.isfinite(after).all() and np.isfinite(applied).all()
        for task in spec.tasks.values():
            goal = TaskGoals(spec, task, seed=0).compute_goal(step)
            assert np.isfinite(make_reward(spec, task)(obs, applied, after, goal))
        obs = after


@pytest.mark.parametrize("name", ROBOTS)
def test_a_shipped_robot_stays_finite_and_near_its_ranges_in_its_worlds(name):
    spec = load_spec(name)
    sim = BatchSim(spec, some_worlds(spec, 30), seed=1)
    start = sim.true_joint_positions()
    low, high = spec.pose_limits.T
    # A joint that wraps has no end: a start about half a turn is on both sides of it.
    has_ends = [not joint.wraps for joint in spec.joints]
    assert ((start >= low) & (start <= high))[:, has_ends].all()
    actions = draw_random_actions(spec, np.random.default_rng(2), sim.last_action, int(8 * spec.rate))
    obs, _ = sim.rollout(actions)
    assert np.isfinite(obs).all()
    position, velocity = (obs[..., spec.layout.find_channels(kind)] for kind in ("position", "velocity"))
    # End stops are soft.
    slack = 0.1 * (high - low) + 0.3
    assert (position > low - slack).all() and (position < high + slack).all()
    fastest = [joint.velocity for joint in spec.joints]
    assert (np.quantile(np.abs(velocity), 0.99, axis=(0, 1)) < fastest).all()
