"""Scale of effects: the forces and lengths that are ordinary for a robot, so that a strength of 1 suits any robot."""

from functools import cached_property

import mujoco
import numpy as np
from jaxtyping import Float

from wm_robot.spec import RobotSpec

SWING_TIME = 0.3
"""Time in which an ordinary force moves a joint from rest through a quarter of its range, in s."""
SERVO_ERROR = 0.05
"""Ordinary error of a servo, as a share of half of the range of its joint."""
LONGEST_RANGE = 2 * np.pi
"""Range of a joint that counts, in rad (m)."""
MIN_REACH = 0.1
"""Least reach of a robot, in m."""


class EffectScale:
    """Ordinary forces, inertias and lengths of a robot at home."""

    def __init__(self, spec: RobotSpec, model: mujoco.MjModel, joint_ids: np.ndarray):
        self._model = model
        moved = {actuator.joint for actuator in spec.actuators}
        self.has_motor = np.array([name in moved for name in spec.joint_names])
        """Which joints a motor moves, bool `J`."""
        ranges = np.array([joint.position for joint in spec.joints], np.float64)
        self.middle: Float[np.ndarray, J] = ranges.mean(-1)
        """Middle of the range of each joint, in rad (m)."""
        self.half_range: Float[np.ndarray, J] = np.minimum(np.ptp(ranges, axis=-1), LONGEST_RANGE) / 2
        """In rad (m)."""
        self.speed: Float[np.ndarray, J] = np.array([joint.velocity for joint in spec.joints])
        """Largest speed of each joint, in rad/s (m/s)."""
        self._dofs = model.jnt_dofadr[joint_ids]
        self._bodies = model.jnt_bodyid[joint_ids]
        self._data = mujoco.MjData(model)
        self._data.qpos[model.jnt_qposadr[joint_ids]] = spec.home_position
        mujoco.mj_forward(model, self._data)

    @cached_property
    def inertia(self) -> Float[np.ndarray, "J"]:
        """Inertia that a motor feels at each joint, in kg m² (kg); 0 where there is no motor."""
        full = np.zeros((self._model.nv, self._model.nv))
        for row, unit in zip(full, np.eye(self._model.nv), strict=True):
            mujoco.mj_mulM(self._model, self._data, row, unit)
        return full.diagonal()[self._dofs] * self.has_motor

    @cached_property
    def force(self) -> Float[np.ndarray, "J"]:
        """Force on each joint in an ordinary swing, with its weight and the error of its servo, in N m (N).

        0 where there is no motor: a force on the pole of a cart, or on a base, is another thing.
        """
        weight = np.abs(self._data.qfrc_bias[self._dofs])
        swing = self.inertia * self.half_range / SWING_TIME**2
        servo = self._compute_stiffness() * SERVO_ERROR * self.half_range
        return (weight + swing + servo) * self.has_motor

    def _compute_stiffness(self) -> Float[np.ndarray, "J"]:
        """Compute the stiffness that servos give to each joint, in N m/rad (N/m)."""
        model = self._model
        stiffness = np.zeros(len(self._dofs))
        joint = int(mujoco.mjtTrn.mjTRN_JOINT)
        for number in np.flatnonzero(model.actuator_trntype == joint):
            own = model.jnt_dofadr[model.actuator_trnid[number, 0]] == self._dofs
            stiffness[own] += (
                max(0.0, -model.actuator_biasprm[number, 1]) * model.actuator_gear[number, 0] ** 2
            )
        return stiffness

    @cached_property
    def moving_mass(self) -> float:
        """Mass of all that moves, in kg."""
        return float(self._model.body_mass[self._model.body_weldid > 0].sum())

    @cached_property
    def last_body(self) -> int:
        """Body of the last link: that with the most bodies between it and the ground."""
        return int(max(self._bodies, key=lambda body: len(self._list_parents(body))))

    @cached_property
    def reach(self) -> float:
        """Distance along the links from the first joint to the middle of the last link, in m."""
        links = self._list_parents(self.last_body)[:-1]
        length = np.linalg.norm(self._model.body_pos[links], axis=-1).sum()
        return max(MIN_REACH, float(length + np.linalg.norm(self._model.body_ipos[self.last_body])))

    def _list_parents(self, body: int) -> list[int]:
        """List a body and the bodies between it and the ground, the ground left out."""
        found = []
        while body:
            found.append(int(body))
            body = self._model.body_parentid[body]
        return found
