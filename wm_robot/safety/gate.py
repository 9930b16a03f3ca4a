"""Action gate: the last function before the motors. Its output can always be applied, for any input.

The order of the rules guarantees this. The limits from the sensor readings come first. The limits from the previous
actions come last, and their intervals are never empty: from every applied action, the next one can slow down.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from wm_robot.safety.braking import braking_distance, furthest_step
from wm_robot.safety.limit_violations import REFUSALS, Cut, Rule
from wm_robot.safety.limits import Limits, possible
from wm_robot.safety.workspace import Workspace
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation

FLOATS = frozenset(np.dtype(kind) for kind in ("f2", "f4", "f8"))
AHEAD = 0.5
"""Control periods that a stamp may be later than now: two clocks never agree exactly."""


class Gated(NamedTuple):
    """Result of the gate for one action."""

    applied: np.ndarray
    """`A`, float32: finite, within range and rate, and the motors can still be stopped in time."""
    cuts: tuple[Cut, ...]
    """Limit violations: at most one for each rule, the worst."""

    @property
    def refused(self) -> bool:
        """Whether the whole action was rejected."""
        return bool(self.cuts) and self.cuts[0].rule in REFUSALS


class Gate:
    """Action gate: limits actions to what a spec allows.

    It cannot be switched off, it never raises, and it counts its interventions."""

    def __init__(self, spec: RobotSpec, hold: np.ndarray):
        """Args:
        hold: Action in force at the start, `A`.
        """
        self.spec, self.limits = spec, Limits.of(spec)
        self.counts = dict.fromkeys(Rule, 0)
        """Number of actions that each rule changed."""
        self.cuts: tuple[Cut, ...] = ()
        """Limit violations of the last action."""
        self.last: Cut | None = None
        """Last limit violation of any action."""
        self._workspace = Workspace(spec)
        self._least, self._most = possible(spec)
        interfaces = {name: k * len(spec.joints) for k, name in enumerate(spec.interfaces)}
        self._column = {name: first + self.limits.joint for name, first in interfaces.items()}
        self._max_age = spec.safety.max_age * spec.dt
        self._ahead = AHEAD * spec.dt
        self._stops = bool(self.limits.braking.any()) and len(interfaces) == 2
        self._leads = bool(np.isfinite(self.limits.lead).any()) and "position" in interfaces
        self._wanted = np.zeros(spec.action_dim)
        self.begin(hold)

    def begin(self, hold: np.ndarray) -> None:
        """Restart from an action in force, at rest, independent of all actions before.

        Args:
            hold: `A`; values outside the range are clipped, values that are not finite become the middle.
        """
        limits = self.limits
        middle = 0.5 * (limits.low + limits.high)
        hold = np.where(np.isfinite(hold), hold, middle)
        self._now = np.clip(hold, limits.low, limits.high).astype(np.float32).astype(np.float64)
        self._moved = np.zeros_like(self._now)
        self._stamp = -math.inf

    def clear_cuts(self) -> None:
        """Start a period: clear the limit violations of the last action."""
        self.cuts = ()

    @property
    def hold(self) -> np.ndarray:
        """Action that was applied last, `A`."""
        return self._now.astype(np.float32)

    def __call__(self, action: Any, obs: Observation | None, *, now: float) -> Gated:
        """Limit an action to what may reach the motors in the coming period.

        Args:
            action: Any object; only an array of `A` floats can be applied.
            obs: The newest observation.
            now: In s, on the clock of the observation's stamp.

        Returns:
            The applied action, and its limit violations. For a rejected action a servo holds its present
            target, and a motor is released.
        """
        cuts: list[Cut] = []
        refused = self._refusal(action) or self._doubt(obs, now)
        if refused:
            cuts.append(refused)
            np.copyto(self._wanted, np.where(self.limits.servo, self._now, 0.0))
        else:
            np.copyto(self._wanted, action)
        if obs is not None and not refused:
            self._narrow(obs.values, cuts)
        self._keep(cuts)
        return self._let_through(cuts)

    def _refusal(self, action: Any) -> Cut | None:
        """Return why an action is rejected as a whole; None if it is not."""
        if type(action) is not np.ndarray or action.dtype.newbyteorder("=") not in FLOATS:
            kind = action.dtype if type(action) is np.ndarray else type(action).__name__
            return Cut(Rule.DTYPE, f"an action of {kind}", math.nan, math.nan)
        if action.shape != self._now.shape:
            return Cut(Rule.SHAPE, f"the size of action {action.shape}", action.size, self._now.size)
        if not np.isfinite(action).all():
            return self._named(Rule.FINITE, action, ~np.isfinite(action), self._now)
        limits = self.limits
        far = (action < limits.lowest) | (action > limits.highest)
        if far.any():
            return self._named(Rule.FAR, action, far, np.where(action > 0, limits.highest, limits.lowest))
        return None

    def _named(self, rule: Rule, action: np.ndarray, bad: np.ndarray, limit: np.ndarray) -> Cut:
        first = int(bad.argmax())
        return Cut(rule, self.spec.action_names[first], float(action[first]), float(limit[first]))

    def _doubt(self, obs: Observation | None, now: float) -> Cut | None:
        """Return why the observation does not show the state of the robot; None if it does."""
        if obs is None:
            return Cut(Rule.SENSED, "the number of observations", 0.0, 1.0)
        if obs.values.shape != (self.spec.obs_dim,):
            size, wanted = obs.values.size, self.spec.obs_dim
            return Cut(Rule.SENSED, f"the size of observation {obs.values.shape}", size, wanted)
        fine = (obs.values >= self._least) & (obs.values <= self._most)
        if not fine.all():
            first = int((~fine).argmax())
            value, limit = (
                float(obs.values[first]),
                float((self._most if obs.values[first] > 0 else self._least)[first]),
            )
            return Cut(Rule.SENSED, self.spec.observation_names[first], value, limit)
        age = now - obs.stamp
        # Negated, so that a stamp of NaN is rejected too.
        if not age <= self._max_age:
            return Cut(Rule.STALE, "the age of the observation in s", age, self._max_age)
        if not age >= -self._ahead:
            return Cut(Rule.FUTURE, "the age of the observation in s", age, -self._ahead)
        if obs.stamp < self._stamp:
            return Cut(Rule.SEQUENCE, "the stamp of the observation", obs.stamp, self._stamp)
        self._stamp = obs.stamp
        return None

    def _narrow(self, sensed: np.ndarray, cuts: list[Cut]) -> None:
        """Limit the action by the sensor readings: stop driving a joint that is too fast or cannot stop in range."""
        limits, column = self.limits, self._column
        if "velocity" in column:
            velocity = sensed[column["velocity"]]
            if (np.abs(velocity) > limits.velocity).any():
                rest = np.where(limits.servo, self._now, 0.0)
                upper = np.where(velocity > limits.velocity, rest, np.inf)
                lower = np.where(velocity < -limits.velocity, rest, -np.inf)
                self._limit(Rule.VELOCITY, lower, upper, cuts)
        if self._leads:
            position = sensed[column["position"]]
            self._limit(Rule.EFFORT, position - limits.lead, position + limits.lead, cuts)
        if self._stops:
            self._brake(sensed[column["position"]], sensed[column["velocity"]], cuts)

    def _brake(self, position: np.ndarray, velocity: np.ndarray, cuts: list[Cut]) -> None:
        """Drive a joint back if it would stop only outside its range."""
        limits = self.limits
        stop = position + velocity * np.abs(velocity) * limits.braking
        beyond = (stop > limits.last) | (stop < limits.first)
        if beyond.any():
            over, under = beyond & (velocity > 0), beyond & (velocity < 0)
            upper = np.where(over, np.where(limits.servo, position, limits.low), np.inf)
            lower = np.where(under, np.where(limits.servo, position, limits.high), -np.inf)
            self._limit(Rule.STOPPING, lower, upper, cuts)

    def _keep(self, cuts: list[Cut]) -> None:
        """Limit the action by the previous actions.

        These intervals always intersect, so the last rule keeps all rules before it."""
        limits, now = self.limits, self._now
        self._limit(Rule.RANGE, limits.low, limits.high, cuts)
        self._limit(Rule.RATE, now - limits.step, now + limits.step, cuts)
        if limits.accelerates:
            straight = now + self._moved
            self._limit(Rule.ACCELERATION, straight - limits.change, straight + limits.change, cuts)
            down, up = furthest_step(np.array([now - limits.low, limits.high - now]), limits.change)
            self._limit(Rule.BRAKING, now - down, now + up, cuts)
        if self._workspace.exists:
            self._stay_inside(cuts)

    def _stay_inside(self, cuts: list[Cut]) -> None:
        """Slow down if the gripper would stop outside its box, and further outside than after slowing down."""
        slower = np.sign(self._moved) * np.maximum(np.abs(self._moved) - self.limits.change, 0.0)
        slower += self._now
        out = self._outside_after(self._wanted)
        if out > 0 and out > (least := self._outside_after(slower)):
            cuts.append(Cut(Rule.WORKSPACE, "the gripper's way out of its box in m", out, least))
            np.copyto(self._wanted, slower)

    def _outside_after(self, target: np.ndarray) -> float:
        """Compute how far outside its box the gripper would stop, in m."""
        moved = target - self._now
        way = np.sign(moved) * braking_distance(np.abs(moved), self.limits.change)
        return self._workspace.outside((target + way).tolist())

    def _limit(self, rule: Rule, lower: np.ndarray, upper: np.ndarray, cuts: list[Cut]) -> None:
        """Clip the action to an interval, and record the violation of `rule`."""
        limited = np.minimum(np.maximum(self._wanted, lower), upper)
        # Nearly always the action is unchanged, and comparing bytes takes a tenth of the time.
        if limited.tobytes() != self._wanted.tobytes() and (limited != self._wanted).any():
            worst = int(np.abs(limited - self._wanted).argmax())
            name = self.spec.action_names[worst]
            cuts.append(Cut(rule, name, float(self._wanted[worst]), float(limited[worst])))
            np.copyto(self._wanted, limited)

    def _let_through(self, cuts: list[Cut]) -> Gated:
        for cut in cuts:
            self.counts[cut.rule] += 1
            self.last = cut
        self.cuts = tuple(cuts)
        applied = self._wanted.astype(np.float32)
        # Rounding alone could leave the range here, by one unit in the last place.
        after = np.minimum(np.maximum(applied, self.limits.low), self.limits.high)
        np.subtract(after, self._now, out=self._moved)
        np.copyto(self._now, after)
        return Gated(applied=after.astype(np.float32), cuts=self.cuts)

    def status(self) -> dict[str, Any]:
        """Return the count of each rule and the last limit violation, as plain values."""
        return {
            "cuts": {rule.value: count for rule, count in self.counts.items()},
            "last": self.last.to_dict() if self.last else None,
        }
