"""Safety limits of a robot."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wm_robot.spec.checks import build_section, require_valid


@dataclass(frozen=True, kw_only=True)
class Safety:
    """Safety limits of a robot beyond range and rate, for the gate, the supervisor and the guard.

    They are not part of the digest. They only make actions smaller, and the model learns from the applied action.
    """

    acceleration: Mapping[str, float] = field(default_factory=dict)
    """Actuator → fastest change of its action's speed, in units/s²; not listed: limited by its rate only."""
    deceleration: Mapping[str, float] = field(default_factory=dict)
    """Joint → guaranteed braking of its motor, in rad/s² (m/s²); not listed: no stopping distance is computed."""
    stiffness: Mapping[str, float] = field(default_factory=dict)
    """Servo → effort for each rad between target and position, in N m; not listed: any distance is allowed."""
    workspace: tuple[tuple[float, float], ...] = ()
    """Allowed gripper positions: ranges of x, y and z in the frame of the base, in m; empty: anywhere."""
    home: Mapping[str, float] = field(default_factory=dict)
    """Joint → rest position, in rad (m); not listed: the middle of its range."""
    max_age_periods: float = 3.0
    """Largest age of the observation of an accepted action, in control periods."""
    surprise_threshold: float = 100.0
    """Negative log-likelihood of an observation above which it counts as a surprise, in nats per channel."""
    surprise_count_window: tuple[int, int] = (3, 5)
    """Number of surprises in a number of steps that disables the learned controller."""
    missed_deadline_count_window: tuple[int, int] = (3, 5)
    """Number of missed deadlines in a number of steps that disables the learned controller."""
    consecutive_violation_limit: int = 50
    """Number of consecutive limited actions that disables the learned controller."""
    heartbeat_timeout: float = 0.03
    """Longest time without progress of the control loop, in s."""
    validation_hours: float = 8.0
    """Hours of lifetime for which a validation record counts for the descendants of its snapshot."""

    def __post_init__(self) -> None:
        for kind in ("acceleration", "deceleration", "stiffness"):
            for name, value in getattr(self, kind).items():
                require_valid(
                    0 < value < math.inf, f"safety.{kind} of '{name}' is {value}", "above 0 and finite"
                )
        for name in (
            "max_age_periods",
            "surprise_threshold",
            "consecutive_violation_limit",
            "heartbeat_timeout",
            "validation_hours",
        ):
            value = getattr(self, name)
            require_valid(0 < value < math.inf, f"safety.{name} is {value}", "above 0 and finite")
        for name in ("surprise_count_window", "missed_deadline_count_window"):
            pair = getattr(self, name)
            fits = len(pair) == 2 and 0 < pair[0] <= pair[1]
            require_valid(fits, f"safety.{name} is {pair}", "a count and a number of steps, as [3, 5]")
        box = self.workspace
        fits = len(box) in (0, 3) and all(len(side) == 2 and side[0] < side[1] for side in box)
        require_valid(fits, f"safety.workspace is {box}", "three ranges, low < high")


def build_safety(values: Mapping[str, Any]) -> Safety:
    box = tuple(tuple(side) for side in values.get("workspace", ()))
    safety: Safety = build_section(Safety, {**values, "workspace": box})
    return safety
