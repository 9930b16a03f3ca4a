import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.safety.specs import every, spec_of
from wm_robot.safety.braking import compute_braking_distance
from wm_robot.safety.gate import Gate
from wm_robot.safety.limit_violations import ACTION_RULES, OBSERVATION_RULES, LimitRule
from wm_robot.spec import RobotSpec, make_home_obs
from wm_robot.types import Observation

JOINTS = 3
CAREFUL = {
    "acceleration": {"m0": 30.0, "m2": 8.0},
    "deceleration": every("joint", 40.0),
    "stiffness": {"m1": 10.0},
    "workspace": [[-0.3, 0.3], [-0.3, 0.3], [0.0, 0.4]],
}
SPECS = {
    "plain": spec_of(JOINTS),
    "careful": spec_of(JOINTS, **CAREFUL),
    "motors": spec_of(
        JOINTS, kind="effort", acceleration=every("actuator", 30.0), deceleration=every("joint", 40.0)
    ),
}
BAD = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf, "huge": 1e308, "-huge": -1e308, "big": 1e6}
FINE = {"denormal": 5e-324, "-denormal": -5e-324, "least": 2.3e-308, "zero": -0.0}


def at_rest(spec, stamp=0.0):
    return Observation(stamp=stamp, values=np.zeros(spec.obs_dim, np.float32))


def pose(spec):
    return np.linspace(0.1, 0.3, spec.action_dim).astype(np.float32)


class Watch:
    """Judges what a gate lets through, by the spec alone and not by the gate's own arrays."""

    def __init__(self, spec, hold):
        self.spec, self.before, self.moved = spec, hold.astype(np.float64), np.zeros(spec.action_dim)
        step = spec.action_step.astype(np.float64)
        given = np.array([spec.safety.acceleration.get(name, np.inf) for name in spec.action_names])
        self.change = np.minimum(given * spec.dt**2, 2 * step)

    def __call__(self, gated):
        spec, applied = self.spec, gated.applied
        assert applied.dtype == np.float32 and applied.shape == (spec.action_dim,)
        assert np.isfinite(applied).all()
        assert (applied >= spec.action_low).all() and (applied <= spec.action_high).all()
        moved = applied.astype(np.float64) - self.before
        assert (np.abs(moved) <= spec.action_step * (1 + 1e-5) + 1e-6).all()
        assert (np.abs(moved - self.moved) <= self.change + 2e-6).all()
        # From here each joint can still brake before the limit that it moves towards.
        way = compute_braking_distance(np.abs(moved), self.change)
        room = np.where(moved > 0, spec.action_high - applied, applied - spec.action_low)
        assert (way <= room + 2e-6).all()
        self.before, self.moved = applied.astype(np.float64), moved
        return gated


anything = st.one_of(
    hnp.arrays(
        st.sampled_from(
            [np.float16, np.float32, np.float64, np.dtype(">f4"), np.int32, np.uint8, np.complex128, bool]
        ),
        st.one_of(st.just((JOINTS,)), hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=5)),
    ),
    hnp.arrays(np.float64, JOINTS, elements=st.floats(-20, 20)),
    hnp.arrays(np.float64, JOINTS, elements=st.sampled_from([*BAD.values(), *FINE.values(), 1.0])),
    st.none(),
    st.floats(),
    st.text(),
    st.lists(st.floats(), max_size=4),
)
sensed = st.one_of(
    hnp.arrays(np.float32, 2 * JOINTS, elements=st.floats(-4, 4, width=32)),
    hnp.arrays(np.float32, st.sampled_from([2 * JOINTS, 2 * JOINTS + 1, 0])),
)
stamps = st.one_of(st.floats(), st.floats(0, 1))
observations = st.one_of(st.none(), st.builds(lambda s, v: Observation(stamp=s, values=v), stamps, sensed))


RUNS = st.lists(st.tuples(anything, observations, st.floats(0, 1)), min_size=5, max_size=5)


def ask_in_a_row(spec, asked):
    gate, watch = Gate(spec, pose(spec)), Watch(spec, pose(spec))
    for action, obs, now in asked:
        watch(gate(action, obs, now=now))


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=60, deadline=None)
@given(asked=RUNS)
def test_whatever_goes_in_what_comes_out_can_be_applied(name, asked):
    # 3 robots x 60 runs x 5 actions in a row: 900 actions.
    ask_in_a_row(SPECS[name], asked)


@pytest.mark.soak
@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=2000, deadline=None)
@given(asked=RUNS)
def test_whatever_goes_in_30_000_times_what_comes_out_can_be_applied(name, asked):
    ask_in_a_row(SPECS[name], asked)


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), reach=st.floats(0.01, 20))
def test_a_long_run_of_wild_actions_never_leaves_the_limits(name, seed, reach):
    ask_wildly(name, seed, reach)


@pytest.mark.soak
@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32), reach=st.floats(0.01, 20))
def test_of_400_long_runs_of_wild_actions_none_leaves_the_limits(name, seed, reach):
    ask_wildly(name, seed, reach)


def ask_wildly(name, seed, reach):
    spec, rng = SPECS[name], np.random.default_rng(seed)
    gate, watch = Gate(spec, pose(spec)), Watch(spec, pose(spec))
    aim = np.zeros(spec.action_dim)
    for step in range(100):
        if rng.random() < 0.1:
            aim = rng.uniform(-reach, reach, spec.action_dim)
        values = rng.uniform(-2, 2, spec.obs_dim).astype(np.float32)
        watch(gate(aim, Observation(stamp=step * spec.dt, values=values), now=step * spec.dt))


def test_what_an_action_would_violate_is_found_and_nothing_is_changed():
    spec = SPECS["careful"]
    gate, twin = (Gate(spec, spec.home_action) for _ in range(2))
    wild = np.full(spec.action_dim, 0.3) + spec.home_action
    for step in range(5):
        obs = at_rest(spec, step * spec.dt)
        now = obs.stamp
        before = dict(gate.counts), gate.last_action.tolist(), gate.violations, gate.last_violation
        found = gate.find_violations(wild, obs, now=now)
        assert (dict(gate.counts), gate.last_action.tolist(), gate.violations, gate.last_violation) == before
        assert found and found == gate.find_violations(wild, obs, now=now)
        ordinary = spec.home_action + np.float32(0.001 * step)
        applied, expected = gate(ordinary, obs, now=now), twin(ordinary, obs, now=now)
        assert (applied.applied == expected.applied).all() and applied.violations == expected.violations


@pytest.mark.parametrize("joint", range(JOINTS))
@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
@pytest.mark.parametrize("name", SPECS)
def test_one_bad_number_refuses_the_whole_action(name, value, joint):
    spec = SPECS[name]
    gate = Gate(spec, pose(spec))
    action = pose(spec).astype(np.float64) + 0.01
    action[joint] = value
    gated = Watch(spec, pose(spec))(gate(action, at_rest(spec), now=0.0))
    assert gated.is_rejected and gated.violations[0].rule in {LimitRule.FINITE, LimitRule.FAR}
    assert gated.violations[0].quantity == f"m{joint}"
    if name != "motors":
        np.testing.assert_array_equal(gated.applied, pose(spec))


@pytest.mark.parametrize("joint", range(JOINTS))
@pytest.mark.parametrize("value", FINE.values(), ids=FINE)
def test_tiny_numbers_are_numbers(value, joint):
    spec = SPECS["plain"]
    action = np.zeros(JOINTS)
    action[joint] = value
    gated = Gate(spec, np.zeros(JOINTS))(action, at_rest(spec), now=0.0)
    assert not gated.violations
    np.testing.assert_allclose(gated.applied, 0, atol=1e-37)


@pytest.mark.parametrize("field", range(2 * JOINTS))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_action_follows_from_a_reading_that_is_not_finite(value, field):
    spec = SPECS["careful"]
    obs = at_rest(spec)
    obs.values[field] = value
    gated = Gate(spec, pose(spec))(pose(spec) + 0.01, obs, now=0.0)
    assert gated.is_rejected and gated.violations[0].rule is LimitRule.SENSED
    assert gated.violations[0].quantity == spec.observation_names[field]
    np.testing.assert_array_equal(gated.applied, pose(spec))


@pytest.mark.parametrize(
    ("action", "rule"),
    [
        (None, LimitRule.DTYPE),
        ([0.0] * JOINTS, LimitRule.DTYPE),
        ("0 0 0", LimitRule.DTYPE),
        (np.zeros(JOINTS, int), LimitRule.DTYPE),
        (np.zeros(JOINTS, complex), LimitRule.DTYPE),
        (np.zeros(JOINTS, np.longdouble), LimitRule.DTYPE),
        (np.array([None] * JOINTS), LimitRule.DTYPE),
        (np.ma.masked_array(np.zeros(JOINTS), mask=[1, 0, 0]), LimitRule.DTYPE),
        (np.zeros(JOINTS + 1), LimitRule.SHAPE),
        (np.zeros(JOINTS - 1), LimitRule.SHAPE),
        (np.zeros((1, JOINTS)), LimitRule.SHAPE),
        (np.zeros(()), LimitRule.SHAPE),
        (np.zeros(0), LimitRule.SHAPE),
    ],
    ids=str,
)
def test_what_is_no_action_is_refused(action, rule):
    spec = SPECS["plain"]
    gate = Gate(spec, pose(spec))
    gated = gate(action, at_rest(spec), now=0.0)
    assert gated.is_rejected and [cut.rule for cut in gated.violations] == [rule]
    assert gate.counts[rule] == 1 and rule in ACTION_RULES
    np.testing.assert_array_equal(gated.applied, pose(spec))


@pytest.mark.parametrize(
    ("stamp", "now", "rule"),
    [
        (0.9, 1.0, LimitRule.STALE),
        (1.011, 1.0, LimitRule.FUTURE),
        (1.0, 3601.0, LimitRule.STALE),
        (3601.0, 1.0, LimitRule.FUTURE),
        (math.nan, 1.0, LimitRule.STALE),
        (math.inf, 1.0, LimitRule.FUTURE),
        (-math.inf, 1.0, LimitRule.STALE),
    ],
)
def test_no_action_follows_from_an_observation_of_another_time(stamp, now, rule):
    spec = SPECS["plain"]
    gated = Gate(spec, pose(spec))(pose(spec) + 0.01, at_rest(spec, stamp), now=now)
    assert gated.is_rejected and gated.violations[0].rule is rule and rule in OBSERVATION_RULES
    np.testing.assert_array_equal(gated.applied, pose(spec))


def test_an_observation_may_come_twice_and_never_out_of_order():
    spec = SPECS["plain"]
    gate = Gate(spec, pose(spec))
    for stamp, refused in ((1.0, False), (1.0, False), (0.98, True), (1.02, False)):
        assert gate(pose(spec), at_rest(spec, stamp), now=1.02).is_rejected is refused
    assert gate.counts[LimitRule.SEQUENCE] == 1


def test_within_the_limits_nothing_is_cut():
    spec = SPECS["careful"]
    gate = Gate(spec, pose(spec))
    for step in range(20):
        action = pose(spec) + np.float32(1e-4 * step)
        obs = Observation(stamp=0.0, values=np.append(pose(spec), np.zeros(JOINTS)))
        gated = gate(action, obs, now=0.0)
        assert not gated.violations
        np.testing.assert_array_equal(gated.applied, action)
    assert not any(gate.counts.values()) and gate.status()["last_violation"] is None


def test_without_accelerations_it_is_range_then_rate_bit_for_bit():
    spec, rng = SPECS["plain"], np.random.default_rng(0)
    gate, before = Gate(spec, pose(spec)), pose(spec)
    for _ in range(2000):
        action = rng.uniform(-3, 3, JOINTS).astype(np.float32)
        clipped = np.minimum(np.maximum(action, spec.action_low), spec.action_high)
        before = np.minimum(np.maximum(clipped, before - spec.action_step), before + spec.action_step)
        applied = gate(action, at_rest(spec), now=0.0).applied
        np.testing.assert_array_equal(applied, before)


def test_a_refusal_names_the_bound_that_was_crossed_where_the_range_is_on_one_side_of_zero():
    values = spec_of(1).to_dict()
    values["joints"], values["actuators"] = (
        [dict(each[0])] for each in (values["joints"], values["actuators"])
    )
    values["joints"][0]["position"] = values["actuators"][0]["range"] = (5.0, 5.1)
    gate = Gate(spec := RobotSpec.from_dict(values), spec.home_action)
    obs = Observation(stamp=0.0, values=make_home_obs(spec))
    (low,) = gate(np.float32([0.5]), obs, now=0.0).violations
    assert low.rule == LimitRule.FAR and low.limit == pytest.approx(4.0)
    (high,) = gate(np.float32([9.0]), obs, now=0.0).violations
    assert high.rule == LimitRule.FAR and high.limit == pytest.approx(6.1)
    reading = Observation(stamp=0.0, values=np.float32([0.5, 0.0]))
    (broken,) = gate(spec.home_action, reading, now=0.0).violations
    assert broken.rule == LimitRule.SENSED and broken.limit == pytest.approx(4.9)


def test_a_cut_says_what_was_cut_and_to_what():
    spec = SPECS["plain"]
    gate = Gate(spec, np.zeros(JOINTS))
    gate(np.array([0.0, 9.0, 0.0]), at_rest(spec), now=0.0)
    assert gate.counts[LimitRule.RANGE] == gate.counts[LimitRule.RATE] == 1
    assert str(gate.last_violation) == "rate: m1 1.6 became 0.12"
    assert gate.status()["last_violation"] == {
        "rule": "rate",
        "quantity": "m1",
        "value": pytest.approx(1.6),
        "limit": pytest.approx(0.12),
    }
    gate(np.array([0.0, 0.0, np.nan]), at_rest(spec), now=0.0)
    assert gate.status()["last_violation"]["value"] == "nan"
    assert "finite: m2 is nan" in str(gate.last_violation)


def test_a_target_that_is_fast_slows_down_before_the_end_of_its_range():
    spec = spec_of(1, acceleration={"m0": 10.0})
    gate, targets = Gate(spec, np.zeros(1)), [0.0]
    for _ in range(100):
        targets.append(float(gate(np.array([1.5]), at_rest(spec), now=0.0).applied[0]))
    assert targets[-1] == pytest.approx(1.5, abs=1e-6) and max(targets) <= 1.5
    speed = np.diff(targets) / spec.dt
    assert speed.max() > 3.0 and np.abs(np.diff(speed) / spec.dt).max() <= 10.0 + 1e-2
    assert gate.counts[LimitRule.BRAKING] > 0


def test_refusing_in_the_middle_of_a_motion_still_slows_down_as_it_may():
    spec = spec_of(1, acceleration={"m0": 10.0})
    gate, watch = Gate(spec, np.zeros(1)), Watch(spec, np.zeros(1))
    for _ in range(20):
        watch(gate(np.array([1.5]), at_rest(spec), now=0.0))
    for _ in range(60):
        watch(gate(np.array([np.nan]), at_rest(spec), now=0.0))
    before = gate.last_action
    np.testing.assert_array_equal(watch(gate(None, None, now=0.0)).applied, before)


def test_a_joint_that_is_too_fast_is_not_driven_further_that_way():
    spec = SPECS["plain"]
    gate = Gate(spec, np.zeros(JOINTS))
    obs = at_rest(spec)
    obs.values[JOINTS:] = [3.1, -4.1, 4.9]
    gated = gate(np.array([0.05, -0.05, 0.05]), obs, now=0.0)
    np.testing.assert_allclose(gated.applied, [0.0, 0.0, 0.05], atol=1e-7)
    back = gate(np.array([-0.05, 0.05, 0.05]), obs, now=0.0)
    np.testing.assert_allclose(back.applied, [-0.05, 0.05, 0.05], atol=1e-7)


def test_a_blocked_servo_is_not_asked_for_more_than_its_effort():
    spec = spec_of(1, stiffness={"m0": 10.0})
    gate = Gate(spec, np.zeros(1))
    for _ in range(50):
        gated = gate(np.array([1.0]), at_rest(spec), now=0.0)
    assert gated.applied[0] == pytest.approx(2.0 / 10.0)
    assert gated.violations[0].rule is LimitRule.EFFORT


@pytest.mark.parametrize(("kind", "expected"), [("position", 1.4), ("effort", -0.5)])
def test_a_joint_that_would_overshoot_its_range_is_braked(kind, expected):
    spec = spec_of(1, kind=kind, rate=10, deceleration={"j0": 10.0})
    obs = Observation(stamp=0.0, values=np.array([1.4, 2.0], np.float32))
    gated = Gate(spec, np.array([1.5 if kind == "position" else 0.0]))(np.array([1.5]), obs, now=0.0)
    assert gated.applied[0] == pytest.approx(expected, abs=1e-6)
    assert LimitRule.STOPPING in {cut.rule for cut in gated.violations}


def test_a_motor_is_released_when_its_action_is_refused():
    spec = SPECS["motors"]
    gate = Gate(spec, np.full(JOINTS, 0.05))
    for _ in range(20):
        gated = gate(np.full(JOINTS, np.nan), at_rest(spec), now=0.0)
    np.testing.assert_array_equal(gated.applied, np.zeros(JOINTS))


def test_nothing_changes_a_limit_of_a_gate():
    gate = Gate(SPECS["plain"], np.zeros(JOINTS))
    with pytest.raises(ValueError, match="read-only"):
        gate.limits.high[0] = 100


def test_a_hold_that_cannot_be_is_brought_within_range():
    spec = SPECS["plain"]
    np.testing.assert_allclose(Gate(spec, np.array([np.nan, 99.0, 0.5])).last_action, [0.25, 1.6, 0.5])


def test_numbers_that_overflow_make_no_noise():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        test_one_bad_number_refuses_the_whole_action("careful", 1e308, 0)
