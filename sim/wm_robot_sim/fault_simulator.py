"""Fault simulator: simulates short segments of a recording under a hypothesis about the robot's faults.

It implements `SegmentSimulator` of `wm_robot.evaluation.diagnosis.simulator`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import mujoco
import numpy as np
from jaxtyping import Float, Int
from mujoco import rollout as mujoco_rollout

from wm_robot.spec import RobotSpec
from wm_robot.types import Episode, Fault
from wm_robot_sim.encoder_path import find_reading_middle
from wm_robot_sim.injected_faults import find_motors
from wm_robot_sim.model_compiler import compile_model
from wm_robot_sim.plant import Plant
from wm_robot_sim.world_ranges import WorldRanges
from wm_robot_sim.worlds import DomainRandomization

UNLIMITED = float("inf")
SERVO_ZERO = 0.16
"""Largest zero of servo and reading together of a healthy robot, in rad: a tooth of a horn is 0.25 or more."""


@dataclass(frozen=True, kw_only=True)
class RobotParameter:
    """Parameter of a robot: 0 is nominal, a factor is its logarithm; see `Parameter` of the diagnosis."""

    name: str
    joint: str = ""
    healthy_std: float
    wide_std: float
    healthy: tuple[float, float]
    bounds: tuple[float, float]
    step: float

    @property
    def quantity(self) -> str:
        """Name without the joint."""
        return self.name.partition("/")[0]


class _Segments(Protocol):
    @property
    def episode(self) -> Int[np.ndarray, "S"]: ...
    @property
    def start(self) -> Int[np.ndarray, "S"]: ...
    @property
    def length(self) -> int: ...
    def __len__(self) -> int: ...


@dataclass
class _Wiring:
    """Wiring of a hypothesis: what happens to commands and readings outside the model."""

    command_scale: np.ndarray
    command_source: np.ndarray
    command_offset: np.ndarray
    play: np.ndarray
    delay: float
    """In physics steps."""
    reading_scale: np.ndarray
    reading_source: np.ndarray
    bias: np.ndarray
    stuck: list[int] = field(default_factory=list)


class FaultSimulator:
    """Fault simulator of one robot with a recording."""

    def __init__(
        self,
        spec: RobotSpec,
        episodes: Sequence[Episode],
        *,
        payload: float | None = None,
    ):
        """Args:
        payload: Known mass in the hand, in kg; None: unknown, and usually none.
        """
        self.spec, self._episodes = spec, list(episodes)
        self.plant = Plant(spec, compile_model(spec))
        self._model = compile_model(spec)
        self._scratch, self._data = mujoco.MjData(self._model), mujoco.MjData(self._model)
        self._pool = mujoco_rollout.Rollout(nthread=0)
        ranges = WorldRanges.from_spec(spec)
        self._nominal = DomainRandomization(spec).make_nominal_world()
        self._known_payload = payload or 0.0
        self._parameters = _make_parameters(spec, ranges, self.plant, is_payload_known=payload is not None)
        joints = len(spec.joints)
        names, own = list(spec.observation_names), spec.joint_names
        columns = [names.index(f"{joint}/{kind}") for kind in ("position", "velocity") for joint in own]
        self._readings = [each.obs[:, columns].astype(np.float64) for each in self._episodes]
        self._actions = [_complete_actions(each) for each in self._episodes]
        self._middle = find_reading_middle(spec)
        low, high = spec.action_low.astype(np.float64), spec.action_high.astype(np.float64)
        self._center = np.where([each.is_servo for each in spec.actuators], (low + high) / 2, 0.0)
        self._joints = joints
        self._qpos = 1 + self.plant.qpos_ids
        self._qvel = 1 + self._model.nq + self.plant.dof_ids
        self._size = mujoco.mj_stateSize(self._model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        self._filled: dict[tuple[Fault, ...], list[np.ndarray]] = {}

    @property
    def parameters(self) -> tuple[RobotParameter, ...]:
        return self._parameters

    def simulate(
        self, segments: _Segments, values: Float[np.ndarray, "P"], faults: Sequence[Fault]
    ) -> Float[np.ndarray, "S T C"]:
        """Simulate segments; see `SegmentSimulator.simulate`."""
        wiring = self._set_model(values, faults)
        commands = [self._compute_commands(actions, wiring) for actions in self._actions]
        readings = self._readings
        if wiring.stuck:
            readings = self._fill_stuck(faults, wiring, commands)
        return self._run(segments.episode, segments.start, segments.length, wiring, commands, readings)

    def _run(
        self,
        episode: np.ndarray,
        start: np.ndarray,
        length: int,
        wiring: _Wiring,
        commands: Sequence[np.ndarray],
        readings: Sequence[np.ndarray],
    ) -> np.ndarray:
        substeps, count = self.plant.substeps, len(start)
        observed = np.stack([readings[e][t] for e, t in zip(episode, start, strict=True)])
        state = np.zeros((count, self._size))
        state[:, 1 : 1 + self._model.nq] = self._model.qpos0
        position, velocity = self._invert_readings(observed, wiring)
        state[:, self._qpos], state[:, self._qvel] = position, velocity
        steps = length * substeps
        control = np.zeros((count, steps, self._model.nu))
        # A reading shows the state some physics steps before it arrives.
        first = start * substeps - self._nominal.sensor_delay
        window = np.arange(steps)
        for number, trace in enumerate(commands):
            own = np.flatnonzero(episode == number)
            if len(own):
                control[own[:, None], window[None]] = self._place(
                    _select_steps(trace, first[own, None] + window, wiring.delay, substeps)
                )
        after, _ = self._pool.rollout(
            self._model, [self._data], state, control, nstep=steps, skip_checks=False
        )
        seen = after[:, substeps - 1 :: substeps]
        return self._read(seen[..., self._qpos], seen[..., self._qvel], wiring)

    def _place(self, commands: np.ndarray) -> np.ndarray:
        """Place commands in the columns of the model's controls."""
        control = np.zeros((*commands.shape[:-1], self._model.nu))
        control[..., self.plant.actuator_ids] = commands
        return control

    def _set_model(self, values: np.ndarray, faults: Sequence[Fault]) -> _Wiring:
        """Set the model of a hypothesis, and return its wiring."""
        spec, joints, motors = self.spec, self._joints, self.spec.action_dim
        given: dict[str, np.ndarray] = {}
        for each, value in zip(self._parameters, values, strict=True):
            array = given.setdefault(each.quantity, np.zeros(joints))
            array[spec.joint_names.index(each.joint) if each.joint else 0] = value
        none, of_motor = np.zeros(joints), self.plant.joint_index
        get = lambda name: given.get(name, none)  # noqa: E731
        world = replace(
            self._nominal,
            gain=np.exp(get("gain"))[of_motor],
            torque=np.exp(get("torque"))[of_motor],
            friction=np.exp(get("friction")),
            damping=np.exp(get("damping")),
            mass=np.exp(get("mass")),
            tilt=np.array([get("tilt_x")[0], get("tilt_y")[0]]),
            payload=max(0.0, self._known_payload + float(get("payload")[0])),
        )
        self.plant.apply_world(world, self._model, self._scratch)
        # A payload below zero is lighter than the model's hand.
        wiring = _Wiring(
            command_scale=np.ones(motors),
            command_source=np.arange(motors),
            command_offset=-get("servo_zero")[of_motor]
            * np.array([each.is_servo for each in spec.actuators], float),
            play=np.maximum(get("backlash")[of_motor], 0.0) / 2,
            delay=max(0.0, float(get("delay")[0])) / self._model.opt.timestep,
            reading_scale=np.exp(get("scale")),
            reading_source=np.arange(joints),
            bias=get("zero") + get("servo_zero"),
        )
        for fault in faults:
            _WIRED_FAULTS[fault.kind](spec, wiring, fault)
        return wiring

    def _compute_commands(self, actions: np.ndarray, wiring: _Wiring) -> np.ndarray:
        """Compute the commands that reach the motors in each control period of an episode, without their delay."""
        from_center = (actions - self._center)[:, wiring.command_source]
        commands = self._center + wiring.command_scale * from_center + wiring.command_offset
        if wiring.play.any():
            moved = np.flatnonzero(wiring.play)
            commands[:, moved] = follow_with_play(commands[:, moved], wiring.play[moved])
        return commands

    def _invert_readings(self, observed: np.ndarray, wiring: _Wiring) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions and velocities that give some readings."""
        position, velocity = np.empty((2, len(observed), self._joints))
        source, middle = wiring.reading_source, self._middle
        read, moving = observed[:, : self._joints], observed[:, self._joints :]
        position[:, source] = middle[source] + (read - wiring.bias - middle) / wiring.reading_scale
        velocity[:, source] = moving / wiring.reading_scale
        return position, velocity

    def _read(self, position: np.ndarray, velocity: np.ndarray, wiring: _Wiring) -> np.ndarray:
        source, middle = wiring.reading_source, self._middle
        read = middle + wiring.reading_scale * (position - middle)[..., source] + wiring.bias
        return np.concatenate([read, wiring.reading_scale * velocity[..., source]], -1)

    def _fill_stuck(
        self, faults: Sequence[Fault], wiring: _Wiring, commands: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Return the readings with those of stuck encoders replaced by what the simulated joints would read.

        The simulation follows the other joints: every few steps it restarts from their readings.
        """
        # Of the first values only: a fit would simulate the whole recording for each of its parameters.
        key = tuple(faults)
        if key not in self._filled:
            columns = [*wiring.stuck, *(self._joints + joint for joint in wiring.stuck)]
            filled = [each.copy() for each in self._readings]
            for number, readings in enumerate(filled):
                for start in range(0, len(readings) - 1, FILL_STEPS):
                    steps = min(FILL_STEPS, len(readings) - 1 - start)
                    # The first reading of an episode may be before the first command: delays look back.
                    found = self._run(np.array([number]), np.array([start]), steps, wiring, commands, filled)
                    readings[start + 1 : start + 1 + steps, columns] = found[0][:, columns]
            self._filled[key] = filled
        return self._filled[key]


FILL_STEPS = 5
"""Steps from one restart to the next where the reading of a joint is simulated."""


def follow_with_play(trace: Float[np.ndarray, "T A"], play: Float[np.ndarray, "A"]) -> np.ndarray:
    """Return the set-points of servos that follow their commands with play, from the first command on.

    A step with play is a clamp, and clamps in a row are a clamp: all are composed in log2 T rounds.
    """
    low, high = trace - play, trace + play
    low[0] = high[0] = trace[0]
    shift = 1
    while shift < len(trace):
        before_low, before_high = low[:-shift].copy(), high[:-shift].copy()
        own_low, own_high = low[shift:], high[shift:]
        clamped = np.clip(before_low, own_low, own_high), np.clip(before_high, own_low, own_high)
        low[shift:], high[shift:] = clamped
        shift *= 2
    return low


def _complete_actions(episode: Episode) -> np.ndarray:
    """Return the actions with the one before the first; where that is unknown, the first twice."""
    first = episode.initial_action if np.isfinite(episode.initial_action).all() else episode.action[0]
    return np.nan_to_num(np.concatenate([first[None], episode.action]).astype(np.float64))


def _select_steps(trace: np.ndarray, number: np.ndarray, delay: float, substeps: int) -> np.ndarray:
    """Return the commands at some physics steps, between two whole delays in their share.

    Args:
        trace: Command before the first period, then that of each.
    """
    whole = int(np.floor(delay))
    share = delay - whole

    def select(steps: int) -> np.ndarray:
        return trace[np.clip((number - steps) // substeps + 1, 0, len(trace) - 1)]

    return (1 - share) * select(whole) + share * select(whole + 1) if share else select(whole)


def _make_parameters(
    spec: RobotSpec, ranges: WorldRanges, plant: Plant, *, is_payload_known: bool
) -> tuple[RobotParameter, ...]:
    """Make the parameters of a robot, with the spread that its spec declares for healthy robots."""
    timestep, model = plant.model.opt.timestep, plant.model

    def spread(bounds: tuple[float, float], least: float) -> float:
        return max(least, float(np.ptp(np.log(bounds))) / 4)

    made = []

    def add(
        name: str, joint: str, std: float, wide: float, healthy: tuple, bounds: tuple, step: float
    ) -> None:
        made.append(
            RobotParameter(
                name=f"{name}/{joint}" if joint else name,
                joint=joint,
                healthy_std=std,
                wide_std=wide,
                healthy=healthy,
                bounds=bounds,
                step=step,
            )
        )

    zero = max(ranges.bias, 0.004)
    weakest, strongest = min(ranges.gain[0], 0.8), ranges.friction[1]
    moved = {each.joint for each in spec.actuators}
    servos = {each.joint for each in spec.actuators if each.is_servo}
    has_limit = {
        each.joint
        for each, number in zip(spec.actuators, plant.actuator_ids, strict=True)
        if model.actuator_forcelimited[number]
    }
    for number, joint in enumerate(spec.joint_names):
        dof = plant.dof_ids[number]
        add("zero", joint, zero, 0.4, (-max(5 * zero, 0.03), max(5 * zero, 0.03)), (-3.0, 3.0), 0.02)
        if joint in servos:
            add("servo_zero", joint, 0.01, 0.4, (-SERVO_ZERO, SERVO_ZERO), (-1.5, 1.5), 0.03)
            add("backlash", joint, 0.01, 0.15, (0.0, 0.035), (0.0, 0.8), 0.02)
        add("scale", joint, 0.01, 0.25, (-np.log(1.06), np.log(1.06)), (-1.0, 1.0), 0.03)
        if joint in moved:
            low = float(np.log(0.8 * weakest))
            add("gain", joint, spread(ranges.gain, 0.1), 1.5, (low, UNLIMITED), (-4.0, 1.5), 0.1)
        if joint in has_limit:
            low = float(np.log(0.55 * min(ranges.torque[0], 0.9)))
            add("torque", joint, spread(ranges.torque, 0.1), 1.0, (low, UNLIMITED), (-3.0, 1.0), -0.1)
        if model.dof_frictionloss[dof] > 0:
            high = float(np.log(1.5 * max(strongest, 1.0)))
            add("friction", joint, spread(ranges.friction, 0.2), 2.0, (-UNLIMITED, high), (-3.0, 4.0), 0.3)
        if model.dof_damping[dof] > 0:
            std = spread(ranges.damping, 0.1)
            add("damping", joint, std, std, (-UNLIMITED, UNLIMITED), (-1.5, 1.5), 0.1)
        std = spread(ranges.mass, 0.05)
        add("mass", joint, std, std, (-UNLIMITED, UNLIMITED), (-1.0, 1.0), 0.1)
    if plant.payload_body_id is not None:
        most = 0.4 * max(ranges.payload[1], 0.2)
        std, wide = (0.005, 0.005) if is_payload_known else (0.02, 0.4)
        add("payload", "", std, wide, (0.0, UNLIMITED if is_payload_known else most), (-1.0, 5.0), 0.05)
    if np.linalg.norm(model.opt.gravity) > 0:
        for axis in ("tilt_x", "tilt_y"):
            most = max(1.3 * ranges.tilt, 0.05)
            add(axis, "", max(ranges.tilt / 3, 0.01), 0.2, (-most, most), (-1.5, 1.5), 0.03)
    longest = max(ranges.delay[1] * timestep, 0.5 * spec.dt)
    add("delay", "", longest / 3, 0.1, (0.0, longest + 0.25 * spec.dt), (0.0, 0.5), 0.008)
    return tuple(made)


def _reverse_command(spec: RobotSpec, wiring: _Wiring, fault: Fault) -> None:
    wiring.command_scale[find_motors(spec, fault.joint)] *= -1


def _reverse_reading(spec: RobotSpec, wiring: _Wiring, fault: Fault) -> None:
    wiring.reading_scale[spec.joint_names.index(fault.joint)] *= -1


def _exchange_motors(spec: RobotSpec, wiring: _Wiring, fault: Fault) -> None:
    pair = [find_motors(spec, name)[0] for name in (fault.joint, fault.other)]
    wiring.command_source[pair] = wiring.command_source[pair[::-1]]


def _exchange_encoders(spec: RobotSpec, wiring: _Wiring, fault: Fault) -> None:
    pair = [spec.joint_names.index(name) for name in (fault.joint, fault.other)]
    wiring.reading_source[pair] = wiring.reading_source[pair[::-1]]


def _stop_encoder(spec: RobotSpec, wiring: _Wiring, fault: Fault) -> None:
    wiring.stuck.append(spec.joint_names.index(fault.joint))


_WIRED_FAULTS: dict[str, Callable[[RobotSpec, _Wiring, Fault], None]] = {
    "reversed_command": _reverse_command,
    "reversed_reading": _reverse_reading,
    "exchanged_motors": _exchange_motors,
    "exchanged_encoders": _exchange_encoders,
    "stuck": _stop_encoder,
}
