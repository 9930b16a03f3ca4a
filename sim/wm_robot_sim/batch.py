"""Batched simulation on `mujoco.rollout`. A single robot in real time uses the same code."""

import copy
from collections.abc import Collection, Sequence
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float, Int

from wm_robot.errors import SpecError, UnsafeActionError
from wm_robot.spec import JOINTS, ChannelGroup, ChannelLayout, RobotSpec
from wm_robot_sim.base_motion import lift_out_of_ground
from wm_robot_sim.command_path import CommandPath
from wm_robot_sim.contacts import find_touching_bodies
from wm_robot_sim.encoder_path import EncoderPath
from wm_robot_sim.noise_blocks import NoiseBlocks
from wm_robot_sim.physics_stepper import PhysicsStepper
from wm_robot_sim.reachable_poses import compute_gripper_positions, sample_reachable_poses
from wm_robot_sim.standins.catalog import build_plant
from wm_robot_sim.standins.encoder import quantize
from wm_robot_sim.standins.standin import StandIn
from wm_robot_sim.worlds import World

NOISE_STREAM, INITIAL_POSE_STREAM, SENSOR_STREAM, LOSS_STREAM = 0, 1, 2, 3


def _get_noise_std(group: ChannelGroup, world: World) -> np.ndarray | float:
    """Return the standard deviation of a group of channels of joints or base in a world."""
    if group.kind == "effort":
        return world.effort_noise * np.array(group.limits)
    return world.velocity_noise if group.kind.endswith("velocity") else world.position_noise


class BatchSim:
    """`B` simulated robots of one spec, each in its own world, stepped together.

    Every random number is a function of seed, row and step. So a batch of one equals a row of many,
    and a saved and restored batch equals one that never stopped.
    """

    def __init__(
        self,
        spec: RobotSpec,
        worlds: Sequence[World],
        *,
        seed: int,
        task: str | None = None,
        num_threads: int = 1,
        first_row: int = 0,
        effect_kinds: Collection[str] = (),
        standin: StandIn | None = None,
    ):
        """Start at random reachable poses.

        Args:
            worlds: One for each robot, at least one.
            task: Task whose `start` says where joints start.
            num_threads: Threads for physics. 1 uses the caller's thread.
            first_row: Number of the first row, for a part of a larger batch.
            effect_kinds: Kinds of undeclared effects that later worlds may have, besides those of `worlds`.
            standin: Stand-in that all robots are, in place of the nominal model.

        Raises:
            SpecError: If the robot's model lacks what a world or the stand-in changes.
        """
        self.spec = spec
        self.worlds: list[World] = list(worlds)
        kinds = {effect.kind for world in self.worlds for effect in world.effects}.union(effect_kinds)
        self.standin = standin
        self.plant = build_plant(spec, standin).attach(kinds)
        self.steps = 0
        self.num_robots = len(self.worlds)
        self._seed, self._first_row = seed, first_row
        self._task_start = spec.find_task(task).start if task else {}
        model = self.plant.model
        # With it, a rollout of T steps differs from T rollouts of one.
        model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_WARMSTART)
        self._models = [copy.copy(model) for _ in self.worlds]
        self._scratch = mujoco.MjData(model)
        self._state_size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        self._qpos = 1 + self.plant.qpos_ids
        self._qvel = 1 + model.nq + self.plant.dof_ids
        self._row_index = np.arange(self.num_robots)[:, None]
        self._base = self.plant.base_motion
        names = {sensor.name for sensor in spec.sensors}
        self._layout = ChannelLayout(tuple(each for each in spec.layout.groups if each.sensor not in names))
        """Layout of joints and base; the channels of sensors follow."""
        self._has_special = bool(self._layout.wraps or self._layout.rotations)
        self._sensors = self.plant.sensor_readings
        self._efforts = self._sensors.effort_columns
        self._needs_sensordata = bool(spec.sensors) or len(self._efforts) > 0
        self._sensor_history = np.zeros(
            (self.num_robots, self._sensors.history_steps if spec.sensors else 0, len(self._sensors.columns))
        )
        """Raw numbers of the sensors at the last physics steps."""
        self._readings = np.zeros((self.num_robots, self._sensors.num_channels), np.float32)
        """Last readings of the sensors."""
        joints = len(spec.joints)
        self._action_low, self._action_high, self._action_step = (
            spec.action_low,
            spec.action_high,
            spec.action_step,
        )
        self._path = CommandPath(self.plant, self.num_robots)
        self._stepper = PhysicsStepper(self.plant, self.num_robots, self._models, num_threads)
        self._sensor_delay = np.zeros((self.num_robots, 1), int)
        self._bias = np.zeros((self.num_robots, 1, joints))
        self._encoders = EncoderPath(spec, self.num_robots)
        own_size = len(self._layout.names)
        self._reading_step = self._make_reading_steps(own_size)
        self._noise_std = np.zeros((self.num_robots, 1, own_size), np.float32)
        self._physics_state = np.zeros((self.num_robots, self._state_size))
        self._num_resets = np.zeros(self.num_robots, int)
        self._noise = self._make_noise(NOISE_STREAM, own_size)
        self._sensor_noise = self._make_noise(SENSOR_STREAM, self._sensors.num_channels)
        self._loss_noise = self._make_noise(LOSS_STREAM, len(spec.sensors))
        self.is_lost = np.zeros((self.num_robots, len(spec.sensors)), bool)
        """Whether the last reading of each sensor was lost, `B S`: the one before it is held."""
        self.obs = np.zeros((self.num_robots, spec.obs_dim), np.float32)
        self.set_worlds(range(self.num_robots), self.worlds)
        self.reset()

    @property
    def last_action(self) -> Float[np.ndarray, "B A"]:
        """Last applied action, `B A`."""
        return self._path.actions[:, -1].copy()

    @property
    def sensor_history(self) -> Float[np.ndarray, "N R"]:
        """Raw numbers of the sensors of the first robot at the last physics steps."""
        return self._sensor_history[0]

    def set_worlds(self, rows: Sequence[int], worlds: Sequence[World]) -> None:
        """Change the world of some rows. Their positions and velocities stay.

        Raises:
            SpecError: If a delay is longer than the spec's ranges allow.
        """
        for row, world in zip(rows, worlds, strict=True):
            self.plant.randomized.check_names(world.parameters, self.spec.name)
            changes = self.plant.compute_signal_changes(world)
            longest, key = self.plant.longest_delay
            if (delay := int(changes.delay.max())) > longest:
                raise SpecError(f"delay is {delay} physics steps; {key} allows {longest}")
            if changes.sensor_delay >= self.plant.substeps:
                raise SpecError(
                    f"sensor_delay is {changes.sensor_delay}; it must be below {self.plant.substeps}"
                )
            self.worlds[row] = world
            self.plant.apply_world(world, self._models[row], self._scratch)
            self._path.set_row(row, changes)
            self._stepper.set_row(row, world, lag=changes.lag)
            self._sensor_delay[row] = changes.sensor_delay
            self._bias[row, 0] = changes.bias
            for group, channels in self._layout.slices:
                self._noise_std[row, 0, channels] = _get_noise_std(group, world)
            self._encoders.set_row(row, changes.readings)
            self._encoders.add_noise(row, self._layout, self._noise_std[row, 0])
        self._path.finish_rows()

    def reset(self, rows: Sequence[int] | None = None) -> np.ndarray:
        """Reset rows to rest in a random reachable pose, with commands that hold it.

        Args:
            rows: None: all rows.

        Returns:
            Observation of all rows, `B O`.
        """
        model = self.plant.model
        for row in range(self.num_robots) if rows is None else rows:
            rng = self._make_generator(row, INITIAL_POSE_STREAM, self._num_resets[row])
            self._num_resets[row] += 1
            pose = sample_reachable_poses(self.spec, rng, 1)[0]
            for joint, (low, high) in self._task_start.items():
                pose[self.spec.joint_names.index(joint)] = rng.uniform(low, high)
            pose = self.plant.limit_pose(pose, self._models[row])
            state = self._physics_state[row]
            state[:] = 0
            state[1 : 1 + model.nq] = model.qpos0
            state[self._qpos] = pose
            if self._base:
                self._place_base(row, rng)
            self._path.actions[row] = self._compute_holding_action(pose)
            self._path.set_points[row] = np.nan
            self._stepper.reset_row(row)
            own_size = len(self._layout.names)
            noise = rng.standard_normal((1, 1, own_size), np.float32)
            one, efforts = slice(row, row + 1), np.zeros((1, 1, 0))
            if self._needs_sensordata:
                data = self._compute_sensordata(row)
                efforts = data[None, None, self._efforts]
                self._start_sensors(row, data, rng)
            self.obs[one, :own_size] = self._compute_obs(state[None, None], efforts, noise, one)[:, 0]
            self.obs[one, own_size:] = self._readings[one]
        return self.obs.copy()

    def _start_sensors(self, row: int, data: np.ndarray, rng: np.random.Generator) -> None:
        """Start the sensors of a row, as if it had been where it is all the time."""
        if not self.spec.sensors:
            return
        raw = data[self._sensors.columns]
        self._sensor_history[row] = raw
        noise = rng.standard_normal(self._sensors.num_channels, np.float32)
        self._readings[row] = self._sensors.measure(self._sensors.compute_channels(raw), noise)

    def _compute_sensordata(self, row: int) -> np.ndarray:
        """Compute the sensor data of the model at the present state of a row, with its last command."""
        model, data = self._models[row], self._scratch
        mujoco.mj_resetData(model, data)
        mujoco.mj_setState(model, data, self._physics_state[row], int(mujoco.mjtState.mjSTATE_FULLPHYSICS))
        data.ctrl[self.plant.actuator_ids] = self._path.compute_present_command(row)
        mujoco.mj_forward(model, data)
        return np.array(data.sensordata)

    def place_joints(self, obs: Float[np.ndarray, "B O"]) -> None:
        """Place the joints where observations say they are, with the velocities that they say."""
        ids = {"position": self._qpos, "velocity": self._qvel}
        for group, channels in self._layout.slices:
            if group.sensor == JOINTS and group.kind in ids:
                self._physics_state[:, ids[group.kind]] = obs[:, channels]

    def advance_readings(self) -> None:
        """Advance the physics by the delay of readings, after `place_joints`: robots are then where they are now."""
        if late := int(self._sensor_delay.max()):
            first = self.steps * self.plant.substeps - late
            after, _ = self._stepper.run(self._physics_state, self._path.compute_past_commands(late), first)
            self._physics_state = after[:, -1].copy()

    def _compute_holding_action(self, pose: np.ndarray) -> np.ndarray:
        """Return the action that holds a pose: the pose itself for servos, zero for motors."""
        joint = self.spec.joint_names.index
        held = [pose[joint(a.joint)] if a.is_servo else 0.0 for a in self.spec.actuators]
        return np.clip(np.array(held, np.float32), self._action_low, self._action_high)

    def _place_base(self, row: int, rng: np.random.Generator) -> None:
        """Place a floating base at home with a random heading, and higher where a part would be in the ground."""
        assert self._base is not None
        qpos = self._physics_state[row, 1 : 1 + self.plant.model.nq]
        qpos[self._base.qpos_ids] = self._base.make_home_pose(
            qpos[self._base.qpos_ids], rng.uniform(-np.pi, np.pi)
        )
        lift_out_of_ground(self._models[row], self._scratch, qpos, int(self._base.qpos_ids[2]))

    def step(
        self, action: Float[np.ndarray, "B A"]
    ) -> tuple[Float[np.ndarray, "B O"], Float[np.ndarray, "B A"]]:
        """Run one control period. Return the next observation and the applied action."""
        obs, applied = self.rollout(np.asarray(action)[:, None])
        return obs[:, 0], applied[:, 0]

    def rollout(
        self, action: Float[np.ndarray, "B T A"]
    ) -> tuple[Float[np.ndarray, "B T O"], Float[np.ndarray, "B T A"]]:
        """Run `T` control periods open-loop.

        Returns:
            Observations after each step, and the applied actions.

        Raises:
            UnsafeActionError: If a number is not finite. The simulation is unchanged then.
        """
        applied = self._limit_action(action)
        steps, per = applied.shape[1], self.plant.substeps
        after = self._run_physics(applied)
        read = np.arange(1, steps + 1) * per - 1 - self._sensor_delay
        state, efforts = self._stepper.select_readings(after, self._sensordata[..., self._efforts], read)
        obs = self._compute_obs(state, efforts, self._noise.draw(self.steps, steps), slice(None))
        self._encoders.hold_stuck(self._layout, self.obs, obs)
        if self.spec.sensors:
            obs = np.concatenate([obs, self._read_sensors(steps)], -1)
        self._path.append(applied)
        self.steps += steps
        self.obs = obs[:, -1].copy()
        return obs, applied

    def rollout_true_obs(self, action: Float[np.ndarray, "B T A"]) -> Float[np.ndarray, "B T O"]:
        """Run `T` control periods open-loop, without readings: their noise is not drawn, and sensors keep their past.

        Args:
            action: Applied as it is, beyond range and rate too: plans for finite differences need not be feasible.

        Returns:
            Observations after each step without noise, bias and delay.

        Raises:
            UnsafeActionError: As for `rollout`.
        """
        applied = self._check_action(action)
        ends = slice(self.plant.substeps - 1, None, self.plant.substeps)
        after = self._run_physics(applied)[:, ends]
        data = self._sensordata[:, ends]
        self._path.append(applied)
        self.steps += applied.shape[1]
        true = self._compute_channels(after, data[..., self._efforts], 0.0)
        if self._has_special:
            true = self._layout.normalize(true)
        if self.spec.sensors:
            true = np.concatenate(
                [true, self._sensors.compute_channels(data[..., self._sensors.columns])], -1
            )
        return true.astype(np.float32)

    def _run_physics(self, applied: Float[np.ndarray, "B T A"]) -> Float[np.ndarray, "B N S"]:
        """Run the physics of limited actions. Return the physical state after each physics step."""
        commands, first = self._path.compute_commands(applied), self.steps * self.plant.substeps
        after, self._sensordata = self._stepper.run(self._physics_state, commands, first)
        self._physics_state = after[:, -1].copy()
        return after

    def _limit_action(self, action: np.ndarray) -> np.ndarray:
        """Clip actions to range and rate."""
        action = self._check_action(action)
        # `minimum` and `maximum` take half the time of `clip` on the few values of one robot.
        applied = np.minimum(np.maximum(action, self._action_low), self._action_high)
        before = self._path.actions[:, -1]
        for t in range(applied.shape[1]):
            before = np.minimum(
                np.maximum(applied[:, t], before - self._action_step), before + self._action_step
            )
            applied[:, t] = before
        return applied

    def _check_action(self, action: np.ndarray) -> np.ndarray:
        """Return actions as float32, after a check of their shape and numbers."""
        action = np.asarray(action, np.float32)
        if action.ndim != 3 or action.shape[::2] != (self.num_robots, self.spec.action_dim):
            wanted = f"({self.num_robots}, steps, {self.spec.action_dim})"
            raise SpecError(f"action is {action.shape}; it must be {wanted}")
        if not np.isfinite(action).all():
            row, _, motor = np.argwhere(~np.isfinite(action))[0]
            name = self.spec.action_names[motor]
            raise UnsafeActionError(f"action of motor '{name}' in row {row} is not finite")
        return action

    def _read_sensors(self, steps: int) -> np.ndarray:
        """Read the sensors in the control steps that were just simulated, `B T C`."""
        raw = self._sensordata[..., self._sensors.columns]
        history = np.concatenate([self._sensor_history, raw], 1)
        first = self.steps * self.plant.substeps - self._sensor_history.shape[1]
        noise, lost = self._sensor_noise.draw(self.steps, steps), None
        if self._sensors.has_loss:
            lost = self._sensors.find_lost(self._loss_noise.draw(self.steps, steps))
            self.is_lost = lost[:, -1]
        readings = self._sensors.select_newest(history, first, self._readings, noise, self.steps, lost)
        self._sensor_history = history[:, -self._sensor_history.shape[1] :].copy()
        self._readings = readings[:, -1].copy()
        return readings

    def _compute_obs(
        self, state: np.ndarray, efforts: np.ndarray, noise: np.ndarray, rows: slice
    ) -> np.ndarray:
        """Compute the readings of joints and base in physical states `B T S`, where joints have efforts `B T J`.

        A floating base has the noise of positions in height and rotation, and that of velocities in its velocities.
        """
        clean = self._compute_channels(state, efforts, self._bias[rows], encoders=rows)
        if not self._has_special:
            return self._quantize(clean.astype(np.float32) + self._noise_std[rows] * noise)
        # Angles are wrapped before they are rounded, and once more with their noise.
        clean = self._layout.normalize(clean).astype(np.float32)
        return self._layout.normalize(self._quantize(clean + self._noise_std[rows] * noise))

    def _quantize(self, readings: np.ndarray) -> np.ndarray:
        """Round readings to the steps of a stand-in's encoders, float32."""
        if self._reading_step is None:
            return readings
        return quantize(readings.astype(np.float64), self._reading_step).astype(np.float32)

    def _make_reading_steps(self, size: int) -> np.ndarray | None:
        """Make the steps of the readings of joints and base; None: any number."""
        if self.plant.parts is None:
            return None
        encoder, steps = self.plant.parts.encoder, np.zeros(size)
        own = {"position": encoder.position_step, "velocity": encoder.velocity_step}
        for group, channels in self._layout.slices:
            if group.sensor == JOINTS and group.kind in own:
                steps[channels] = own[group.kind]
        return steps

    def _compute_channels(
        self,
        state: np.ndarray,
        efforts: np.ndarray,
        bias: np.ndarray | float,
        *,
        encoders: slice | None = None,
    ) -> np.ndarray:
        """Compute the channels of physical states `… S` without noise, float64 `… O`; angles count their turns.

        Args:
            encoders: Rows of the states, whose encoders read them; None: the truth.
        """
        position, velocity = state[..., self._qpos], state[..., self._qvel]
        if encoders is not None:
            position, velocity = self._encoders.read(position, velocity, encoders)
        channels = {"position": position + bias, "velocity": velocity, "effort": efforts}
        parts = [channels[i] for i in self.spec.interfaces]
        if self._base:
            qpos, qvel = 1 + self._base.qpos_ids, 1 + self.plant.model.nq + self._base.dof_ids
            parts.append(self._base.compute_channels(state[..., qpos], state[..., qvel]))
        return np.concatenate(parts, -1)

    def _make_noise(self, stream: int, num_channels: int) -> NoiseBlocks:
        return NoiseBlocks(
            self.num_robots, num_channels, lambda row, block: self._make_generator(row, stream, block)
        )

    def _make_generator(self, row: int, stream: int, number: int) -> np.random.Generator:
        key = np.array([self._seed, self._first_row + row], np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, stream, int(number)]))

    def compute_true_obs(self) -> Float[np.ndarray, "B O"]:
        """Observations of now without noise, bias and delay."""
        data = np.zeros((self.num_robots, self.plant.model.nsensordata))
        if self._needs_sensordata:
            data = np.stack([self._compute_sensordata(row) for row in range(self.num_robots)])
        true = self._compute_channels(self._physics_state, data[:, self._efforts], 0.0)
        if self._has_special:
            true = self._layout.normalize(true)
        if self.spec.sensors:
            true = np.concatenate([true, self._sensors.compute_channels(data[:, self._sensors.columns])], -1)
        return np.asarray(true, np.float32)

    def find_contacts(self, row: int) -> list[tuple[str, str]]:
        """Find the pairs of bodies of a robot that touch each other or their surroundings, by name.

        Links that do not collide in the model are compared by the distance of their geoms, so that a robot whose
        links may pass through one another in simulation is found too. Neighbours in the tree are left out.
        """
        model, data = self._models[row], self._scratch
        mujoco.mj_resetData(model, data)
        mujoco.mj_setState(model, data, self._physics_state[row], int(mujoco.mjtState.mjSTATE_FULLPHYSICS))
        return find_touching_bodies(model, data)

    def true_joint_positions(self) -> Float[np.ndarray, "B J"]:
        """True joint positions, in rad (m)."""
        return self._physics_state[:, self._qpos]

    def true_link_positions(self) -> Float[np.ndarray, "B J"]:
        """True positions of the links, in rad (m): of a stand-in with the springs behind its joints."""
        positions = self._physics_state[:, self._qpos]
        positions[:, self.plant.spring_columns] += self._physics_state[:, 1 + self.plant.spring_ids]
        return positions

    def qpos(self) -> np.ndarray:
        """True generalised positions of the robot's own model, `B nq`, for a camera."""
        if self.plant.parts is None:
            return self._physics_state[:, 1 + self.plant.own_qpos_ids]
        state = self._physics_state.copy()
        state[:, self._qpos] = self.true_link_positions()
        return state[:, 1 + self.plant.own_qpos_ids]

    def compute_gripper_position(self) -> Float[np.ndarray, "B 3"]:
        """Gripper positions at the true link positions, in m: backlash and flex of the model itself do not count."""
        return compute_gripper_positions(self.spec, self.true_link_positions())

    def save(self) -> dict[str, Any]:
        """Return all values that `restore` needs, in a batch of the same spec, seed and size."""
        saved: dict[str, Any] = {
            **self.save_motion(),
            "starts": self._num_resets.copy(),
            "obs": self.obs.copy(),
            "worlds": [world.to_dict() for world in self.worlds],
        }
        if self.spec.sensors:
            saved["sensor_history"], saved["readings"] = self._sensor_history.copy(), self._readings.copy()
        return saved

    def save_motion(self) -> dict[str, Any]:
        """Return the part of `save` that moves on by physics: what `copy_motion` needs."""
        return {
            "steps": self.steps,
            "physical": self._physics_state.copy(),
            "commands": self._path.actions.copy(),
            "set_points": self._path.set_points.copy(),
            "stepper": self._stepper.save(),
        }

    def copy_motion(self, saved: dict[str, Any], rows: Int[np.ndarray, "B"]) -> None:
        """Move as rows of another batch of the same robot did, in the own worlds.

        Positions, velocities and commands under way are copied, and the hidden states of effects that both have.

        Args:
            saved: Result of `save_motion` of that batch, whose model has the same attachments.
            rows: Row of that batch for each robot.
        """
        self.steps = int(saved["steps"])
        self._physics_state, self._path.actions = saved["physical"][rows], saved["commands"][rows]
        self._path.set_points = saved["set_points"][rows]
        self._stepper.copy_rows(saved["stepper"], rows)

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from the result of `save`."""
        self.steps = int(saved["steps"])
        self._physics_state, self._path.actions = saved["physical"].copy(), saved["commands"].copy()
        self._path.set_points = saved["set_points"].copy()
        self._num_resets, self.obs = saved["starts"].copy(), saved["obs"].copy()
        if self.spec.sensors:
            self._sensor_history, self._readings = saved["sensor_history"].copy(), saved["readings"].copy()
        self.set_worlds(range(self.num_robots), [World.from_dict(world) for world in saved["worlds"]])
        self._stepper.restore(saved["stepper"])
