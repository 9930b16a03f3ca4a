"""Reachable poses: random initial poses of a robot, and targets inside its workspace."""

import numpy as np

from wm_robot.spec import RobotSpec
from wm_robot.tasks import compute_gripper_position
from wm_robot_sim.worlds import WorldRanges

MAX_TRIES = 24


def sample_reachable_poses(spec: RobotSpec, rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw random joint poses, `count J` in rad (m), with the gripper above the ground."""
    ranges = WorldRanges.from_spec(spec)
    limits = np.array([joint.position for joint in spec.joints])
    center = np.array(ranges.pose_center or np.zeros(len(limits)))
    spread = np.array(ranges.pose_spread or (limits[:, 1] - limits[:, 0]) / 3)
    poses = center + spread * rng.uniform(-1, 1, (count, MAX_TRIES, len(limits)))
    poses = np.clip(poses, limits[:, 0], limits[:, 1])
    if not spec.chain:
        return poses[:, 0]
    # The first clear try of each pose; the center pose if none is clear.
    poses[:, -1] = center
    clear = compute_gripper_position(spec, poses)[..., 2] >= ranges.clearance
    clear[:, -1] = True
    return poses[np.arange(count), clear.argmax(1)]


def compute_gripper_positions(spec: RobotSpec, poses: np.ndarray) -> np.ndarray:
    """Compute the gripper position of joint poses `… J`, as `… 3` in m."""
    return compute_gripper_position(spec, poses)
