"""Cable loom: a bundle of cables along the joints, which bends with them and rubs in its clips."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from wm_robot_sim.standins.standin_part import StandInMotion, StepPart

if TYPE_CHECKING:
    from wm_robot_sim.plant import Plant

REST = 0.3
"""Largest distance of a joint where its loop is relaxed from the middle, in half of its range."""
CLIP_FRICTION = 0.1, 0.3
"""Coefficient of friction of the cables in their clips."""
LARGEST_DRAG = 0.25
"""Largest drag, in the largest torque of a joint."""


@dataclass(frozen=True)
class CableLoom(StepPart):
    """Bending and drag of a loom on the joints that it crosses, from the base on."""

    is_crossed: Bool[np.ndarray, "J"]
    rest: Float[np.ndarray, "J"]
    """Where each loop is relaxed, in rad (m)."""
    half_range: Float[np.ndarray, "J"]
    """In rad (m)."""
    bending: Float[np.ndarray, "J"]
    """Torque of a loop that is bent by half of the joint's range, in N m (N)."""
    drag: Float[np.ndarray, "J"]
    """Drag where no loop is bent, in N m (N)."""
    largest_drag: Float[np.ndarray, "J"]
    clip_friction: float

    @classmethod
    def draw(
        cls,
        nominal: "Plant",
        rng: np.random.Generator,
        torque: Float[np.ndarray, "J"],
        bending: tuple[float, float],
        drag: tuple[float, float],
    ) -> "CableLoom":
        """Draw a loom.

        Args:
            torque: Largest torque of each joint.
            bending: Range of the torque of a loop, in the largest of the joint.
            drag: Range of the drag, in the same.
        """
        scale, size = nominal.effect_scale, len(torque)
        is_crossed = find_crossed_joints(nominal)
        own = torque * is_crossed
        return cls(
            is_crossed=is_crossed,
            rest=scale.middle + REST * scale.half_range * rng.uniform(-1, 1, size),
            half_range=scale.half_range,
            bending=own * rng.uniform(*bending, size),
            drag=own * rng.uniform(*drag, size),
            largest_drag=LARGEST_DRAG * own,
            clip_friction=rng.uniform(*CLIP_FRICTION),
        )

    def compute_force(self, motion: StandInMotion) -> Float[np.ndarray, "R J"]:
        bend = (motion.position - self.rest) / self.half_range
        return -self.bending * 0.5 * (bend + bend**3)

    def compute_friction(self, motion: StandInMotion) -> Float[np.ndarray, "R J"]:
        """Compute the drag: each bend of the loom presses it on its clips, and all joints behind feel it.

        Source: the capstan equation of Euler and Eytelwein.
        """
        bend = np.abs(motion.position - self.rest) * self.is_crossed
        grown = self.drag * np.exp(self.clip_friction * np.cumsum(bend, axis=-1))
        return np.minimum(grown, self.largest_drag)


def find_crossed_joints(nominal: "Plant") -> Bool[np.ndarray, "J"]:
    """Find the joints that cables can cross: with a motor, and with limits."""
    limited = nominal.model.jnt_limited[nominal.joint_ids].astype(bool)
    return nominal.effect_scale.has_motor & limited
