"""Workspace check: gripper position at the targets, and its distance outside the box. Plain floats: µs per pose."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from wm_robot.math.kinematics import IDENTITY, compute_rotation_matrix
from wm_robot.spec import RobotSpec

Point = tuple[float, float, float]


class _Move(NamedTuple):
    """Motion of a point by one joint of the chain."""

    actuator: int
    is_slide: bool
    zero: float
    axis: Point
    rotation: list[list[float]] | None
    """Rotation matrix of the joint's frame; None for none."""
    origin: Point


class Workspace:
    """Workspace box of a spec, with the kinematics of its gripper."""

    def __init__(self, spec: RobotSpec):
        """Raises nothing: a spec with a box has a chain of servos."""
        motor = {actuator.joint: number for number, actuator in enumerate(spec.actuators)}
        self._box = spec.safety.workspace
        self._tip_offset = spec.tip
        self._links: list[_Move] = []
        """Motions of the point, from the tip to the base."""
        for link in reversed(spec.chain) if self._box else ():
            turned = None if link.rotation == IDENTITY else compute_rotation_matrix(link.rotation).tolist()
            is_slide = link.kind == "slide"
            self._links.append(_Move(motor[link.joint], is_slide, link.zero, link.axis, turned, link.origin))

    @property
    def has_box(self) -> bool:
        return bool(self._box)

    def compute_tip(self, targets: Sequence[float]) -> Point:
        """Compute the position of the gripper with every servo at its target, in m.

        Args:
            targets: Target of each actuator, in rad (m).

        Source: Rodrigues' rotation formula.
        """
        x, y, z = self._tip_offset
        for number, is_slide, zero, (a, b, c), turned, (ox, oy, oz) in self._links:
            position = targets[number] - zero
            if is_slide:
                x, y, z = x + a * position, y + b * position, z + c * position
            else:
                cos, sin = math.cos(position), math.sin(position)
                along = (a * x + b * y + c * z) * (1 - cos)
                x, y, z = (
                    x * cos + (b * z - c * y) * sin + a * along,
                    y * cos + (c * x - a * z) * sin + b * along,
                    z * cos + (a * y - b * x) * sin + c * along,
                )
            if turned is not None:
                x, y, z = (row[0] * x + row[1] * y + row[2] * z for row in turned)
            x, y, z = x + ox, y + oy, z + oz
        return x, y, z

    def compute_excess(self, targets: Sequence[float]) -> float:
        """Compute how far outside the box the gripper would be, in m along the worst axis; 0 inside."""
        excess = (
            max(low - value, value - high)
            for value, (low, high) in zip(self.compute_tip(targets), self._box, strict=True)
        )
        return max(0.0, *excess)
