"""Noisy readings: noise is found and ends; what a robot has to learn is no noise."""

from dataclasses import replace

import numpy as np
import pytest

from tests.adaptation.test_frozen_readings import SPEC
from wm_robot.adaptation.noisy_readings import NoisyReadings, NoisyReadingsConfig
from wm_robot.errors import ConfigError

LAYOUT = SPEC.layout
OPTIONAL = [
    (group.kind, channels)
    for group, channels in LAYOUT.slices
    if group.sensor != "joints" and not group.is_required
]
FIELD, CHANNELS = OPTIONAL[0]
SIZE = len(LAYOUT.names)


class Run:
    """A robot whose model predicts zeros with a deviation of one."""

    def __init__(self, seed: int = 0):
        self.rng, self.found, self.step = np.random.default_rng(seed), NoisyReadings(SPEC), 0
        self.reading = np.zeros(SIZE, np.float32)

    def live(self, steps: int, *, noise=1.0, field=1.0, offset=0.0, new_every: int = 1) -> "Run":
        """Live with noise of all channels and of the field, in deviations, and an offset of the field's readings."""
        for _ in range(steps):
            is_new = np.full(SIZE, True)
            is_new[CHANNELS] = self.step % new_every == 0
            drawn = noise * self.rng.standard_normal(SIZE)
            drawn[CHANNELS] = offset + field * self.rng.standard_normal(CHANNELS.stop - CHANNELS.start)
            self.reading = np.where(is_new, drawn, self.reading).astype(np.float32)
            self.found.update(self.step, self.reading, np.zeros(SIZE), np.ones(SIZE), is_new=is_new)
            self.step += 1
        return self

    @property
    def noisy(self) -> tuple[str, ...]:
        return self.found.find_noisy()


def test_noise_is_found_within_some_readings_and_masked_until_it_ends():
    run = Run().live(200)
    assert run.noisy == ()
    run.live(8, field=10.0)
    assert run.noisy == (FIELD,)
    masked = run.found.mask(run.reading)
    assert np.isnan(masked[CHANNELS]).all() and np.isfinite(np.delete(masked, np.r_[CHANNELS])).all()
    run.live(500, field=10.0)
    assert run.noisy == (FIELD,), "what lasts does not become usual"
    run.live(60)
    assert run.noisy == () and run.found.mask(run.reading) is run.reading
    assert run.found.counts == {"noisy_readings": 1}
    assert [event.description for event in run.found.events] == [
        f"reading '{FIELD}' jumps more than is predicted",
        f"reading '{FIELD}' is as predicted again",
    ]


@pytest.mark.parametrize("seed", range(5))
def test_ordinary_noise_is_none(seed):
    assert Run(seed).live(3000).found.counts == {"noisy_readings": 0}


def test_a_change_of_the_robot_that_a_sensor_feels_is_to_be_learned():
    run = Run().live(200).live(100, offset=8.0)
    assert run.found.counts == {"noisy_readings": 0}


def test_one_wrong_reading_is_no_noise():
    run = Run().live(200).live(1, offset=1e4).live(30)
    assert run.found.counts == {"noisy_readings": 0}


def test_where_the_whole_robot_is_surprising_no_sensor_is_at_fault():
    run = Run().live(200)
    for _ in range(100):
        run.live(1, noise=8.0, field=8.0)
    assert run.found.counts == {"noisy_readings": 0}


def test_a_field_that_the_model_predicts_badly_is_compared_with_itself():
    run = Run()
    for noise in np.linspace(1.0, 6.0, 60):
        run.live(60, field=noise)
    run.live(300, field=6.0)
    assert run.noisy == ()
    assert run.live(20, field=60.0).noisy == (FIELD,)


def test_a_slow_sensor_is_judged_by_its_new_readings():
    run = Run().live(1000, new_every=5).live(15, field=10.0, new_every=5)
    assert run.noisy == ()
    assert run.live(25, field=10.0, new_every=5).noisy == (FIELD,)


def test_a_sensor_that_is_silent_stays_as_it_was():
    run = Run().live(200).live(8, field=10.0)
    run.found.update(run.step, np.full(SIZE, np.nan, np.float32), np.zeros(SIZE), np.ones(SIZE))
    assert run.noisy == (FIELD,)


def test_required_channels_are_never_masked():
    spec = replace(SPEC, sensors=tuple(replace(sensor, required=True) for sensor in SPEC.sensors))
    assert NoisyReadings(spec).find_noisy() == () and not NoisyReadings(spec)._names


def test_a_ratio_below_one_is_refused():
    with pytest.raises(ConfigError, match=r"noisy_readings.ratio is 0.5; it must be at least 1"):
        NoisyReadingsConfig(ratio=0.5)
