"""Inverse kinematics of the robots that ship: solved from a few starts, within the limits."""

import numpy as np
import pytest

from wm_robot.math.inverse_kinematics import TipKinematics
from wm_robot.math.kinematics import compute_tip_position
from wm_robot.robots import load_spec

GOALS, STARTS, ITERATIONS = 1000, 16, 60


def make_kinematics(robot):
    spec = load_spec(robot)
    index = [spec.joint_names.index(link.joint) for link in spec.chain]
    return spec, TipKinematics(spec.chain, spec.tip, spec.pose_limits[index])


@pytest.mark.parametrize("robot", ["arm", "so101", "reacher"])
def test_position_and_slopes_are_those_of_the_forward_kinematics(robot):
    spec, kinematics = make_kinematics(robot)
    rows = np.random.default_rng(0).uniform(kinematics.low, kinematics.high, (20, len(kinematics.low)))
    tip, slopes = kinematics.compute_tip(rows)
    np.testing.assert_allclose(tip, compute_tip_position(rows, spec.chain, spec.tip), atol=1e-12)
    for j, unit in enumerate(1e-6 * np.eye(rows.shape[1])):
        ahead, behind = (kinematics.compute_tip(rows + side * unit)[0] for side in (1, -1))
        np.testing.assert_allclose((ahead - behind) / 2e-6, slopes[:, :, j], atol=1e-8)


@pytest.mark.parametrize("robot", ["arm", "so101"])
def test_reachable_goals_are_solved_within_a_millimetre_and_the_limits(robot):
    _, kinematics = make_kinematics(robot)
    rng = np.random.default_rng(1)
    goals = kinematics.compute_tip(
        rng.uniform(kinematics.low, kinematics.high, (GOALS, len(kinematics.low)))
    )[0]
    starts = rng.uniform(kinematics.low, kinematics.high, (STARTS, len(kinematics.low)))
    rows, solved, of_row = (
        np.tile(starts, (GOALS, 1)),
        np.zeros(GOALS, bool),
        np.repeat(np.arange(GOALS), STARTS),
    )
    for _ in range(ITERATIONS):
        rows, error = kinematics.step(rows, goals[of_row])
        assert (rows >= kinematics.low).all() and (rows <= kinematics.high).all()
        solved[of_row[error < 1e-3]] = True
        rows, of_row = rows[~solved[of_row]], of_row[~solved[of_row]]
        if solved.all():
            break
    assert solved.mean() >= 0.995


def test_a_goal_beyond_the_reach_is_not_solved():
    _, kinematics = make_kinematics("arm")
    rows = np.random.default_rng(2).uniform(kinematics.low, kinematics.high, (STARTS, 6))
    for _ in range(ITERATIONS):
        rows, error = kinematics.step(rows, np.array([[0.9, 0.0, 0.2]]))
    assert error.min() > 0.1
