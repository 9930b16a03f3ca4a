"""What every robot must keep, simulated or real; inherit it and make the robot."""

import numpy as np
import pytest

from wm_robot.control.robot import Robot
from wm_robot.safety.limit_violations import LimitRule


class RobotContract:
    def make(self) -> Robot:
        """A robot at rest."""
        raise AssertionError("a robot's suite makes its robot")

    def test_it_is_a_robot(self):
        assert isinstance(self.make(), Robot)

    def test_an_observation_has_the_channels_of_the_spec_and_asking_moves_nothing(self):
        robot = self.make()
        first, second = robot.read(), robot.read()
        assert first.values.shape == (robot.spec.obs_dim,) and np.isfinite(first.values).all()
        assert first.stamp == second.stamp
        np.testing.assert_array_equal(first.values, second.values)

    def test_time_goes_on_with_every_write(self):
        robot = self.make()
        before = robot.read().stamp
        robot.write(robot.spec.action_low)
        assert robot.read().stamp > before

    def test_what_is_applied_keeps_range_and_rate(self):
        robot = self.make()
        spec = robot.spec
        last = robot.write(0.5 * (spec.action_low + spec.action_high))
        for wild in (spec.action_high * 10, spec.action_low * 10, spec.action_high * 1e30):
            applied = robot.write(wild.astype(np.float32))
            assert (applied >= spec.action_low).all() and (applied <= spec.action_high).all()
            assert (np.abs(applied - last) <= spec.action_step * (1 + 1e-5)).all()
            last = applied

    def test_what_is_allowed_is_applied_as_it_is(self):
        robot = self.make()
        robot.read()
        middle = robot.write(0.5 * (robot.spec.action_low + robot.spec.action_high))
        robot.read()
        np.testing.assert_array_equal(robot.write(middle), middle)
        assert not robot.gate.violations

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_a_number_that_is_not_finite_reaches_no_motor(self, bad):
        robot = self.make()
        robot.read()
        before = robot.write(0.5 * (robot.spec.action_low + robot.spec.action_high))
        robot.read()
        action = before.copy()
        action[-1] = bad
        applied = robot.write(action)
        assert np.isfinite(applied).all()
        assert (np.abs(applied - before) <= robot.spec.action_step * (1 + 1e-5)).all()
        (cut,) = robot.gate.violations
        assert cut.rule is LimitRule.FINITE and cut.quantity == robot.spec.action_names[-1]

    @pytest.mark.parametrize("nonsense", [None, "stop", np.zeros(0, np.float32), np.zeros((1, 99)), [0.0]])
    def test_what_is_no_action_is_a_hold_and_no_error(self, nonsense):
        robot = self.make()
        robot.read()
        assert np.isfinite(robot.write(nonsense)).all()
        assert robot.gate.violations[0].rule in {LimitRule.DTYPE, LimitRule.SHAPE}

    def test_nobody_drives_it_blind(self):
        robot = self.make()
        robot.write(robot.spec.action_low)
        assert robot.gate.violations[0].rule is LimitRule.SENSED
