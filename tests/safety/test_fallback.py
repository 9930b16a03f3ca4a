import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.safety.specs import every, spec_of
from wm_robot.safety.fallback import FallbackController
from wm_robot.safety.gate import Gate
from wm_robot.spec import RobotSpec, make_home_obs
from wm_robot.types import Observation

SPECS = {
    "plain": spec_of(),
    "slow": spec_of(acceleration=every("actuator", 4.0), home={"j0": -0.5, "j2": 0.7}),
    "far": spec_of(rate=200.0, home={"j1": 1.6}),
}


def way_home(spec, hold):
    baseline, gate = FallbackController(spec, hold), Gate(spec, hold)
    obs = Observation(stamp=0.0, values=np.zeros(spec.obs_dim, np.float32))
    baseline.go_home(hold)
    path = [hold.astype(np.float64)]
    while not baseline.is_home:
        gated = gate(baseline.act(), obs, now=0.0)
        assert not gated.violations
        path.append(gated.applied.astype(np.float64))
    return baseline, np.array(path)


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=60, deadline=None)
@given(part=st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_from_anywhere_it_comes_home_and_the_gate_has_nothing_to_cut(name, part):
    spec = SPECS[name]
    hold = (spec.action_low + np.float32(part) * (spec.action_high - spec.action_low)).astype(np.float32)
    baseline, path = way_home(spec, hold)
    np.testing.assert_allclose(path[-1], baseline.home, atol=1e-6)
    speed = np.abs(np.diff(path, axis=0)) / spec.dt
    assert (speed <= np.array([joint.velocity for joint in spec.joints]) * 0.5 + 1e-3).all()
    np.testing.assert_array_equal(baseline.act(), baseline.home)


def test_all_joints_arrive_together_on_paths_of_one_shape():
    spec = SPECS["plain"]
    hold = np.float32([1.0, -0.5, 0.75])
    baseline, path = way_home(spec, hold)
    done = (path - hold) / (baseline.home - hold)
    for column in range(1, 3):
        np.testing.assert_allclose(done[:, column], done[:, 0], atol=1e-5)


def test_it_begins_and_ends_at_rest():
    _, path = way_home(SPECS["slow"], np.float32([1.0, 1.0, -1.0]))
    speed = np.abs(np.diff(path, axis=0))
    assert speed[0].max() < 1e-4 and speed[-1].max() < 1e-4 < speed.max()


def test_at_home_it_has_arrived():
    home = np.full(3, 0.25, np.float32)
    baseline = FallbackController(SPECS["plain"], home)
    baseline.go_home(home)
    assert baseline.is_home
    np.testing.assert_array_equal(baseline.act(), home)


def test_home_is_the_middle_of_what_joint_and_servo_reach_and_a_named_position_stays():
    joints = [
        {"name": name, "position": span, "velocity": 5.0, "effort": 5.0}
        for name, span in (
            ("hip", [-1.0, 1.0]),
            ("knee", [-2.7, -0.85]),
            ("slide", [0.0, 0.1]),
            ("wrist", [2.0, 2.4]),
        )
    ]
    ranges = [[-1.0, 1.0], [-2.0, -0.85], [0.0, 0.1], [2.0, 2.4]]
    actuators = [
        {"name": joint["name"], "joint": joint["name"], "kind": "position", "range": span, "rate": 5.0}
        for joint, span in zip(joints, ranges, strict=True)
    ]
    values = {"name": "leg", "rate": 50, "model": "leg.xml", "joints": joints, "actuators": actuators}
    spec = RobotSpec.from_dict({**values, "safety": {"home": {"hip": 0.4}}})
    baseline = FallbackController(spec, spec.home_action)
    np.testing.assert_allclose(baseline.home, [0.4, -1.425, 0.05, 2.2], atol=1e-6)
    np.testing.assert_array_equal(baseline.home, spec.home_action)
    gate = Gate(spec, spec.home_action)
    obs = Observation(stamp=0.0, values=make_home_obs(spec))
    assert not gate(spec.home_action, obs, now=0.0).violations


def test_a_motor_whose_range_excludes_zero_is_released_to_the_nearest_action():
    values = spec_of(kind="effort").to_dict()
    values["actuators"] = [{**each, "range": (0.2, 1.0)} for each in values["actuators"]]
    values["safety"] = {}
    spec = RobotSpec.from_dict(values)
    baseline = FallbackController(spec, np.ones(3))
    np.testing.assert_array_equal(baseline.act(), np.full(3, 0.2, np.float32))
    baseline.go_home(np.ones(3))
    np.testing.assert_array_equal(baseline.act(), spec.home_action)


def test_staying_is_where_the_targets_are():
    hold = np.float32([0.3, -0.2, 0.1])
    baseline = FallbackController(SPECS["plain"], np.zeros(3))
    baseline.hold_targets(hold)
    np.testing.assert_array_equal(baseline.act(), hold)


def test_motors_are_released():
    baseline = FallbackController(spec_of(kind="effort"), np.ones(3))
    np.testing.assert_array_equal(baseline.act(), np.zeros(3))
    baseline.go_home(np.ones(3))
    np.testing.assert_array_equal(baseline.act(), np.zeros(3))
    assert baseline.is_home
