"""Arrived readings: what each sensor of a simulated robot sends in a control period, at its own rate and delay."""

from dataclasses import dataclass

import numpy as np

from wm_robot.spec import BASE
from wm_robot_sim.batch import BatchSim


@dataclass(frozen=True)
class ArrivedReading:
    """Reading that arrived in the last control period."""

    sensor: str
    """Name of the sensor, or `base`."""
    age: float
    """Time since its measurement, in s."""
    values: np.ndarray
    """Channels of the sensor, float32."""


class ArrivedReadings:
    """Readings of the first robot of a batch, in the order of their measurement.

    The newest reading of a sensor is that of the observation. Those before it, of a sensor that is faster than the
    control loop, have noise that is drawn here.
    """

    def __init__(self, batch: BatchSim, *, seed: int):
        self._batch, self._rng = batch, np.random.default_rng(seed)
        self._last_steps, self._num_waits = -1, 0

    def take(self) -> list[ArrivedReading]:
        """Return the readings of one control period. Without a step since the last call, they are those of before."""
        batch = self._batch
        self._num_waits = self._num_waits + 1 if batch.steps == self._last_steps else 0
        self._last_steps = batch.steps
        found = []
        if batch.spec.base:
            values = batch.obs[0, batch.spec.layout.find_sensor(BASE)]
            found.append(ArrivedReading(BASE, 0.0, values.copy()))
        for sensor, is_lost in zip(batch.spec.sensors, batch.is_lost[0], strict=True):
            found += self._lose_some(self._list_readings(sensor.name), sensor.loss, bool(is_lost))
        return found

    def _lose_some(self, readings: list[ArrivedReading], loss: float, is_lost: bool) -> list[ArrivedReading]:
        """Return the readings of a period that did not get lost.

        Args:
            is_lost: Whether the observation has a reading of before.
        """
        if loss == 0 or is_lost:
            return [] if is_lost else readings
        # A single reading is that of the observation.
        return readings if len(readings) == 1 else [each for each in readings if self._rng.random() >= loss]

    def _list_readings(self, name: str) -> list[ArrivedReading]:
        batch, sensors = self._batch, self._batch.plant.sensor_readings
        period = batch.steps + self._num_waits
        last = period * batch.plant.substeps
        taken = sensors.list_arrivals(name, period)
        ages = (last - taken) * batch.plant.model.opt.timestep
        newest = batch.obs[0, batch.spec.layout.find_sensor(name)]
        readings = [newest] * len(taken)
        if len(taken) > 1 and not self._num_waits:
            history = batch.sensor_history
            raw = history[taken[:-1] - last + len(history)]
            noise = self._rng.standard_normal((len(raw), sensors.num_channels), np.float32)
            measured = sensors.measure(sensors.compute_channels(raw), noise)
            readings[:-1] = measured[:, sensors.layout.find_sensor(name)]
        return [
            ArrivedReading(name, float(age), values.copy())
            for age, values in zip(ages, readings, strict=True)
        ]
