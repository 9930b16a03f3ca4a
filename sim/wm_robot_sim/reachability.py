"""Reachability: whether a robot in a world can hold its gripper at a point, by statics."""

import copy

import mujoco
import numpy as np
from jaxtyping import Bool, Float

from wm_robot.math.inverse_kinematics import TipKinematics
from wm_robot_sim.plant import Plant
from wm_robot_sim.worlds import World

NUM_STARTS, NUM_ITERATIONS = 24, 25
TIP_TOLERANCE, TORQUE_TOLERANCE = 0.005, 0.05
"""Accepted distance of the gripper from the point, in m, and missing torque, in N m (N)."""
DIFFERENCE = 1e-4
"""Change of a joint for the slopes of the torques, in rad (m)."""
MAX_STEP = 0.5
"""Largest change of a joint in one iteration, in rad (m)."""


class Reachability:
    """Reachability of points for one robot in one world.

    A point is reachable if there is a posture within the joint ranges with the gripper there, which the servos hold
    against gravity, at their gain, torque limit and range of commands in this world, with dry friction on their side.
    A joint whose motor is dead stays where it is. The way there, and contacts, do not count: what is called
    unreachable is so for every controller.
    """

    def __init__(self, plant: Plant, world: World):
        spec = plant.spec
        self._plant, self._model = plant, copy.copy(plant.model)
        self._data = mujoco.MjData(self._model)
        plant.apply_world(world, self._model, self._data)
        self._limits = spec.pose_limits
        self._chain = [spec.joint_names.index(link.joint) for link in spec.chain]
        self._kinematics = TipKinematics(spec.chain, spec.tip, self._limits[self._chain])
        motors, joint = plant.actuator_ids, plant.joint_index
        self._is_dead = np.zeros(len(spec.joints), bool)
        self._is_dead[joint[np.asarray(world.gain) == 0]] = True
        # Servos: torque is stiffness · (command - position), within the torque limits.
        self._stiffness = np.zeros(len(spec.joints))
        self._torque = np.tile([[-np.inf], [np.inf]], len(spec.joints))
        self._command = self._limits.T.copy()
        for motor, each in zip(motors, range(len(motors)), strict=True):
            if not spec.actuators[each].is_servo:
                continue
            at = joint[each]
            self._stiffness[at] = self._model.actuator_gainprm[motor, 0]
            if self._model.actuator_forcelimited[motor]:
                self._torque[:, at] = self._model.actuator_forcerange[motor]
            self._command[:, at] = spec.actuators[each].range
        self._friction = self._model.dof_frictionloss[plant.dof_ids]
        self._has_servo = self._stiffness > 0

    def is_reachable(
        self, point: Float[np.ndarray, "3"], position: Float[np.ndarray, "J"], seed: int = 0
    ) -> bool:
        """Return whether a point is reachable.

        Args:
            position: Joint positions of the robot: of dead motors, and the first start of the search.
            seed: Seed of the other starts.
        """
        low, high = self._limits.T
        drawn = np.random.default_rng(seed).uniform(low, high, (NUM_STARTS - 1, len(low)))
        rows = np.concatenate([np.clip(position, low, high)[None], drawn])
        rows[:, self._is_dead] = position[self._is_dead]
        damping = np.full(len(rows), 0.1)
        residual = self._compute_residual(rows, point)
        cost = (residual**2).sum(1)
        for _ in range(NUM_ITERATIONS):
            if cost.min() < 1:
                return True
            tried = np.clip(rows + self._compute_step(rows, residual, point, damping), low, high)
            tried[:, self._is_dead] = position[self._is_dead]
            found = self._compute_residual(tried, point)
            better = (found**2).sum(1) < cost
            rows, residual = (
                np.where(better[:, None], tried, rows),
                np.where(better[:, None], found, residual),
            )
            cost = (residual**2).sum(1)
            damping = np.clip(np.where(better, damping * 0.3, damping * 4), 1e-6, 1e4)
        return bool(cost.min() < 1)

    def _compute_step(
        self, rows: np.ndarray, residual: np.ndarray, point: np.ndarray, damping: np.ndarray
    ) -> np.ndarray:
        """Compute a Levenberg-Marquardt step within the joint ranges."""
        low, high = self._limits.T
        joints = rows.shape[1]
        change = np.where(
            rows[:, None] + DIFFERENCE * np.eye(joints) > high, -DIFFERENCE, DIFFERENCE
        ) * np.eye(joints)
        slopes = (self._compute_residual(rows[:, None] + change, point) - residual[:, None]) / change.sum(-1)[
            ..., None
        ]
        square, gradient = slopes @ slopes.swapaxes(1, 2), (slopes @ residual[..., None])[..., 0]
        square[:, range(joints), range(joints)] += damping[:, None] * (
            1 + square[:, range(joints), range(joints)]
        )
        fixed = (
            ((rows <= low + 1e-9) & (gradient > 0)) | ((rows >= high - 1e-9) & (gradient < 0)) | self._is_dead
        )
        square = np.where(fixed[:, :, None] | fixed[:, None], 0.0, square)
        square[:, range(joints), range(joints)] += fixed
        step = -np.linalg.solve(square, np.where(fixed, 0.0, gradient)[..., None])[..., 0]
        return np.asarray(step * np.minimum(1, MAX_STEP / np.abs(step).max(1, keepdims=True).clip(1e-9)))

    def _compute_residual(
        self, rows: Float[np.ndarray, "*N J"], point: np.ndarray
    ) -> Float[np.ndarray, "*N R"]:
        """Compute distance and missing torques, in units of their tolerances."""
        flat = rows[..., self._chain].reshape(-1, len(self._chain))
        tip = self._kinematics.compute_tip(flat)[0].reshape(*rows.shape[:-1], 3)
        return np.concatenate(
            [(tip - point) / TIP_TOLERANCE, self._compute_missing_torque(rows) / TORQUE_TOLERANCE], -1
        )

    def _compute_missing_torque(self, rows: np.ndarray) -> np.ndarray:
        """Compute by how much the torque that gravity asks for exceeds what a servo has."""
        asked = self._compute_gravity_torque(rows)
        least, most = (
            np.clip(self._stiffness * (command - rows), *self._torque) + sign * self._friction
            for command, sign in zip(self._command, (-1, 1), strict=True)
        )
        # The end of a joint's range bears what pushes against it.
        most = np.where(rows <= self._limits[:, 0] + 1e-6, np.inf, most)
        least = np.where(rows >= self._limits[:, 1] - 1e-6, -np.inf, least)
        missing = np.maximum(asked - most, 0) - np.maximum(least - asked, 0)
        return np.where(self._has_servo & ~self._is_dead, missing, 0.0)

    def _compute_gravity_torque(self, rows: np.ndarray) -> np.ndarray:
        model, data, plant = self._model, self._data, self._plant
        found, torque = np.empty(rows.shape), np.zeros(model.nv)
        data.qvel[:] = 0
        for row, out in zip(rows.reshape(-1, rows.shape[-1]), found.reshape(-1, rows.shape[-1]), strict=True):
            data.qpos[plant.qpos_ids] = row
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            mujoco.mj_comVel(model, data)
            mujoco.mj_rne(model, data, 0, torque)
            out[:] = torque[plant.dof_ids]
        return found


def find_reachable_steps(
    plant: Plant,
    world: World,
    points: Float[np.ndarray, "T 3"],
    positions: Float[np.ndarray, "T J"],
    *,
    every: int = 1,
) -> Bool[np.ndarray, "T"]:
    """Return for each step whether its point is reachable from its joint positions.

    Args:
        every: Number of steps for which one is examined.
    """
    reach = Reachability(plant, world)
    examined = [reach.is_reachable(points[t], positions[t]) for t in range(0, len(points), every)]
    return np.repeat(examined, every)[: len(points)]
