"""Action gate: the last function before the motors. Its output can always be applied, for any input.

The order of the rules guarantees this. The limits from the sensor readings come first. The limits from the previous
actions come last, and their intervals are never empty: from every applied action, the next one can slow down.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from wm_robot.safety.braking import compute_braking_distance, compute_furthest_step
from wm_robot.safety.limit_violations import REJECTION_RULES, LimitRule, LimitViolation
from wm_robot.safety.limits import Limits, compute_plausible_range
from wm_robot.safety.workspace import Workspace
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation

FLOAT_DTYPES = frozenset(np.dtype(kind) for kind in ("f2", "f4", "f8"))
MAX_PERIODS_AHEAD = 0.5
"""Control periods that a stamp may be later than now: two clocks never agree exactly."""


class GateResult(NamedTuple):
    """Result of the gate for one action."""

    applied: np.ndarray
    """`A`, float32: finite, within range and rate, and the motors can still be stopped in time."""
    violations: tuple[LimitViolation, ...]
    """Limit violations: at most one for each rule, the worst."""

    @property
    def is_rejected(self) -> bool:
        """Whether the whole action was rejected."""
        return bool(self.violations) and self.violations[0].rule in REJECTION_RULES


class Gate:
    """Action gate: limits actions to what a spec allows.

    It cannot be switched off, it never raises, and it counts its interventions."""

    def __init__(self, spec: RobotSpec, initial_action: np.ndarray):
        """Args:
        initial_action: Action in force at the start, `A`.
        """
        self.spec, self.limits = spec, Limits.from_spec(spec)
        self.counts = dict.fromkeys(LimitRule, 0)
        """Number of actions that each rule changed."""
        self.violations: tuple[LimitViolation, ...] = ()
        """Limit violations of the last action."""
        self.last_violation: LimitViolation | None = None
        """Last limit violation of any action."""
        self._workspace = Workspace(spec)
        self._obs_low, self._obs_high = compute_plausible_range(spec)
        self._is_optional = ~spec.layout.is_required
        """Whether no limit depends on each channel, and the robot may be driven without it."""
        interfaces = {name: k * len(spec.joints) for k, name in enumerate(spec.interfaces)}
        self._columns = {name: first + self.limits.joint_index for name, first in interfaces.items()}
        self._max_age = spec.safety.max_age_periods * spec.dt
        self._max_time_ahead = MAX_PERIODS_AHEAD * spec.dt
        self._limits_stopping = bool(self.limits.stopping_factor.any()) and (
            {"position", "velocity"} <= set(interfaces)
        )
        self._limits_lead = bool(np.isfinite(self.limits.max_lead).any()) and "position" in interfaces
        self._target = np.zeros(spec.action_dim)
        self.restart(initial_action)

    def restart(self, last_action: np.ndarray) -> None:
        """Restart from an action in force, at rest, independent of all actions before.

        Args:
            last_action: `A`; values outside the range are clipped, values that are not finite become the middle.
        """
        limits = self.limits
        middle = 0.5 * (limits.low + limits.high)
        last_action = np.where(np.isfinite(last_action), last_action, middle)
        self._last = np.clip(last_action, limits.low, limits.high).astype(np.float32).astype(np.float64)
        self._last_step = np.zeros_like(self._last)
        self._last_stamp = -math.inf

    def clear_violations(self) -> None:
        """Start a period: clear the limit violations of the last action."""
        self.violations = ()

    @property
    def last_action(self) -> np.ndarray:
        """Action that was applied last, `A`."""
        return self._last.astype(np.float32)

    def __call__(self, action: Any, obs: Observation | None, *, now: float) -> GateResult:
        """Limit an action to what may reach the motors in the coming period.

        Args:
            action: Any object; only an array of `A` floats can be applied.
            obs: The newest observation.
            now: In s, on the clock of the observation's stamp.

        Returns:
            The applied action, and its limit violations. For a rejected action a servo holds its present
            target, and a motor is released.
        """
        violations: list[LimitViolation] = []
        refused = self._check_action(action) or self._check_observation(obs, now)
        if refused:
            violations.append(refused)
            np.copyto(self._target, np.where(self.limits.is_servo, self._last, 0.0))
        else:
            np.copyto(self._target, action)
        if obs is not None and not refused:
            self._limit_by_sensors(obs.values, violations)
        self._limit_by_history(violations)
        return self._finish_action(violations)

    def find_violations(
        self, action: Any, obs: Observation | None, *, now: float
    ) -> tuple[LimitViolation, ...]:
        """Find the limit violations that an action would have in the coming period; nothing is changed or counted.

        The arguments are those of the gate itself.
        """
        last, last_step, last_stamp = self._last.copy(), self._last_step.copy(), self._last_stamp
        counted = dict(self.counts), self.violations, self.last_violation
        found = self(action, obs, now=now).violations
        self._last, self._last_step, self._last_stamp = last, last_step, last_stamp
        self.counts, self.violations, self.last_violation = counted
        return found

    def _check_action(self, action: Any) -> LimitViolation | None:
        """Return why an action is rejected as a whole; None if it is not."""
        if type(action) is not np.ndarray or action.dtype.newbyteorder("=") not in FLOAT_DTYPES:
            kind = action.dtype if type(action) is np.ndarray else type(action).__name__
            return LimitViolation(LimitRule.DTYPE, f"an action of {kind}", math.nan, math.nan)
        if action.shape != self._last.shape:
            return LimitViolation(
                LimitRule.SHAPE, f"the size of action {action.shape}", action.size, self._last.size
            )
        if not np.isfinite(action).all():
            return self._make_violation(LimitRule.FINITE, action, ~np.isfinite(action), self._last)
        limits = self.limits
        far = (action < limits.reject_below) | (action > limits.reject_above)
        if far.any():
            return self._make_violation(
                LimitRule.FAR,
                action,
                far,
                np.where(action > limits.reject_above, limits.reject_above, limits.reject_below),
            )
        return None

    def _make_violation(
        self, rule: LimitRule, action: np.ndarray, is_bad: np.ndarray, limit: np.ndarray
    ) -> LimitViolation:
        first = int(is_bad.argmax())
        return LimitViolation(rule, self.spec.action_names[first], float(action[first]), float(limit[first]))

    def _check_observation(self, obs: Observation | None, now: float) -> LimitViolation | None:
        """Return why the observation does not show the state of the robot; None if it does."""
        if obs is None:
            return LimitViolation(LimitRule.SENSED, "the number of observations", 0.0, 1.0)
        if obs.values.shape != (self.spec.obs_dim,):
            size, wanted = obs.values.size, self.spec.obs_dim
            return LimitViolation(
                LimitRule.SENSED, f"the size of observation {obs.values.shape}", size, wanted
            )
        fine = (obs.values >= self._obs_low) & (obs.values <= self._obs_high) | self._is_optional
        if not fine.all():
            first = int((~fine).argmax())
            value = float(obs.values[first])
            end = self._obs_high if value > self._obs_high[first] else self._obs_low
            limit = float(end[first])
            return LimitViolation(LimitRule.SENSED, self.spec.observation_names[first], value, limit)
        age = now - obs.stamp
        # Negated, so that a stamp of NaN is rejected too.
        if not age <= self._max_age:
            return LimitViolation(LimitRule.STALE, "the age of the observation in s", age, self._max_age)
        if not age >= -self._max_time_ahead:
            return LimitViolation(
                LimitRule.FUTURE, "the age of the observation in s", age, -self._max_time_ahead
            )
        if obs.stamp < self._last_stamp:
            return LimitViolation(
                LimitRule.SEQUENCE, "the stamp of the observation", obs.stamp, self._last_stamp
            )
        self._last_stamp = obs.stamp
        return None

    def _limit_by_sensors(self, obs: np.ndarray, violations: list[LimitViolation]) -> None:
        """Limit the action by the sensor readings: stop driving a joint that is too fast or cannot stop in range."""
        limits, column = self.limits, self._columns
        if "velocity" in column:
            velocity = obs[column["velocity"]]
            if (np.abs(velocity) > limits.max_velocity).any():
                rest = np.where(limits.is_servo, self._last, 0.0)
                upper = np.where(velocity > limits.max_velocity, rest, np.inf)
                lower = np.where(velocity < -limits.max_velocity, rest, -np.inf)
                self._clip_to_interval(LimitRule.VELOCITY, lower, upper, violations)
        if self._limits_lead:
            position = obs[column["position"]]
            self._clip_to_interval(
                LimitRule.EFFORT, position - limits.max_lead, position + limits.max_lead, violations
            )
        if self._limits_stopping:
            self._brake_joints(obs[column["position"]], obs[column["velocity"]], violations)

    def _brake_joints(
        self, position: np.ndarray, velocity: np.ndarray, violations: list[LimitViolation]
    ) -> None:
        """Drive a joint back if it would stop only outside its range."""
        limits = self.limits
        stop = position + velocity * np.abs(velocity) * limits.stopping_factor
        beyond = (stop > limits.stop_high) | (stop < limits.stop_low)
        if beyond.any():
            over, under = beyond & (velocity > 0), beyond & (velocity < 0)
            upper = np.where(over, np.where(limits.is_servo, position, limits.low), np.inf)
            lower = np.where(under, np.where(limits.is_servo, position, limits.high), -np.inf)
            self._clip_to_interval(LimitRule.STOPPING, lower, upper, violations)

    def _limit_by_history(self, violations: list[LimitViolation]) -> None:
        """Limit the action by the previous actions.

        These intervals always intersect, so the last rule keeps all rules before it."""
        limits, now = self.limits, self._last
        self._clip_to_interval(LimitRule.RANGE, limits.low, limits.high, violations)
        self._clip_to_interval(LimitRule.RATE, now - limits.max_step, now + limits.max_step, violations)
        if limits.has_acceleration:
            straight = now + self._last_step
            self._clip_to_interval(
                LimitRule.ACCELERATION,
                straight - limits.step_change,
                straight + limits.step_change,
                violations,
            )
            down, up = compute_furthest_step(
                np.array([now - limits.low, limits.high - now]), limits.step_change
            )
            self._clip_to_interval(LimitRule.BRAKING, now - down, now + up, violations)
        if self._workspace.has_box:
            self._limit_to_workspace(violations)

    def _limit_to_workspace(self, violations: list[LimitViolation]) -> None:
        """Slow down if the gripper would stop outside its box, and further outside than after slowing down."""
        slower = np.sign(self._last_step) * np.maximum(np.abs(self._last_step) - self.limits.step_change, 0.0)
        slower += self._last
        out = self._compute_workspace_excess(self._target)
        if out > 0 and out > (least := self._compute_workspace_excess(slower)):
            violations.append(
                LimitViolation(LimitRule.WORKSPACE, "the gripper's way out of its box in m", out, least)
            )
            np.copyto(self._target, slower)

    def _compute_workspace_excess(self, target: np.ndarray) -> float:
        """Compute how far outside its box the gripper would stop, in m."""
        moved = target - self._last
        way = np.sign(moved) * compute_braking_distance(np.abs(moved), self.limits.step_change)
        return self._workspace.compute_excess((target + way).tolist())

    def _clip_to_interval(
        self, rule: LimitRule, lower: np.ndarray, upper: np.ndarray, violations: list[LimitViolation]
    ) -> None:
        """Clip the action to an interval, and record the violation of `rule`."""
        limited = np.minimum(np.maximum(self._target, lower), upper)
        # Nearly always the action is unchanged, and comparing bytes takes a tenth of the time.
        if limited.tobytes() != self._target.tobytes() and (limited != self._target).any():
            worst = int(np.abs(limited - self._target).argmax())
            name = self.spec.action_names[worst]
            violations.append(LimitViolation(rule, name, float(self._target[worst]), float(limited[worst])))
            np.copyto(self._target, limited)

    def _finish_action(self, violations: list[LimitViolation]) -> GateResult:
        for violation in violations:
            self.counts[violation.rule] += 1
            self.last_violation = violation
        self.violations = tuple(violations)
        applied = self._target.astype(np.float32)
        # Rounding alone could leave the range here, by one unit in the last place.
        after = np.minimum(np.maximum(applied, self.limits.low), self.limits.high)
        np.subtract(after, self._last, out=self._last_step)
        np.copyto(self._last, after)
        return GateResult(applied=after.astype(np.float32), violations=self.violations)

    def status(self) -> dict[str, Any]:
        """Return the count of each rule and the last limit violation, as plain values."""
        return {
            "violations": {rule.value: count for rule, count in self.counts.items()},
            "last_violation": self.last_violation.to_dict() if self.last_violation else None,
        }
