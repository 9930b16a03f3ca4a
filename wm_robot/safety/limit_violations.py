"""Which rule changed an action, and how often each did."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Rule(str, Enum):
    """The gate's rules. A refusal drops the whole action; any other makes it smaller."""

    DTYPE = "dtype"
    """Not an array of floats."""
    SHAPE = "shape"
    """Not one number for each actuator."""
    FINITE = "finite"
    """NaN or infinite."""
    FAR = "far"
    """So far outside the range that no controller can have meant it."""
    SENSED = "sensed"
    """There is no observation, or it is not finite, of another shape, or nothing that the robot can do."""
    STALE = "stale"
    """The observation is too old."""
    SEQUENCE = "sequence"
    """The observation is older than the one before."""
    FUTURE = "future"
    """The observation is of later than now."""
    VELOCITY = "velocity"
    """The joint moves faster than it may; it is not driven further that way."""
    EFFORT = "effort"
    """The target is so far ahead of the joint that the servo would give more than it may."""
    STOPPING = "stopping"
    """The joint would come to a stop only beyond its range; it is braked."""
    RANGE = "range"
    RATE = "rate"
    ACCELERATION = "acceleration"
    BRAKING = "braking"
    """The target could no longer be stopped within its range."""
    WORKSPACE = "workspace"
    """The gripper would be told to leave its box."""


OF_ACTION = frozenset({Rule.DTYPE, Rule.SHAPE, Rule.FINITE, Rule.FAR})
OF_OBSERVATION = frozenset({Rule.SENSED, Rule.STALE, Rule.SEQUENCE, Rule.FUTURE})
REFUSALS = OF_ACTION | OF_OBSERVATION
CONTACT = frozenset(Rule) - {Rule.RANGE, Rule.RATE, Rule.ACCELERATION}
"""Where the gate stood between robot and controller. The others are limits of the action that a controller meets
every day; what they left of it was applied, and is learned from."""


@dataclass(frozen=True)
class Cut:
    """What one rule did to one action."""

    rule: Rule
    what: str
    """The actuator that was cut most, or what else was wrong."""
    value: float
    """As it was; NaN where it is no number."""
    limit: float
    """What the rule left of it; NaN where nothing."""

    def __str__(self) -> str:
        if self.rule in REFUSALS:
            return f"{self.rule.value}: {self.what} is {self.value:.6g}, limit {self.limit:.6g}; holding"
        return f"{self.rule.value}: {self.what} {self.value:.6g} became {self.limit:.6g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; a number that is not finite is a word."""
        numbers = {"value": self.value, "limit": self.limit}
        return {"rule": self.rule.value, "what": self.what} | {
            name: number if math.isfinite(number) else str(number) for name, number in numbers.items()
        }
