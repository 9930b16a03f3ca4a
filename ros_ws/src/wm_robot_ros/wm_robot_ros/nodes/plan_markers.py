"""Plan markers: the predicted path of the gripper with its uncertainty, from the predicted observations of a plan."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from wm_robot.errors import SpecError
from wm_robot.math.kinematics import compute_tip_position
from wm_robot.spec import RobotSpec

FINITE_DIFFERENCE = 1e-4
"""Step of an angle for finite differences, in rad."""


class GripperPath(NamedTuple):
    """Predicted path of the gripper in the frame of the base, one row per step."""

    tip: Float[np.ndarray, "H 3"]
    """Position, in m."""
    covariance: Float[np.ndarray, "H 3 3"]
    """Covariance of the position, in m²."""
    rotation: Float[np.ndarray, "H 3 3"]
    """Rotation of the gripper; its columns are the axes of the gripper."""


def has_path(spec: RobotSpec) -> bool:
    """Whether a robot has a gripper and senses the positions of its joints."""
    return bool(spec.chain) and "position" in spec.interfaces


def compute_gripper_path(
    spec: RobotSpec, mean: Float[np.ndarray, "H O"], deviation: Float[np.ndarray, "H O"]
) -> GripperPath:
    """Compute the path of the gripper through predicted observations.

    Args:
        mean: Predicted mean, in sensor units and in the order of the spec.
        deviation: Standard deviation of each channel; joints are assumed to be independent.

    Raises:
        SpecError: If the robot has no gripper, or does not sense the positions of its joints.
    """
    if not has_path(spec):
        raise SpecError(f"robot '{spec.name}' has no chain to a gripper or no position sensors")
    columns = [spec.observation_names.index(f"{link.joint}/position") for link in spec.chain]
    angles, spread = mean[:, columns].astype(np.float64), deviation[:, columns].astype(np.float64)
    tip = _compute_tip(spec, angles, spec.tip)
    slope = np.stack(
        [
            (_compute_tip(spec, angles + FINITE_DIFFERENCE * row, spec.tip) - tip) / FINITE_DIFFERENCE
            for row in np.eye(len(columns))
        ],
        2,
    )
    covariance = np.einsum("hik,hk,hjk->hij", slope, spread**2, slope)
    # The displacement by one metre along each axis of the gripper gives that axis.
    rotation = np.stack([_compute_tip(spec, angles, np.add(spec.tip, axis)) - tip for axis in np.eye(3)], 2)
    return GripperPath(tip, covariance, rotation)


def compute_ellipsoid(covariance: Float[np.ndarray, "3 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Compute the deviations along the axes of an ellipsoid, in m, and a rotation whose columns are these axes."""
    values, axes = np.linalg.eigh(covariance)
    if np.linalg.det(axes) < 0:
        axes[:, 0] *= -1
    return np.sqrt(np.clip(values, 0.0, None)), axes


def _compute_tip(
    spec: RobotSpec, angles: np.ndarray, tip: np.ndarray | tuple[float, float, float]
) -> np.ndarray:
    return compute_tip_position(angles, spec.chain, [float(x) for x in tip])
