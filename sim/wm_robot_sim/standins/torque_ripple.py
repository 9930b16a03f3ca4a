"""Torque ripple: cogging of motors and teeth of gears, a force that repeats with the angle of a joint."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from wm_robot_sim.standins.standin_part import StandInMotion, StepPart

if TYPE_CHECKING:
    from wm_robot_sim.plant import Plant

PERIODS = 20, 60
"""Periods in a turn, or in the range of a joint that slides; both ends included."""


@dataclass(frozen=True)
class TorqueRipple(StepPart):
    """Sine of the angle of each driven joint."""

    amplitude: Float[np.ndarray, "J"]
    """In N m (N)."""
    frequency: Float[np.ndarray, "J"]
    """In rad/rad (rad/m)."""
    phase: Float[np.ndarray, "J"]

    @classmethod
    def draw(
        cls,
        nominal: "Plant",
        rng: np.random.Generator,
        torque: Float[np.ndarray, "J"],
        share: tuple[float, float],
    ) -> "TorqueRipple":
        """Draw a ripple.

        Args:
            torque: Largest torque of each joint.
            share: Range of the amplitude, in the largest torque.
        """
        size, kinds = len(torque), [joint.kind for joint in nominal.spec.joints]
        turn = np.where([kind == "hinge" for kind in kinds], np.pi, nominal.effect_scale.half_range)
        return cls(
            amplitude=torque * nominal.effect_scale.has_motor * rng.uniform(*share, size),
            frequency=rng.integers(*PERIODS, size, endpoint=True) * np.pi / turn,
            phase=rng.uniform(-np.pi, np.pi, size),
        )

    def compute_force(self, motion: StandInMotion) -> Float[np.ndarray, "R J"]:
        return self.amplitude * np.sin(self.frequency * motion.position + self.phase)
