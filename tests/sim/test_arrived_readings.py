"""Readings that the sensors of a simulated robot send: each at its own rate, with its age, and in order."""

import numpy as np
import pytest

from tests.sim.sensing_robots import make_crawler, make_sensor
from wm_robot_sim.robot import SimRobot

pytestmark = pytest.mark.sim

PER = 5
"""Physics steps in a control period, of 4 ms."""


def collect(spec, *, waits, steps):
    """Readings by sensor, as stamps in s and values, over periods of which the first have no motion."""
    robot = SimRobot(spec, seed=0)
    found = {name: [] for name in spec.layout.sensor_names}
    for period in range(waits + steps):
        if period >= waits:
            robot.write(robot.last_action)
        for reading in robot.take_readings():
            found[reading.sensor].append((period * spec.dt - reading.age, reading.values))
        newest = robot.read().values
        for name, readings in found.items():
            if readings:
                np.testing.assert_array_equal(readings[-1][1], newest[spec.layout.find_sensor(name)])
    return found


@pytest.mark.parametrize("waits", [0, 3])
def test_each_sensor_sends_at_its_rate_in_order_and_the_newest_is_that_of_the_observation(tmp_path, waits):
    spec = make_crawler(
        tmp_path,
        make_sensor("imu", rate=250, noise=0.1),
        make_sensor("hip", rate=100, delay=0.013),
        make_sensor("odom", rate=5),
        make_sensor("leg"),
    )
    found = collect(spec, waits=waits, steps=50)
    counts = {"base": 50, "imu": 250, "hip": 100, "odom": 5, "leg": 50}
    for name, count in counts.items():
        stamps = np.array([stamp for stamp, _ in found[name]])
        assert (np.diff(stamps) > 0).all(), name
        expected = (50 + waits) / 50 * count
        assert expected - 1 <= len(stamps) <= expected + max(2, count / 50)
    imu = np.array([values for _, values in found["imu"][-20:]])
    assert len(np.unique(imu[:, -1])) == 20, "each has its own noise"
    assert np.diff([stamp for stamp, _ in found["imu"][-20:]]) == pytest.approx(np.full(19, 0.004))


def test_a_delayed_reading_is_as_old_as_it_says(tmp_path):
    spec = make_crawler(tmp_path, make_sensor("leg", delay=0.04, source="leg"))
    robot = SimRobot(spec, seed=0)
    seen = []
    for step in range(30):
        robot.write(np.full(4, 0.5 * np.sin(step / 3), np.float32))
        (base, reading) = robot.take_readings()
        assert (base.sensor, base.age) == ("base", 0.0)
        assert reading.age == pytest.approx(0.04)
        seen.append((robot.read().values[0], reading.values[0]))
    joint, sent = np.array(seen).T
    # Two control periods before; the joint has noise.
    assert np.abs(sent[2:] - joint[:-2]).max() < 0.02 < np.abs(sent - joint).max()


def test_a_lost_reading_is_not_sent(tmp_path):
    sensors = [make_sensor("imu", rate=250, noise=0.1), make_sensor("leg"), make_sensor("odom")]
    spec = make_crawler(tmp_path, *({**each, "loss": 0.2} for each in sensors[:2]), sensors[2])
    robot, sent, held = SimRobot(spec, seed=0), dict.fromkeys(spec.layout.sensor_names, 0), 0
    for _ in range(400):
        robot.write(robot.last_action)
        before = dict(sent)
        for reading in robot.take_readings():
            sent[reading.sensor] += 1
            if reading.sensor == "leg":
                assert reading.age < 0.02
        held += sent["leg"] == before["leg"]
    assert sent["odom"] == 400 and sent["leg"] == pytest.approx(320, abs=30) and held == 400 - sent["leg"]
    assert sent["imu"] == pytest.approx(1600, abs=60)
