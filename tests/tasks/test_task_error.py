"""The error of a task is what a person would measure, and its tolerance what counts as solved."""

import math

import numpy as np
import pytest

from tests.tasks.robots import NO_GOAL, cart_pole, obs, robot
from wm_robot.spec import Task
from wm_robot.tasks import make_reward


def error_of(reward, spec=None, **task):
    error = make_reward(spec or robot(), Task(reward=reward, **task)).error
    assert error is not None
    return error


def test_of_reach_it_is_the_distance_to_the_goal():
    error = error_of("reach", goal=3)
    assert error.function(obs(), np.array([0.75, 0.03, 0.04])) == pytest.approx(0.05)
    # A pose counts with its position alone.
    pose = np.array([0.75, 0.03, 0.04, 0, 0, 0, 1])
    assert error_of("reach", goal=7).function(obs(lifting=3.0), pose) == pytest.approx(0.05)
    assert (error.unit, error.tolerance) == ("m", 0.015)


def test_of_joints_it_is_their_root_mean_square():
    goal = np.array([0.1, -0.2])
    for name, tolerance in (("track_joints", 0.1), ("hold", 0.05)):
        error = error_of(name, goal=2)
        assert error.function(obs(lift=0.4, turn=0.2, lifting=2.0), goal) == pytest.approx(0.5 / math.sqrt(2))
        assert (error.unit, error.tolerance) == ("rad", tolerance)
    one = error_of("track_joints", goal=1, parameters={"joints": ["turn"]})
    assert one.function(obs(lift=0.4, turn=0.2), np.array([-0.2])) == pytest.approx(0.4)
    away = error_of("hold", robot(safety={"home": {"lift": 0.3, "turn": 0.4}}))
    assert away.function(obs(), NO_GOAL) == pytest.approx(0.5 / math.sqrt(2))


@pytest.mark.parametrize(("kinds", "unit"), [(("slide", "slide"), "m"), (("slide", "hinge"), "rad (m)")])
def test_its_unit_is_that_of_the_joints(kinds, unit):
    joints = [
        {"name": name, "kind": kind, "position": [-3, 3], "velocity": 3, "effort": 3}
        for name, kind in zip(("lift", "turn"), kinds, strict=True)
    ]
    assert error_of("track_joints", robot(joints=joints, chain=[]), goal=2).unit == unit


@pytest.mark.parametrize("reward", ["balance", "swingup"])
def test_of_a_pole_it_is_the_tilt_however_often_it_turned(reward):
    error = error_of(reward, cart_pole())
    hinge = np.array([0.0, 0.2, -0.2, 2 * math.pi + 0.2, math.pi, -3 * math.pi, 4 * math.pi])
    states = np.stack([np.ones(7), hinge, np.zeros(7), np.ones(7)], -1)
    np.testing.assert_allclose(
        error.function(states, NO_GOAL), [0, 0.2, 0.2, 0.2, math.pi, math.pi, 0], atol=1e-12
    )
    assert math.degrees(error.tolerance) == pytest.approx(12)


def test_of_a_velocity_it_is_the_difference():
    error = error_of(
        "track_velocity",
        goal=6,
        parameters={"joints": {"linear_x": "lift", "angular_z": "turn"}, "turn_radius": 2},
    )
    twist = np.array([1.0, 9, 9, 9, 9, 0.5])
    assert error.function(obs(lifting=1.3, turning=0.7), twist) == pytest.approx(0.5)
