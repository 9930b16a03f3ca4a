"""Sensor readings: the channels of a spec's sensors from MuJoCo's, with delay, rate, noise and resolution."""

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import mujoco
import numpy as np
from jaxtyping import Bool, Float

from wm_robot.errors import SpecError
from wm_robot.spec import ChannelLayout, RobotSpec, Sensor
from wm_robot.spec.sensors import DISTANCE_KINDS
from wm_robot_sim.sensor_elements import BEAMS_PER_SECTOR, list_elements, name_effort_sensor

ROUNDING = 1e-6
"""Part of a physics step by which a time may be off: 0.02 s are 10 steps of 0.002 s."""


@dataclass(frozen=True)
class SensorTiming:
    """Timing of a sensor in physics steps: which reading is the newest one at each control step."""

    period: float
    """Time from one reading to the next; 0: one reading for each control step."""
    delay: float

    def find_readings(self, control_steps: np.ndarray, substeps: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the newest reading at some control steps.

        Returns:
            Number of the physics step before which it is taken, and whether it arrived since the last control step.
        """
        arrives_by = control_steps * substeps - self.delay
        if self.period == 0:
            taken, is_new = arrives_by, np.ones(len(control_steps), bool)
        else:
            number = np.floor(arrives_by / self.period + ROUNDING)
            before = np.floor((arrives_by - substeps) / self.period + ROUNDING)
            taken, is_new = number * self.period, number > before
        # MuJoCo has no reading after the last physics step yet.
        return np.minimum(np.floor(taken + ROUNDING).astype(int), control_steps * substeps - 1), is_new

    def list_arrivals(self, control_step: int, substeps: int) -> np.ndarray:
        """List the readings that arrive in the control period before a control step, the oldest first.

        Returns:
            Numbers of the physics steps before which they are taken; the last is that of `find_readings`.
        """
        (before, newest), (_, is_new) = self.find_readings(
            np.array([control_step - 1, control_step]), substeps
        )
        if self.period == 0 or not is_new:
            return np.array([newest] * bool(is_new), int)
        first, last = (
            np.floor((step * substeps - self.delay) / self.period + ROUNDING)
            for step in (control_step - 1, control_step)
        )
        taken = np.floor(np.arange(first + 1, last + 1) * self.period + ROUNDING)
        # As late as the newest one lets them be, each by a physics step.
        taken = np.minimum(taken, newest - np.arange(len(taken))[::-1]).astype(int)
        return taken[taken > before]


class SensorReadings:
    """Readings of the sensors of a spec in a compiled model.

    Its raw numbers are those of MuJoCo's sensors at `columns` of the sensor data.
    """

    def __init__(self, spec: RobotSpec, model: mujoco.MjModel):
        """Raises:
        SpecError: If the source of a sensor is not in the model, or has another size.
        """
        self._spec, self._model = spec, model
        self.layout = ChannelLayout(
            tuple(g for sensor in spec.sensors for g in sensor.make_groups(spec.rate))
        )
        self.num_channels = len(self.layout.names)
        self._substeps = round(spec.dt / model.opt.timestep)
        columns: list[int] = []
        self._raw: list[tuple[Sensor, str, slice]] = []
        """Each field with its raw numbers."""
        for sensor in spec.sensors:
            for name in sensor.fields:
                found = self._find_columns(sensor, name)
                self._raw.append((sensor, name, slice(len(columns), len(columns) + len(found))))
                columns += found
        self.columns = np.array(columns, int)
        self._columns_of = {
            sensor.name: slice(
                min(own.start for each, _, own in self._raw if each is sensor),
                max(own.stop for each, _, own in self._raw if each is sensor),
            )
            for sensor in spec.sensors
        }
        """Raw numbers of each sensor."""
        step = model.opt.timestep
        self._timings = {
            sensor.name: SensorTiming(1 / (sensor.rate * step) if sensor.rate else 0.0, sensor.delay / step)
            for sensor in spec.sensors
        }
        longest = max((timing.delay for timing in self._timings.values()), default=0.0)
        self.history_steps = int(np.ceil(longest)) + self._substeps + 2
        """Physics steps before a control step of which a reading may be."""
        self._noise_std, self._resolution = (
            np.array([value for s, name, _ in self._raw for value in [getattr(s, part)[name]] * s.count_values(name)])
            for part in ("noise", "resolution")
        )  # fmt: skip
        self._farthest = np.array(
            [
                s.limits[name] if s.kind in DISTANCE_KINDS else np.inf
                for s, name, _ in self._raw
                for _ in range(s.count_values(name))
            ]
        )
        self._quantized, self._is_distance = self._resolution > 0, np.isfinite(self._farthest)
        self._loss_quantile = np.array([_find_loss_quantile(sensor, spec.rate) for sensor in spec.sensors])

    @cached_property
    def effort_columns(self) -> np.ndarray:
        """Columns of the sensor data with the efforts of the joints, `J`; none where they are not observed."""
        if "effort" not in self._spec.interfaces:
            return np.zeros(0, int)
        columns = []
        for joint in self._spec.joint_names:
            number = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_SENSOR, name_effort_sensor(joint))
            if number < 0:
                raise SpecError(
                    f"robot '{self._spec.name}' observes the effort of joint '{joint}', which has no name in "
                    f"{self._spec.model}. Name it there, or remove 'effort' from interfaces"
                )
            columns.append(int(self._model.sensor_adr[number]))
        return np.array(columns)

    def _find_columns(self, sensor: Sensor, name: str) -> list[int]:
        """Find the columns of a field in the sensor data."""
        if sensor.source:
            return self._find_source(sensor, name)
        columns: list[int] = []
        for element in list_elements(sensor, name):
            found = self._model.sensor(element.name)
            columns += range(int(found.adr[0]), int(found.adr[0] + found.dim[0]))
        return columns[2:] if name == "height" else columns

    def _find_source(self, sensor: Sensor, name: str) -> list[int]:
        kind, wanted = mujoco.mjtObj.mjOBJ_SENSOR, sensor.count_values(name)
        number = mujoco.mj_name2id(self._model, kind, sensor.source)
        label = (
            f"robot '{self._spec.name}' contradicts its model {self._spec.model}: sensor '{sensor.name}' has"
        )
        if number < 0:
            names = (mujoco.mj_id2name(self._model, kind, n) for n in range(self._model.nsensor))
            raise SpecError(
                f"{label} the source '{sensor.source}' in the spec, and the model has no sensor of that name; it has "
                f"{[each for each in names if each]}"
            )
        size, first = int(self._model.sensor_dim[number]), int(self._model.sensor_adr[number])
        if size != wanted:
            raise SpecError(
                f"{label} {wanted} values in the spec, and its source '{sensor.source}' has {size} in the model"
            )
        return list(range(first, first + size))

    def compute_channels(self, raw: Float[np.ndarray, "*B R"]) -> Float[np.ndarray, "*B C"]:
        """Compute the channels of raw numbers, without noise."""
        parts = []
        for sensor, name, columns in self._raw:
            values = raw[..., columns]
            if columns.start == columns.stop:
                values = np.full((*raw.shape[:-1], sensor.count_values(name)), sensor.nominal)
            elif sensor.kind in DISTANCE_KINDS:
                # Negative where a beam meets nothing.
                seen = np.where(values < 0, sensor.limits[name], np.minimum(values, sensor.limits[name]))
                values = (
                    seen.reshape(*seen.shape[:-1], sensor.size, BEAMS_PER_SECTOR).min(-1)
                    if sensor.kind == "scan"
                    else seen
                )
            parts.append(values)
        return np.concatenate(parts, -1)

    def measure(
        self, channels: Float[np.ndarray, "*B C"], noise: Float[np.ndarray, "*B C"]
    ) -> Float[np.ndarray, "*B C"]:
        """Return readings of true channels, float32: with noise, quantised, and rotations that are orthonormal.

        Args:
            noise: Standard normal.
        """
        values = channels + self._noise_std * noise
        if self._quantized.any():
            step = np.where(self._quantized, self._resolution, 1.0)
            values = np.where(self._quantized, np.round(values / step) * step, values)
        if self._is_distance.any():
            values = np.where(self._is_distance, np.clip(values, 0.0, self._farthest), values)
        return self.layout.normalize(values).astype(np.float32)

    def list_arrivals(self, name: str, control_step: int) -> np.ndarray:
        """List the readings of a sensor that arrive before a control step; see `SensorTiming.list_arrivals`."""
        return self._timings[name].list_arrivals(control_step, self._substeps)

    @property
    def has_loss(self) -> bool:
        """Whether readings may get lost."""
        return bool(np.isfinite(self._loss_quantile).any())

    def find_lost(self, noise: Float[np.ndarray, "B T S"]) -> Bool[np.ndarray, "B T S"]:
        """Find the control steps before which all readings of a sensor get lost.

        Args:
            noise: Standard normal.
        """
        return np.asarray(noise < self._loss_quantile)

    def select_newest(
        self,
        history: Float[np.ndarray, "B N R"],
        first: int,
        held: Float[np.ndarray, "B C"],
        noise: Float[np.ndarray, "B T C"],
        steps: int,
        lost: Bool[np.ndarray, "B T S"] | None = None,
    ) -> Float[np.ndarray, "B T C"]:
        """Select the newest reading at each of `T` control steps; between two readings, the last one is held.

        Args:
            history: Raw numbers at successive physics steps.
            first: Number of the first of these physics steps.
            held: Readings at the control step before.
            noise: Standard normal, for the readings that arrive at each step.
            steps: Number of the control step before.
            lost: From `find_lost`; None: nothing.
        """
        count = noise.shape[1]
        control_steps = steps + 1 + np.arange(count)
        raw = np.empty((len(history), count, len(self.columns)))
        rows = 1 if lost is None else len(history)
        sources = np.tile(1 + np.arange(count)[:, None], (rows, 1, self.num_channels))
        is_held = False
        for sensor, (name, timing) in enumerate(self._timings.items()):
            taken, is_new = timing.find_readings(control_steps, self._substeps)
            columns = self._columns_of[name]
            # A reading that arrived before may be out of the history: it is held, and not read again.
            raw[..., columns] = history[:, np.maximum(taken - first, 0), columns]
            arrived = is_new[None] if lost is None else is_new & ~lost[..., sensor]
            if not arrived.all():
                is_held = True
                # Zero is the reading of before; the readings of these steps follow it.
                last = np.maximum.accumulate(np.where(arrived, 1 + np.arange(count), 0), 1)
                sources[..., self.layout.find_sensor(name)] = last[..., None]
        fresh = self.measure(self.compute_channels(raw), noise)
        if not is_held:
            return fresh
        known = np.concatenate([held[:, None], fresh], 1)
        return np.take_along_axis(known, np.broadcast_to(sources, (len(known), *sources.shape[1:])), 1)


def _find_loss_quantile(sensor: Sensor, control_rate: float) -> float:
    """Find the normal quantile of the chance that all readings of a control period get lost; -inf without loss."""
    chance = sensor.loss ** max(1.0, sensor.rate / control_rate)
    return NormalDist().inv_cdf(chance) if chance > 0 else -np.inf
