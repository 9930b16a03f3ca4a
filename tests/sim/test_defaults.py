"""What a spec leaves out fits the range of each joint, wherever that range is."""

from dataclasses import replace

import numpy as np
import pytest

from tests.sim.small_robots import make_hinge, make_leg
from wm_robot.robots import load_spec
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.goals import MovingTarget
from wm_robot_sim.motion import draw_random_actions
from wm_robot_sim.reachable_poses import sample_reachable_poses
from wm_robot_sim.rollouts import collect_trajectories
from wm_robot_sim.worlds import DomainRandomization

pytestmark = pytest.mark.sim

CHAIN = [
    {"joint": "hip", "origin": [0.0, 0.0, 0.6], "axis": [0, 1, 0]},
    {"joint": "knee", "origin": [0.0, 0.0, -0.25], "axis": [0, 1, 0]},
]


def shares_at_ends(values: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Share of the values within a hundredth of the range from one of its ends."""
    part = (values - limits[:, 0]) / np.diff(limits)[:, 0]
    return ((part < 0.01) | (part > 0.99)).mean(0)


def test_start_poses_cover_the_range_of_each_joint_and_none_is_at_a_limit(tmp_path):
    leg = make_leg(tmp_path)
    limits = leg.pose_limits
    poses = sample_reachable_poses(leg, np.random.default_rng(0), 2000)
    part = (poses - limits[:, 0]) / np.diff(limits)[:, 0]
    np.testing.assert_allclose(part.mean(0), 0.5, atol=0.02)
    np.testing.assert_allclose(np.ptp(part, axis=0), 2 / 3, atol=0.01)
    assert not shares_at_ends(poses, limits).any()


def test_a_pose_center_near_a_limit_is_no_reason_to_start_at_the_limit(tmp_path):
    leg = make_leg(tmp_path, world={"pose_center": [0.9, -1.0, 0.0], "pose_spread": [0.5, 1.0, 0.05]})
    poses = sample_reachable_poses(leg, np.random.default_rng(0), 2000)
    np.testing.assert_allclose(poses.min(0), [0.4, -2.0, 0.0], atol=0.01)
    np.testing.assert_allclose(poses.max(0), [1.0, -0.85, 0.05], atol=0.01)
    assert (shares_at_ends(poses, leg.pose_limits) < 0.03).all()


def test_a_servo_holds_every_pose_that_its_robot_starts_in(tmp_path):
    leg = make_leg(tmp_path)
    narrow = replace(leg, actuators=(replace(leg.actuators[0], range=(0.2, 0.6)), *leg.actuators[1:]))
    sim = BatchSim(narrow, [DomainRandomization(narrow).make_nominal_world()] * 50, seed=0)
    np.testing.assert_allclose(sim.last_action, sim.true_joint_positions(), atol=1e-6)
    hip = sim.true_joint_positions()[:, 0]
    assert hip.min() > 0.2 and hip.max() < 0.6 and np.ptp(hip) > 0.2


def test_random_behaviour_covers_the_range_of_each_actuator_and_rests_at_no_limit(tmp_path):
    leg = make_leg(tmp_path)
    batch = collect_trajectories(leg, num_trajectories=60, num_steps=400, seed=0)
    limits = np.array([actuator.range for actuator in leg.actuators])
    seen = np.ptp(batch.action, axis=(0, 1)) / np.diff(limits)[:, 0]
    assert (seen > 0.95).all()
    assert (shares_at_ends(batch.action.reshape(-1, 3), limits) < 0.1).all()
    # Every trajectory moves every joint, and no joint stays on one side.
    middle = limits.mean(1)
    assert (np.ptp(batch.action, axis=1) > 0.05 * np.diff(limits)[:, 0]).all()
    assert ((batch.action > middle).mean((0, 1)) > 0.3).all()
    assert ((batch.action < middle).mean((0, 1)) > 0.3).all()


def test_goals_are_where_the_leg_reaches(tmp_path):
    leg = make_leg(tmp_path, chain=CHAIN, tip=[0.0, 0.0, -0.25])
    targets = [MovingTarget(leg, seed=seed) for seed in range(10)]
    poses = np.concatenate([target.compute_phantom_poses(np.arange(1000)) for target in targets])
    assert (poses >= leg.pose_limits[:, 0]).all() and (poses <= leg.pose_limits[:, 1]).all()
    assert (np.ptp(poses, axis=0) > 0.5 * np.diff(leg.pose_limits)[:, 0]).all()
    assert not shares_at_ends(poses, leg.pose_limits).any()


def test_a_reversed_servo_is_mirrored_about_the_middle_of_its_range(tmp_path):
    leg = make_leg(tmp_path, world={"gain": [0.7, 1.4]})
    nominal = DomainRandomization(leg).make_nominal_world()
    reversed_knee = replace(nominal, gain=np.array([1.0, -1.0, 1.0]))
    sim = BatchSim(leg, [nominal, reversed_knee], seed=0)
    target = np.float32([[0.3, -1.2, 0.02]])
    mirrored = np.float32([[0.3, -2.7 - 0.85 + 1.2, 0.02]])
    action = np.concatenate([mirrored, target])
    for _ in range(150):
        sim.step(action)
    one, other = sim.true_joint_positions()
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_a_motor_of_one_sign_starts_released(tmp_path):
    motor = {"name": "swing", "joint": "swing", "kind": "effort", "range": [0.0, 1.0], "rate": 6.0}
    body = '<joint name="swing"/><geom size="0.02" pos="0.1 0 0" mass="1"/>'
    one_sided = make_hinge(tmp_path, body, '<motor name="swing" joint="swing"/>', actuators=[motor])
    sim = BatchSim(one_sided, [DomainRandomization(one_sided).make_nominal_world()], seed=0)
    np.testing.assert_array_equal(sim.last_action, np.zeros((1, 1)))


FIRST_POSE = {
    "arm": [
        0.4108850619643629,
        -0.36834125797780753,
        -0.7344423617020885,
        -0.9669447289429418,
        0.5638864305604904,
        0.9906133854665321,
    ],
    "cartpole": [0.08217701239287258, 3.0034646782583225],
    "reacher": [0.8217701239287258, -1.0129384594389708],
}
LAST_ACTION = {
    "arm": [
        -0.8469048738479614,
        -0.6692594885826111,
        -0.31136196851730347,
        0.6276082396507263,
        0.2780620753765106,
        0.565597653388977,
    ],
    "cartpole": [0.2520841658115387],
    "reacher": [-0.6999648213386536, -0.6684547662734985],
}
LAST_GOAL = {
    "arm": [0.18377970159053802, -0.14091633260250092, 0.38467565178871155],
    "cartpole": [],
    "reacher": [0.06552885472774506, -0.09133775532245636, 0.009999999776482582],
}


@pytest.mark.parametrize("robot", FIRST_POSE)
def test_a_shipped_robot_draws_what_it_drew_before_defaults_fitted_the_joint(robot):
    spec, make_rng = load_spec(robot), np.random.default_rng
    np.testing.assert_array_equal(sample_reachable_poses(spec, make_rng(0), 2)[0], FIRST_POSE[robot])
    hold = np.zeros((4, spec.action_dim), np.float32)
    actions = draw_random_actions(spec, make_rng(1), hold, 150)
    np.testing.assert_allclose(actions[-1, -1], LAST_ACTION[robot], rtol=1e-6)
    np.testing.assert_allclose(MovingTarget(spec, seed=2).compute_path(400)[-1], LAST_GOAL[robot], rtol=1e-6)
    np.testing.assert_array_equal(spec.home_action, hold[0])
