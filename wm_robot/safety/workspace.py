"""Workspace check: gripper position at the targets, and its distance outside the box. Plain floats: µs per pose."""

import math
from collections.abc import Sequence

from wm_robot.spec import RobotSpec

Point = tuple[float, float, float]


class Workspace:
    """Workspace box of a spec, with the kinematics of its gripper."""

    def __init__(self, spec: RobotSpec):
        """Raises nothing: a spec with a box has a chain of servos."""
        motor = {actuator.joint: number for number, actuator in enumerate(spec.actuators)}
        self._box = spec.safety.workspace
        self._tip_offset = spec.tip
        self._links = [(motor[k.joint], k.origin, k.axis) for k in reversed(spec.chain)] if self._box else []

    @property
    def has_box(self) -> bool:
        return bool(self._box)

    def compute_tip(self, targets: Sequence[float]) -> Point:
        """Compute the position of the gripper with every servo at its target, in m.

        Args:
            targets: Target of each actuator, in rad.

        Source: Rodrigues' rotation formula.
        """
        x, y, z = self._tip_offset
        for number, (ox, oy, oz), (a, b, c) in self._links:
            cos, sin = math.cos(targets[number]), math.sin(targets[number])
            along = (a * x + b * y + c * z) * (1 - cos)
            x, y, z = (
                x * cos + (b * z - c * y) * sin + a * along + ox,
                y * cos + (c * x - a * z) * sin + b * along + oy,
                z * cos + (a * y - b * x) * sin + c * along + oz,
            )
        return x, y, z

    def compute_excess(self, targets: Sequence[float]) -> float:
        """Compute how far outside the box the gripper would be, in m along the worst axis; 0 inside."""
        excess = (
            max(low - value, value - high)
            for value, (low, high) in zip(self.compute_tip(targets), self._box, strict=True)
        )
        return max(0.0, *excess)
