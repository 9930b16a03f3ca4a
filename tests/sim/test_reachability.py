"""Reachability of a point in a world: by statics, with what the motors of that world have."""

from dataclasses import replace

import numpy as np
import pytest

pytestmark = pytest.mark.sim
pytest.importorskip("mujoco")

from wm_robot.robots import load_spec
from wm_robot_sim.model_compiler import compile_model
from wm_robot_sim.plant import Plant
from wm_robot_sim.reachability import Reachability, find_reachable_steps
from wm_robot_sim.reachable_poses import compute_gripper_positions, sample_reachable_poses
from wm_robot_sim.worlds import DomainRandomization

SPEC = load_spec("arm")
PLANT = Plant(SPEC, compile_model(SPEC))
NOMINAL = DomainRandomization(SPEC).make_nominal_world()
HOME = SPEC.home_position


def with_dead_motor(joint):
    gain = NOMINAL.gain.copy()
    gain[SPEC.joint_names.index(joint)] = 0
    return replace(NOMINAL, gain=gain)


def test_targets_of_the_nominal_robot_are_reachable():
    poses = sample_reachable_poses(SPEC, np.random.default_rng(0), 10)
    points = compute_gripper_positions(SPEC, poses)
    assert find_reachable_steps(PLANT, NOMINAL, points, np.tile(HOME, (10, 1))).all()


def test_a_point_beyond_the_arm_is_not_reachable():
    assert not Reachability(PLANT, NOMINAL).is_reachable(np.array([0.8, 0.0, 0.2]), HOME)


def test_a_dead_joint_stays_where_it_is():
    turned = HOME.copy()
    turned[0] = 1.5
    point = compute_gripper_positions(SPEC, HOME[None])[0]
    reach = Reachability(PLANT, with_dead_motor("base_yaw"))
    assert reach.is_reachable(point, HOME) and not reach.is_reachable(point, turned)


def test_motors_without_torque_hold_no_posture_against_gravity():
    stretched = np.array([0.0, 1.2, 0.0, 0.0, 0.0, 0.0])
    point = compute_gripper_positions(SPEC, stretched[None])[0]
    feeble = replace(NOMINAL, torque=NOMINAL.torque * 0.01, friction=NOMINAL.friction * 0.01)
    assert Reachability(PLANT, NOMINAL).is_reachable(point, stretched)
    assert not Reachability(PLANT, feeble).is_reachable(point, stretched)


def test_one_step_of_several_is_examined():
    points = compute_gripper_positions(SPEC, np.tile(HOME, (5, 1)))
    points[2:] = 0.9
    found = find_reachable_steps(PLANT, NOMINAL, points, np.tile(HOME, (5, 1)), every=2)
    assert found.tolist() == [True, True, False, False, False]
