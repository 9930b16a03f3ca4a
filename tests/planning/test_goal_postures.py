"""Goal postures: when a detour begins, where it leads, and what is said of goals out of reach."""

import numpy as np
import pytest

from wm_robot.math.inverse_kinematics import TipKinematics
from wm_robot.planning.goal_postures import (
    AHEAD,
    APART,
    DETOUR_S,
    FAR,
    NUM_DRAWN_STARTS,
    NUM_STARTS,
    START_STEPS,
    TOLERANCE,
    GoalPostures,
    PostureSearch,
)
from wm_robot.robots import load_spec

SPEC = load_spec("arm")
KINEMATICS = TipKinematics(SPEC.chain, SPEC.tip, SPEC.pose_limits)
BEHIND = np.array([-2.6, 0.3, 0.6, 0.0, 0.4, 0.0])
"""A posture with the first joint at its end."""
GOAL = KINEMATICS.compute_tip(np.array([[1.2, 0.9, 0.0, 0.0, 0.3, 0.0]]))[0][0]
"""A point that this joint would have to pass its end for: steps of the kinematics end 13 cm away."""


def make_search():
    return PostureSearch(KINEMATICS, SPEC.home_position, SPEC.rate)


def hold(search, position, goal, steps):
    """Let the arm stand still."""
    for _ in range(steps):
        search.update(position, goal)
        yield search.posture


def test_an_arm_at_the_end_of_a_joint_makes_a_detour_to_a_posture_at_the_goal():
    search = make_search()
    postures = list(hold(search, BEHIND, GOAL, 60))
    assert postures[0] is None and postures[-1] is not None and search.num_detours == 1
    error = np.linalg.norm(KINEMATICS.compute_tip(postures[-1][None])[0][0] - GOAL)
    assert error < TOLERANCE and np.abs(postures[-1] - BEHIND).max() > APART
    assert (postures[-1] >= KINEMATICS.low).all() and (postures[-1] <= KINEMATICS.high).all()


def test_a_detour_keeps_its_posture_until_the_goal_can_be_approached_from_where_the_arm_is():
    search, position = make_search(), BEHIND.copy()
    for _ in range(60):
        search.update(position, GOAL)
    first, seen = search.posture.copy(), []
    while search.posture is not None:
        seen.append(search.posture)
        position += np.clip(first - position, -0.06, 0.06)
        search.update(position, GOAL)
    assert np.abs(np.array(seen) - first).max() < 0.05 and search.num_detours == 1
    rows = position[None]
    for _ in range(30):
        rows, error = KINEMATICS.step(rows, GOAL[None])
    assert error[0] < TOLERANCE


def test_a_posture_that_the_arm_does_not_reach_is_given_up_for_another_one():
    search = make_search()
    postures = [
        each for each in hold(search, BEHIND, GOAL, 60 + 2 * round(DETOUR_S * SPEC.rate)) if each is not None
    ]
    assert search.num_detours >= 2 and np.abs(postures[0] - postures[-1]).max() > APART


@pytest.mark.parametrize("steps", [1, 50])
def test_an_arm_that_can_approach_its_goal_makes_no_detour(steps):
    search, position = make_search(), SPEC.home_position.copy()
    goal = KINEMATICS.compute_tip(position[None] + 0.4)[0][0]
    assert all(posture is None for posture in hold(search, position, goal, steps))
    assert not search.is_unreachable


def test_a_goal_that_is_near_costs_no_search(monkeypatch):
    monkeypatch.setattr(TipKinematics, "step", None)
    search = make_search()
    goal = KINEMATICS.compute_tip(BEHIND[None])[0][0] + np.array([0.0, 0.0, 0.9 * FAR])
    assert list(hold(search, BEHIND, goal, 50)) == [None] * 50


def test_a_goal_out_of_reach_is_said_once_and_not_chased(caplog):
    search, steps = make_search(), START_STEPS * (2 + NUM_DRAWN_STARTS // (NUM_STARTS - 1))
    assert all(
        posture is None for posture in hold(search, SPEC.home_position, np.array([0.9, 0.0, 0.2]), steps)
    )
    assert search.is_unreachable and search.num_detours == 0
    assert [record.message for record in caplog.records] == [
        "the goal [0.9 0.  0.2] m is out of reach: no posture of the arm is there"
    ]
    search.update(SPEC.home_position, KINEMATICS.compute_tip(SPEC.home_position[None])[0][0])
    assert not search.is_unreachable


def test_robots_of_a_batch_search_for_themselves():
    both = GoalPostures(SPEC, 2)
    obs = np.zeros((2, 12), np.float32)
    obs[0, :6] = BEHIND
    reached = KINEMATICS.compute_tip(np.zeros((1, 6)))[0][0]
    for _ in range(60):
        active, postures = both.update(obs, np.stack([GOAL, reached]).astype(np.float32))
    assert active.tolist() == [True, False] and postures.dtype == np.float32
    alone = make_search()
    for _ in hold(alone, obs[0, :6].astype(np.float64), GOAL.astype(np.float32).astype(np.float64), 60):
        pass
    # The planner gets a part of the way that a plan can nearly do.
    towards = BEHIND + np.clip(alone.posture - BEHIND, -AHEAD, AHEAD)
    np.testing.assert_allclose(postures[0], towards, atol=1e-6)


def test_readings_that_are_not_finite_leave_a_search_as_it_is():
    one = GoalPostures(SPEC, 1)
    active, _ = one.update(np.full((1, 12), np.nan, np.float32), np.zeros((1, 3), np.float32))
    assert not active.any()
