"""Limit violations: which rule of the action gate changed an action, and by how much."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any


class LimitRule(str, Enum):
    """Rules of the action gate. A rejection drops the whole action; any other rule limits it."""

    DTYPE = "dtype"
    """Not an array of floats."""
    SHAPE = "shape"
    """Not one number for each actuator."""
    FINITE = "finite"
    """NaN or infinite."""
    FAR = "far"
    """So far outside the range that it must be an error of the controller."""
    SENSED = "sensed"
    """The observation is missing, not finite, of another shape, or physically impossible for the robot."""
    STALE = "stale"
    """The observation is too old."""
    SEQUENCE = "sequence"
    """The observation is older than the previous one."""
    FUTURE = "future"
    """The observation has a stamp in the future."""
    VELOCITY = "velocity"
    """The joint exceeds its speed limit; it is not driven further in that direction."""
    EFFORT = "effort"
    """The target is so far ahead of the joint that the servo would exceed its effort limit."""
    STOPPING = "stopping"
    """The joint would stop only outside its range; it is braked."""
    RANGE = "range"
    RATE = "rate"
    ACCELERATION = "acceleration"
    BRAKING = "braking"
    """The target could no longer be stopped within its range."""
    WORKSPACE = "workspace"
    """The target would move the gripper out of its box."""


ACTION_RULES = frozenset({LimitRule.DTYPE, LimitRule.SHAPE, LimitRule.FINITE, LimitRule.FAR})
OBSERVATION_RULES = frozenset({LimitRule.SENSED, LimitRule.STALE, LimitRule.SEQUENCE, LimitRule.FUTURE})
REJECTION_RULES = ACTION_RULES | OBSERVATION_RULES
INTERVENTION_RULES = frozenset(LimitRule) - {LimitRule.RANGE, LimitRule.RATE, LimitRule.ACCELERATION}
"""Rules whose violation is a safety intervention. A controller reaches the other limits in normal operation: the
limited action was applied, and is learned from."""


@dataclass(frozen=True)
class LimitViolation:
    """Violation of one rule by one action."""

    rule: LimitRule
    quantity: str
    """The actuator that was limited most, or another quantity that was wrong."""
    value: float
    """Value before the rule; NaN where it is no number."""
    limit: float
    """Value after the rule; NaN where there is none."""

    def __str__(self) -> str:
        if self.rule in REJECTION_RULES:
            return f"{self.rule.value}: {self.quantity} is {self.value:.6g}, limit {self.limit:.6g}; holding"
        return f"{self.rule.value}: {self.quantity} {self.value:.6g} became {self.limit:.6g}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; a number that is not finite becomes a text."""
        numbers = {"value": self.value, "limit": self.limit}
        return {"rule": self.rule.value, "quantity": self.quantity} | {
            name: number if math.isfinite(number) else str(number) for name, number in numbers.items()
        }
