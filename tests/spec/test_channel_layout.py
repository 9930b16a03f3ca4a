"""Joints that wrap in a spec, and the layout of an observation."""

import numpy as np
import pytest

from wm_robot.errors import SpecError
from wm_robot.safety.limits import Limits, compute_plausible_range
from wm_robot.spec import RobotSpec
from wm_robot.tasks import make_reward
from wm_robot.tasks.goal_types import list_goal_periods

WHEEL = {"name": "wheel", "wraps": True, "velocity": 20, "effort": 1}
ARM = {"name": "arm", "position": [-1, 1], "velocity": 3, "effort": 1}


def spec(joints=(ARM, WHEEL), kind="velocity", **changes):
    values = {
        "name": "cart",
        "rate": 50,
        "model": "cart.xml",
        "joints": list(joints),
        "actuators": [{"name": "wheel", "joint": "wheel", "kind": kind, "range": [-5, 5], "rate": 50}],
        "tasks": {"track": {"reward": "track_joints", "goal": 2}},
    }
    return RobotSpec.from_dict({**values, **changes})


def test_a_joint_that_wraps_has_one_channel_of_one_turn():
    layout = spec().layout
    assert layout.names == ("arm/position", "wheel/position", "arm/velocity", "wheel/velocity")
    assert layout.wraps == (1,) and layout.rotations == ()
    assert layout.limits.tolist() == [1, np.pi, 3, 20]
    assert spec().joints[1].position == (-np.pi, np.pi)


def test_only_a_joint_that_wraps_changes_the_digest():
    plain = [ARM, {**WHEEL, "wraps": False, "position": [-1, 1]}]
    without = [ARM, {name: value for name, value in plain[1].items() if name != "wraps"}]
    assert spec(plain).compute_digest() == spec(without).compute_digest() != spec().compute_digest()
    assert RobotSpec.from_dict(spec().to_dict()).compute_digest() == spec().compute_digest()


@pytest.mark.parametrize(
    ("joint", "kind", "sentence"),
    [
        ({"position": [-1, 1]}, "velocity", "a joint that wraps has no end"),
        ({"kind": "slide"}, "velocity", "it must be a hinge"),
        ({"wraps": "yes"}, "velocity", "true or false"),
        ({"wraps": False}, "velocity", "no position; it must be a range"),
        ({}, "position", "a set-point of an angle that wraps"),
    ],
)
def test_what_contradicts_wrapping_is_refused(joint, kind, sentence):
    with pytest.raises(SpecError, match=sentence):
        spec([ARM, {**WHEEL, **joint}], kind)


def test_angles_continue_count_turns_and_wrap_again():
    layout = spec().layout
    angle = np.arange(-9.0, 9.0, 0.7)
    obs = np.stack([0.1 * angle, angle, angle, angle], -1).astype(np.float32)
    wrapped = layout.normalize(obs)
    assert np.abs(wrapped[:, 1]).max() <= np.pi + 1e-6
    np.testing.assert_array_equal(wrapped[:, [0, 2, 3]], obs[:, [0, 2, 3]])
    counted = layout.count_turns(wrapped)
    np.testing.assert_allclose(np.diff(counted, axis=0), np.diff(obs, axis=0), atol=1e-5)
    following = layout.continue_angles(wrapped[:-1], wrapped[1:])
    np.testing.assert_allclose(following - wrapped[:-1], np.diff(obs, axis=0), atol=1e-5)
    gap = wrapped.copy()
    gap[5] = np.nan
    assert np.isfinite(layout.count_turns(gap)[np.arange(len(gap)) != 5]).all()


def test_the_gate_brakes_no_joint_that_wraps_and_takes_readings_of_one_turn():
    limits = Limits.from_spec(spec(safety={"deceleration": {"wheel": 10}}))
    assert np.isinf([limits.stop_low, limits.stop_high]).all()
    low, high = compute_plausible_range(spec())
    assert (low[1], high[1]) == pytest.approx((-np.pi, np.pi), abs=2e-3)


def test_the_reward_of_an_angle_that_wraps_takes_the_shorter_way():
    reward = make_reward(spec(), spec().find_task("track"))
    at, goal = np.array([0.0, 3.1, 0.0, 0.0]), np.array([0.0, -3.1])
    assert reward(at, np.zeros(1), at, goal) == pytest.approx(-(2 * np.pi - 6.2) / np.sqrt(2), abs=1e-4)


def test_goals_of_joints_that_wrap_are_angles_that_wrap():
    assert list_goal_periods(spec(), spec().find_task("track")) == pytest.approx([0, 2 * np.pi])
    plain = spec([ARM, {**WHEEL, "wraps": False, "position": [-9, 9]}])
    assert list_goal_periods(plain, plain.find_task("track")) == []
