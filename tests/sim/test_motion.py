"""Random behaviour stays in range, moves joints, and is what its kinds say."""

import numpy as np
import pytest

pytestmark = pytest.mark.sim

from wm_robot.robots import load_spec
from wm_robot_sim.motion import (
    SEGMENT_STEPS,
    draw_coloured_noise,
    draw_constant_target,
    draw_moves_with_rests,
    draw_random_actions,
    draw_random_jumps,
    draw_single_joint_noise,
    interpolate_paths,
    minimum_jerk,
)

SPEC = load_spec("arm")
HOLD = np.full((50, SPEC.action_dim), 0.1, np.float32)
KINDS = {
    "coloured": draw_coloured_noise,
    "jumps": draw_random_jumps,
    "moves": draw_moves_with_rests,
    "single": draw_single_joint_noise,
    "still": draw_constant_target,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_an_action_for_every_step(kind):
    actions = KINDS[kind](SPEC, np.random.default_rng(0), HOLD, SEGMENT_STEPS)
    assert actions.shape == (*HOLD.shape[:1], SEGMENT_STEPS, SPEC.action_dim) and np.isfinite(actions).all()


def test_a_move_begins_at_once_and_rests_after():
    actions = draw_moves_with_rests(SPEC, np.random.default_rng(0), HOLD, 200)
    path = np.concatenate([HOLD[:, None], actions], 1)
    speed = np.abs(np.diff(path, axis=1)).max(-1)
    assert (speed[:, :20] > 0).all(), "some life rests before its first move"
    resting = speed[:, 20:] == 0
    assert resting.any(1).all(), "some life never rests"


def test_the_first_jump_comes_at_once():
    actions = draw_random_jumps(SPEC, np.random.default_rng(0), HOLD, 200)
    assert (actions[:, 0] != HOLD).all(), "some joint rests before its first jump"


def test_one_joint_alone_moves_one_joint():
    actions = draw_single_joint_noise(SPEC, np.random.default_rng(0), HOLD, SEGMENT_STEPS)
    moved = (actions != HOLD[:, None]).any(1)
    np.testing.assert_array_equal(moved.sum(1), 1)


def test_a_life_begins_by_moving_every_joint_and_stays_in_range():
    actions = draw_random_actions(SPEC, np.random.default_rng(0), HOLD, 3 * SEGMENT_STEPS + 5)
    assert actions.shape[1] == 3 * SEGMENT_STEPS + 5
    assert (actions >= SPEC.action_low - 1e-6).all() and (actions <= SPEC.action_high + 1e-6).all()
    assert (np.ptp(actions[:, :SEGMENT_STEPS], axis=1) > 0).all()


def test_minimum_jerk_starts_and_ends_at_rest():
    done = minimum_jerk(np.array([-1.0, 0.0, 0.5, 1.0, 2.0]))
    np.testing.assert_allclose(done, [0, 0, 0.5, 1, 1])
    near = minimum_jerk(np.array([0.001, 0.999]))
    assert near[0] < 1e-7 and 1 - near[1] < 1e-7


def test_along_passes_its_points():
    points = np.array([[[0.0], [1.0], [-1.0]]])
    path = interpolate_paths(
        points, np.array([[0.0, 2.0]]), np.array([[1.0, 1.0]]), np.array([0.0, 1.0, 2.0, 3.0])
    )
    np.testing.assert_allclose(path[0, :, 0], [0, 1, 1, -1])
