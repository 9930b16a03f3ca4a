"""Limits of a spec as read-only arrays."""

from dataclasses import dataclass, fields

import numpy as np

from wm_robot.spec import RobotSpec

REJECTION_WIDTHS = 10.0
"""Widths of its range that an action may be outside; beyond this it is rejected instead of limited."""
PLAUSIBLE_RANGE_WIDTHS, PLAUSIBLE_SPEED_RATIO = 1.0, 20.0
"""Bounds of a plausible reading: widths of its range outside, and multiples of its largest speed, effort or ordinary
reading. Beyond these the sensor is broken."""
ANGLE_ROUNDING = 1e-3
"""Distance beyond ±π to which rounding may bring an angle that wraps, in rad."""
UNLIMITED_STEP_CHANGE = 4.0
"""Largest change of a step without an acceleration in the spec, in rate limits: never active, as a step changes by at
most two."""


def compute_plausible_range(spec: RobotSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper bounds of plausible readings for each channel of an observation, `O` each."""
    low, high = np.array([joint.position for joint in spec.joints]).T
    # An angle that wraps has no other readings than those of its range.
    wraps = np.array([joint.wraps for joint in spec.joints])
    wide = np.where(wraps, ANGLE_ROUNDING, PLAUSIBLE_RANGE_WIDTHS * (high - low))
    fastest = PLAUSIBLE_SPEED_RATIO * np.array([joint.velocity for joint in spec.joints])
    strongest = PLAUSIBLE_SPEED_RATIO * np.array([joint.effort for joint in spec.joints])
    ends = {
        "position": (low - wide, high + wide),
        "velocity": (-fastest, fastest),
        "effort": (-strongest, strongest),
    }
    least, most = (np.concatenate([ends[name][end] for name in spec.interfaces]) for end in (0, 1))
    others = PLAUSIBLE_SPEED_RATIO * spec.layout.limits[len(least) :]
    return np.concatenate([least, -others]), np.concatenate([most, others])


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of each actuator, `A`: float64, in the unit of its action or of the joint that it moves."""

    low: np.ndarray
    high: np.ndarray
    reject_below: np.ndarray
    """An action below this, or above `reject_above`, is rejected."""
    reject_above: np.ndarray
    max_step: np.ndarray
    """Largest change in one control period."""
    step_change: np.ndarray
    """Largest change of the step from one period to the next."""
    has_acceleration: bool
    """Whether the spec has an acceleration limit for any actuator."""
    is_servo: np.ndarray
    """Which actuators take positions, bool."""
    joint_index: np.ndarray
    """Number of the joint that the actuator moves."""
    max_velocity: np.ndarray
    """Largest speed of the joint, in rad/s."""
    stop_low: np.ndarray
    """Lower end of the range in which the joint must stop, in rad; infinite without a deceleration."""
    stop_high: np.ndarray
    """Upper end of that range."""
    stopping_factor: np.ndarray
    """Stopping distance for each (rad/s)², in rad; 0 without a deceleration."""
    max_lead: np.ndarray
    """Largest distance of a servo's target from its joint, in rad; infinite without a stiffness."""

    @classmethod
    def from_spec(cls, spec: RobotSpec) -> "Limits":
        safety, dt = spec.safety, spec.dt
        joint = np.array([spec.joint_names.index(actuator.joint) for actuator in spec.actuators])
        joints = [spec.joints[number] for number in joint]
        servo = np.array([actuator.is_servo for actuator in spec.actuators])
        # Rounded to float32, which reaches the motors: rounded values stay within the limits.
        ends = np.array([each.position for each in joints], np.float32).astype(np.float64).T
        low = np.where(servo, np.maximum(spec.action_low, ends[0]), spec.action_low)
        high = np.where(servo, np.minimum(spec.action_high, ends[1]), spec.action_high)
        step = spec.action_step.astype(np.float64)
        given = [safety.acceleration.get(name, 0.0) for name in spec.action_names]
        slows = [safety.deceleration.get(each.name, np.inf) for each in joints]
        stiff = [safety.stiffness.get(name, 0.0) for name in spec.action_names]
        effort = np.array([each.effort for each in joints])
        wraps = np.array([each.wraps for each in joints])
        width = high - low
        made = cls(
            low=low,
            high=high,
            reject_below=low - REJECTION_WIDTHS * width,
            reject_above=high + REJECTION_WIDTHS * width,
            max_step=step,
            step_change=np.where(np.array(given) > 0, np.array(given) * dt**2, UNLIMITED_STEP_CHANGE * step),
            has_acceleration=any(given),
            is_servo=servo,
            joint_index=joint,
            max_velocity=np.array([each.velocity for each in joints]),
            stop_low=np.where(np.isfinite(slows) & ~wraps, ends[0], -np.inf),
            stop_high=np.where(np.isfinite(slows) & ~wraps, ends[1], np.inf),
            stopping_factor=0.5 / np.array(slows),
            max_lead=np.divide(effort, stiff, out=np.full(len(joint), np.inf), where=np.array(stiff) > 0),
        )
        for field in fields(made):
            value = getattr(made, field.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
        return made
