"""Readings that repeat the same bits: frozen where the model predicts a change, and at rest where it does not."""

import numpy as np
import pytest

from wm_robot.adaptation.frozen_readings import FrozenReadings, FrozenReadingsConfig
from wm_robot.errors import ConfigError
from wm_robot.spec import Actuator, Joint, RobotSpec, Sensor

SENSORS = (
    Sensor(name="imu", kind="imu", frame="torso", fields=("angular_velocity", "linear_acceleration")),
    Sensor(
        name="odom",
        kind="odometry",
        frame="torso",
        fields=("linear_velocity",),
        limits={"linear_velocity": 2.0},
        rate=5.0,
    ),
    Sensor(name="battery", kind="battery", nominal=24.0),
    Sensor(name="wrist", kind="wrench", frame="hand", limits={"force": 50.0, "torque": 5.0}, required=True),
)
SPEC = RobotSpec(
    name="two",
    rate=50.0,
    model="none.xml",
    joints=tuple(Joint(name=name, position=(-2.0, 2.0), velocity=5.0, effort=4.0) for name in ("a", "b")),
    actuators=(Actuator(name="a", joint="a", kind="position", range=(-2.0, 2.0), rate=10.0),),
    sensors=SENSORS,
)
LAYOUT = SPEC.layout
SIZE = SPEC.obs_dim
GYRO = LAYOUT.find_channels("imu/angular_velocity")
VELOCITY = LAYOUT.find_channels("odom/linear_velocity")
VOLTAGE = LAYOUT.find_channels("battery/voltage")
FORCE = LAYOUT.find_channels("wrist/force")
DEVIATION = 0.1


class Run:
    """A robot whose readings all change by known amounts; a model whose errors are known."""

    def __init__(self, seed=0):
        self.rng, self.found = np.random.default_rng(seed), FrozenReadings(SPEC)
        self.reading, self.step = np.zeros(SIZE, np.float32), 0

    def observe(self, reading, mean, *, is_new=None, **options):
        self.reading = np.asarray(reading, np.float32)
        self.found.update(
            self.step,
            self.reading,
            np.asarray(mean, float),
            np.full(SIZE, DEVIATION),
            is_new=is_new,
            **options,
        )
        self.step += 1
        return self.found.find_frozen(self.reading)

    def move(self, *, still=(), change=1.0, error=1.0):
        """One step of motion: channels change and are predicted, and those of `still` repeat their bits."""
        truth = change * np.sin(0.5 * self.step + np.arange(SIZE))
        reading = truth.copy()
        for channels in still:
            reading[channels] = self.reading[channels]
        return self.observe(reading, truth + error * DEVIATION * self.rng.standard_normal(SIZE))


def test_a_field_is_frozen_after_ten_equal_readings_in_motion_and_its_channels_are_masked():
    run = Run()
    for _ in range(30):
        assert run.move() == ()
    for _ in range(9):
        assert run.move(still=[GYRO]) == ()
    assert run.move(still=[GYRO]) == ("imu/angular_velocity",)
    masked = run.found.mask(run.reading)
    assert np.flatnonzero(np.isnan(masked)).tolist() == list(range(GYRO.start, GYRO.stop))
    assert run.found.counts == {"frozen_readings": 1}
    assert not run.found.has_frozen_required(run.reading)
    for _ in range(20):
        assert run.move(still=[GYRO]) == ("imu/angular_velocity",)
    before = run.reading.copy()
    assert run.move() == () and not np.isnan(run.found.mask(run.reading)).any()
    assert run.found.mask(before) is before
    assert [event.description for event in run.found.events] == [
        "reading 'imu/angular_velocity' is frozen: its bits repeat while a change is predicted",
        "reading 'imu/angular_velocity' changes again",
    ]


def test_a_reading_is_masked_until_its_bits_change_before_the_next_transition_is_complete():
    run = Run()
    for _ in range(5):
        run.move()
    while not run.found.find_frozen(run.reading):
        run.move(still=[GYRO])
    frozen, changed = run.reading.copy(), run.reading.copy()
    changed[GYRO.start] += 1e-3
    # An agent acts on the new reading first, and learns from the transition to it later.
    assert run.found.mask(changed) is changed and run.found.find_frozen(changed) == ()
    assert np.isnan(run.found.mask(frozen)[GYRO]).all()


def test_one_channel_that_changes_keeps_its_field_alive():
    run = Run()
    for _ in range(50):
        assert run.move(still=[slice(GYRO.start, GYRO.stop - 1)]) == ()


def test_a_sensor_that_sticks_at_zero_is_frozen():
    run = Run()
    for _ in range(30):
        run.move()
    found = ()
    for _ in range(20):
        truth = np.sin(0.5 * run.step + np.arange(SIZE))
        reading = truth.copy()
        reading[GYRO] = 0.0
        found = run.observe(reading, truth)
    assert found == ("imu/angular_velocity",)


def test_a_reading_that_freezes_at_rest_is_frozen_once_the_robot_moves():
    run = Run()
    run.move()
    rest = run.reading.copy()
    for _ in range(200):
        assert run.observe(rest, rest) == ()
    found = [run.move(still=[GYRO]) for _ in range(3)]
    assert found[-1] == ("imu/angular_velocity",)


def test_a_joint_freezes_alone_and_required_channels_are_not_masked():
    run = Run()
    for _ in range(10):
        run.move()
    for _ in range(12):
        found = run.move(still=[slice(1, 2), FORCE])
    assert found == ("b/position", "wrist/force")
    assert run.found.has_frozen_required(run.reading)
    assert run.found.mask(run.reading) is run.reading


@pytest.mark.parametrize("seed", range(5))
def test_a_robot_at_rest_is_not_frozen_whatever_the_constant_error_of_its_model(seed):
    run = Run(seed)
    for _ in range(10):
        run.move()
    rest = run.reading.copy()
    # The same error at every step, from the moment that it came to rest.
    mean = rest + DEVIATION * run.rng.standard_normal(SIZE)
    for _ in range(1000):
        assert run.observe(rest, mean) == ()
    # And a model that errs by chance.
    for _ in range(1000):
        assert run.observe(rest, rest + DEVIATION * run.rng.standard_normal(SIZE)) == ()


@pytest.mark.parametrize("pull", [0.0, 1.0])
def test_a_constant_battery_is_not_frozen_where_the_model_expects_another_voltage(pull):
    """A base was trained with the nominal voltage and noise: it predicts that whatever it reads."""
    run = Run()
    for _ in range(2000):
        truth = np.sin(0.5 * run.step + np.arange(SIZE))
        truth[VOLTAGE] = 23.1 if run.step < 1000 else 22.7
        mean = truth + DEVIATION * run.rng.standard_normal(SIZE)
        mean[VOLTAGE] = (
            (1 - pull) * truth[VOLTAGE] + pull * 24.0 + 0.5 * DEVIATION * run.rng.standard_normal()
        )
        assert run.observe(truth, mean) == ()


def test_a_slow_sensor_is_not_frozen_between_its_messages():
    run = Run()
    is_new = np.ones(SIZE, bool)
    for _ in range(500):
        truth = np.sin(0.2 * run.step + np.arange(SIZE))
        reading = truth.copy()
        is_new[VELOCITY] = run.step % 10 == 0
        if run.step % 10:
            reading[VELOCITY] = run.reading[VELOCITY]
        # The model predicts the truth, and not when a message comes.
        assert run.observe(reading, truth, is_new=is_new) == ()


def test_a_slow_sensor_is_frozen_after_ten_messages():
    run = Run()
    is_new, found = np.ones(SIZE, bool), ()
    for _ in range(30):
        run.move()
    count = 0
    while not found:
        truth = np.sin(0.2 * run.step + np.arange(SIZE))
        reading = truth.copy()
        reading[VELOCITY] = run.reading[VELOCITY]
        is_new[VELOCITY] = run.step % 10 == 0
        count += run.step % 10 == 0
        found = run.observe(reading, truth, is_new=is_new)
    assert found == ("odom/linear_velocity",) and count == 10


def test_steps_without_a_reading_or_a_prediction_count_nothing():
    run = Run()
    for _ in range(10):
        run.move()
    for _ in range(5):
        run.move(still=[GYRO])
    gap = run.reading.copy()
    gap[GYRO] = np.nan
    mean = run.reading.copy()
    mean[GYRO] = 9.0
    for _ in range(20):
        assert run.observe(gap, mean) == ()
    last, run = mean, Run()
    run.observe(last, last)
    for _ in range(20):
        assert run.observe(last, last + 5.0, is_predicted=False) == ()


def test_a_config_without_readings_is_refused():
    with pytest.raises(ConfigError, match=r"frozen_readings.num_readings is 0; it must be at least 1"):
        FrozenReadingsConfig(num_readings=0)
