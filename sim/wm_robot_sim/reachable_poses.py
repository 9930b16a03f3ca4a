"""Reachable poses: random initial poses of a robot, and targets inside its workspace."""

import numpy as np

from wm_robot.errors import SpecError
from wm_robot.math.kinematics import compute_tip_position
from wm_robot.spec import RobotSpec
from wm_robot_sim.world_ranges import WorldRanges

MAX_TRIES = 24
DEFAULT_SPREAD = 1 / 3
"""Largest distance of a reachable pose from the middle, in widths of the joint's range."""


def sample_reachable_poses(spec: RobotSpec, rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw random joint poses, `count J` in rad (m), with the gripper above the ground.

    They cover the range of each joint that its servos reach; see `RobotSpec.pose_limits`. A joint that wraps may be
    beyond ±π.
    """
    ranges = WorldRanges.from_spec(spec)
    limits = spec.pose_limits
    center = np.array(ranges.pose_center or limits.mean(1))
    spread = np.array(ranges.pose_spread or np.diff(limits)[:, 0] * DEFAULT_SPREAD)
    wraps = np.array([joint.wraps for joint in spec.joints])[:, None]
    limits = np.where(wraps, [-np.inf, np.inf], limits)
    center, spread = _cut_to_limits(center, spread, limits)
    poses = center + spread * rng.uniform(-1, 1, (count, MAX_TRIES, len(limits)))
    # Rounding only: the cut range is within the limits.
    poses = np.clip(poses, limits[:, 0], limits[:, 1])
    # The tip of a floating base is in the frame of the base, which says nothing of the ground.
    if not spec.chain or spec.base:
        return poses[:, 0]
    # The first clear try of each pose; the center pose if none is clear.
    poses[:, -1] = center
    clear = compute_gripper_positions(spec, poses)[..., 2] >= ranges.clearance
    clear[:, -1] = True
    return poses[np.arange(count), clear.argmax(1)]


def _cut_to_limits(
    center: np.ndarray, spread: np.ndarray, limits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cut the ranges `center` ± `spread` at the limits, so that no pose has to be clipped to a limit."""
    low, high = np.maximum(center - spread, limits[:, 0]), np.minimum(center + spread, limits[:, 1])
    is_cut = (low > center - spread) | (high < center + spread)
    return np.where(is_cut, (low + high) / 2, center), np.where(is_cut, (high - low) / 2, spread)


def compute_gripper_positions(spec: RobotSpec, poses: np.ndarray) -> np.ndarray:
    """Compute the gripper position of joint poses `… J`, as `… 3` in m.

    Raises:
        SpecError: If the spec has no kinematic chain.
    """
    if not spec.chain:
        raise SpecError(f"robot '{spec.name}' has no chain in its spec; a gripper position needs one")
    # Not `wm_robot.tasks.compute_gripper_position`: that reads an observation, which may lack positions.
    columns = [spec.joint_names.index(link.joint) for link in spec.chain]
    return compute_tip_position(poses[..., columns], spec.chain, spec.tip)
