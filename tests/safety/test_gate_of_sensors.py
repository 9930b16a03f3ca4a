"""The gate of a robot with sensors beyond its joints."""

from dataclasses import replace

import numpy as np
import pytest

from tests.safety.specs import spec_of
from wm_robot.safety.gate import Gate
from wm_robot.safety.limit_violations import LimitRule
from wm_robot.spec import RobotSpec, Sensor, make_home_obs
from wm_robot.types import Observation


def make_spec(*, required: bool) -> RobotSpec:
    level = Sensor(name="level", kind="scalar", limits={"value": 1.0}, required=required)
    return replace(spec_of(), sensors=(level,))


def ask_gate(spec: RobotSpec, reading: float) -> tuple[np.ndarray, list[LimitRule]]:
    """The applied action, and the rules that changed it, with some reading of the sensor."""
    action = np.full(spec.action_dim, 0.01)
    gate = Gate(spec, spec.home_action)
    obs = make_home_obs(spec).astype(np.float64)
    obs[spec.layout.find_sensor("level")] = reading
    result = gate(spec.home_action + action, Observation(stamp=1.0, values=obs), now=1.0)
    return result.applied - spec.home_action, [violation.rule for violation in result.violations]


@pytest.mark.parametrize("reading", [np.nan, np.inf, 1e9])
def test_an_optional_sensor_stops_no_action(reading):
    moved, rules = ask_gate(make_spec(required=False), reading)
    assert rules == [] and (moved > 0).all()


@pytest.mark.parametrize("reading", [np.nan, np.inf, 1e9])
def test_a_robot_is_not_driven_without_a_required_sensor(reading):
    moved, rules = ask_gate(make_spec(required=True), reading)
    assert rules == [LimitRule.SENSED] and (moved == 0).all()


def test_a_joint_is_always_required():
    spec = make_spec(required=False)
    obs = make_home_obs(spec).astype(np.float64)
    obs[0] = np.nan
    result = Gate(spec, spec.home_action)(spec.home_action, Observation(stamp=1.0, values=obs), now=1.0)
    assert [violation.rule for violation in result.violations] == [LimitRule.SENSED]
