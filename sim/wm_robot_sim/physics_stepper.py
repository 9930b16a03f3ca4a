"""Physics stepper: runs the physics of a batch, with the effects that act at every physics step."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
from jaxtyping import Float, Int
from mujoco import rollout as mujoco_rollout

from wm_robot_sim.effects.active_effects import ActiveEffects
from wm_robot_sim.effects.step_effects import Motion
from wm_robot_sim.standins.active_standin import ActiveStandIn
from wm_robot_sim.worlds import World

if TYPE_CHECKING:
    from wm_robot_sim.plant import Plant

WITH_FORCE = int(mujoco.mjtState.mjSTATE_CTRL | mujoco.mjtState.mjSTATE_QFRC_APPLIED)


class PhysicsStepper:
    """Physics stepper of `B` robots, each with a model of its own.

    Without effects a rollout of many physics steps is one call of MuJoCo.
    """

    def __init__(self, plant: "Plant", num_robots: int, models: Sequence[mujoco.MjModel], num_threads: int):
        model = plant.model
        self._plant, self._models, self._num_robots = plant, list(models), num_robots
        self._data = [mujoco.MjData(model) for _ in range(num_threads)]
        self._pool = mujoco_rollout.Rollout(nthread=num_threads if num_threads > 1 else 0)
        self._qpos, self._qvel = 1 + plant.qpos_ids, 1 + model.nq + plant.dof_ids
        self._effects = ActiveEffects(plant, num_robots)
        self._standin = ActiveStandIn(plant, models)
        self._motor_force = np.zeros((num_robots, len(plant.spec.joints)))
        self._lag = np.zeros((num_robots, 1), int)
        self._past: tuple[np.ndarray, np.ndarray] | None = None
        """Physical states and efforts of the last physics steps, for readings that lag; None: no reading does."""
        self._buffers = np.zeros((num_robots, 0, 0)), np.zeros((num_robots, 0, 0))

    def set_row(self, row: int, world: World, *, lag: int) -> None:
        """Set the effects of a row, whose model has the numbers of the world already.

        Args:
            lag: Further age of its readings, in physics steps.
        """
        self._effects.set_row(row, world.effects)
        if self._standin.is_active:
            self._standin.set_row(row, self._plant.compute_friction_factor(world))
        self._lag[row] = lag

    def reset_row(self, row: int) -> None:
        """Forget the past of a row, which was placed elsewhere."""
        self._effects.forget_row(row)
        self._standin.reset_row(row)
        self._motor_force[row] = 0.0
        self._past = None

    def run(
        self, start: Float[np.ndarray, "B S"], commands: Float[np.ndarray, "B N A"], number: int
    ) -> tuple[Float[np.ndarray, "B N S"], Float[np.ndarray, "B N D"]]:
        """Run `N` physics steps.

        Args:
            start: Physical states before.
            number: Number of the first physics step since the start of the simulation.

        Returns:
            Physical states and sensor data after each step, in buffers that the next call uses again.
        """
        model, steps = self._plant.model, commands.shape[1]
        if self._buffers[0].shape[1] != steps:
            self._buffers = (
                np.empty((self._num_robots, steps, start.shape[1])),
                np.empty((self._num_robots, steps, model.nsensordata)),
            )
        if not self._effects.is_empty or self._standin.is_active:
            self._run_step_by_step(start, commands, number)
            return self._buffers
        control = np.zeros((self._num_robots, steps, model.nu))
        control[:, :, self._plant.actuator_ids] = commands
        after, sensordata = self._buffers
        self._pool.rollout(
            self._models,
            self._data,
            start,
            control,
            nstep=steps,
            state=after,
            sensordata=sensordata,
            skip_checks=True,
        )
        self._motor_force[:, : len(self._plant.force_columns)] = sensordata[:, -1, self._plant.force_columns]
        return self._buffers

    def _run_step_by_step(self, start: np.ndarray, commands: np.ndarray, number: int) -> None:
        """Fill the buffers one physics step at a time, for effects and stand-ins that act at each."""
        model, plant = self._plant.model, self._plant
        control = np.zeros((self._num_robots, 1, model.nu + model.nv))
        after, sensordata = (np.empty_like(each[:, :1]) for each in self._buffers)
        for step in range(commands.shape[1]):
            motion = Motion(
                position=start[:, self._qpos],
                velocity=start[:, self._qvel],
                command=commands[:, step],
                motor_force=self._motor_force,
                number=number + step,
            )
            changed, force = self._effects.change_step(motion)
            if self._standin.is_active:
                changed, added = self._standin.change_step(motion.position, motion.velocity, changed)
                force += added
            control[:, 0, plant.actuator_ids] = changed
            control[:, 0, model.nu + plant.dof_ids] = force
            self._pool.rollout(
                self._models,
                self._data,
                start,
                control,
                control_spec=WITH_FORCE,
                nstep=1,
                state=after,
                sensordata=sensordata,
                skip_checks=True,
            )
            start = after[:, 0].copy()
            self._buffers[0][:, step], self._buffers[1][:, step] = start, sensordata[:, 0]
            self._motor_force[:, : len(plant.force_columns)] = sensordata[:, 0, plant.force_columns]
            self._standin.read_torques(sensordata[:, 0])

    def select_readings(
        self, after: Float[np.ndarray, "B N S"], efforts: Float[np.ndarray, "B N J"], read: np.ndarray
    ) -> tuple[Float[np.ndarray, "B T S"], Float[np.ndarray, "B T J"]]:
        """Select the physical states and efforts that are read.

        Args:
            after: Physical states after each step.
            efforts: Efforts of the joints there.
            read: Physics steps that would be read without a lag, `B T` or `1 T`.
        """
        rows, longest = np.arange(self._num_robots)[:, None], int(self._lag.max())
        if not longest:
            self._past = None
            return after[rows, read], efforts[rows, read]
        known = self._past or (after[:, :0], efforts[:, :0])
        # A robot that starts to lag has been where it is all the time.
        missing = max(0, longest - known[0].shape[1])
        parts = []
        for past, now in zip(known, (after, efforts), strict=True):
            first = past[:, :1] if past.shape[1] else now[:, :1]
            parts.append(np.concatenate([np.repeat(first, missing, 1), past, now], 1))
        self._past = parts[0][:, -longest:], parts[1][:, -longest:]
        at = parts[0].shape[1] - after.shape[1] + read - self._lag
        return parts[0][rows, at], parts[1][rows, at]

    def save(self) -> dict[str, Any]:
        """Return all values that `restore` needs; empty where neither an effect nor a stand-in has a past."""
        torques = {"torques": self._standin.torques.copy()} if self._standin.is_active else {}
        if self._effects.is_empty and self._past is None:
            return torques
        own = {"hidden": self._effects.save(), "motor_force": self._motor_force.copy(), "past": self._past}
        return own | torques

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from the result of `save`, with the same effects."""
        self._effects.restore(saved.get("hidden", {}))
        self._motor_force = saved.get("motor_force", np.zeros_like(self._motor_force)).copy()
        self._past = saved.get("past")
        self._standin.torques = saved.get("torques", np.zeros_like(self._standin.torques)).copy()

    def copy_rows(self, saved: dict[str, Any], rows: Int[np.ndarray, "B"]) -> None:
        """Continue as rows of another batch did, with the own effects; readings start to lag anew.

        Args:
            saved: Result of `save` of that batch.
            rows: Row of that batch for each robot.
        """
        self._effects.copy_rows(saved.get("hidden", {}), rows)
        force = saved.get("motor_force")
        self._motor_force = np.zeros_like(self._motor_force) if force is None else force[rows]
        torques = saved.get("torques")
        self._standin.torques = np.zeros_like(self._standin.torques) if torques is None else torques[:, rows]
        self._past = None
