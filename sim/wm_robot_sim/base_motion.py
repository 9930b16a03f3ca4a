"""Base motion: pose and velocity of a floating base in a simulation, as channels of an observation."""

import mujoco
import numpy as np
from jaxtyping import Float

from wm_robot.errors import SpecError
from wm_robot.spec import FloatingBase
from wm_robot_sim.model_reader import list_names

NUM_POSITIONS, NUM_VELOCITIES = 7, 6
"""Numbers of a free joint in qpos and qvel."""
MAX_LIFTS = 20
CLEARANCE = 1e-3
"""Distance from the ground to which a base in it is lifted, in m."""


class BaseMotion:
    """Floating base of a compiled model: where its numbers are, and what they are as channels."""

    def __init__(self, base: FloatingBase, model: mujoco.MjModel):
        self.base = base
        bodies = list_names(model, mujoco.mjtObj.mjOBJ_BODY)
        joints = np.flatnonzero(model.jnt_type == int(mujoco.mjtJoint.mjJNT_FREE))
        found = [joint for joint in joints if bodies[model.jnt_bodyid[joint]] == base.body]
        if not found:
            raise SpecError(f"body '{base.body}' has no free joint in the model")
        self.body_id = int(model.jnt_bodyid[found[0]])
        self.qpos_ids = int(model.jnt_qposadr[found[0]]) + np.arange(NUM_POSITIONS)
        self.dof_ids = int(model.jnt_dofadr[found[0]]) + np.arange(NUM_VELOCITIES)

    def compute_channels(
        self, qpos: Float[np.ndarray, "*B 7"], qvel: Float[np.ndarray, "*B 6"]
    ) -> Float[np.ndarray, "*B 13"]:
        """Compute height, rotation, and the velocities in the frame of the base."""
        matrix = _compute_matrices(qpos[..., 3:])
        # A free joint has its linear velocity in the world and its angular velocity in its own frame.
        linear = np.einsum("...ij,...i->...j", matrix, qvel[..., :3])
        columns = np.concatenate([matrix[..., :, 0], matrix[..., :, 1]], -1)
        return np.concatenate([qpos[..., 2:3], columns, linear, qvel[..., 3:]], -1)

    def make_home_pose(self, qpos: Float[np.ndarray, "7"], heading: float = 0.0) -> Float[np.ndarray, "7"]:
        """Make the position and rotation at home, where `qpos` is horizontally.

        Args:
            heading: Rotation about the vertical, in rad.
        """
        half, turned = np.array([np.cos(heading / 2), 0, 0, np.sin(heading / 2)]), np.zeros(4)
        mujoco.mju_mulQuat(turned, half, np.array(self.base.rotation, float))
        return np.concatenate([qpos[:2], [self.base.height], turned])


def lift_out_of_ground(
    model: mujoco.MjModel, data: mujoco.MjData, qpos: Float[np.ndarray, "N"], height_id: int
) -> None:
    """Raise a base in `qpos` until no part of its robot is in the ground.

    Args:
        data: Working memory.
        height_id: Number of the base's height in `qpos`.
    """
    for _ in range(MAX_LIFTS):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_collision(model, data)
        contact = data.contact
        is_fixed = model.body_weldid[model.geom_bodyid[contact.geom]] == 0
        depth = -contact.dist[is_fixed.any(1)] if data.ncon else np.zeros(0)
        if depth.max(initial=0.0) <= 0:
            return
        qpos[height_id] += depth.max() + CLEARANCE


def _compute_matrices(quaternions: Float[np.ndarray, "*B 4"]) -> Float[np.ndarray, "*B 3 3"]:
    w, x, y, z = np.moveaxis(quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)
