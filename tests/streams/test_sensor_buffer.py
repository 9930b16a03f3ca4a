"""Readings of one sensor: stored in order, refused with a reason, and counted."""

import numpy as np
import pytest

from tests.streams.message_fakes import make_message
from wm_robot.spec import Sensor
from wm_robot.streams.rejection import BadMessageError, RejectionReason
from wm_robot.streams.sensor_buffer import MAX_READINGS, SensorBuffer, select_field
from wm_robot.streams.sensor_health import MessageRate
from wm_robot.streams.sensor_message import fill_message

MS = 10**6
NOW = 50 * 10**9
WRENCH = Sensor(
    name="wrist", kind="wrench", frame="hand", limits={"force": 100.0, "torque": 10.0}, rate=100.0
)


def make_buffer(sensor=WRENCH):
    return SensorBuffer(sensor, control_rate=50.0)


def wrench(stamp, value):
    return fill_message(make_message("wrench"), WRENCH, np.arange(6.0) + value, stamp=stamp)


def test_the_newest_readings_are_stored_and_those_after_a_stamp_are_left_out():
    buffer = make_buffer()
    for number in range(100):
        stamp = NOW + 10 * number * MS
        buffer.receive_message(wrench(stamp, number), stamp + MS)
    assert (buffer.num_accepted, buffer.num_stored, buffer.rejections.total) == (100, MAX_READINGS, 0)
    found = buffer.find_reading("torque", NOW + 985 * MS, 0)
    assert found.stamp == NOW + 980 * MS
    np.testing.assert_array_equal(select_field(found, WRENCH, "torque"), [101.0, 102.0, 103.0])
    assert buffer.find_reading("torque", NOW + 979 * MS, 0).stamp == NOW + 970 * MS
    assert buffer.find_reading("torque", NOW + 985 * MS, 10 * MS).stamp == NOW + 970 * MS
    assert buffer.find_reading("torque", NOW + 10 * (99 - MAX_READINGS) * MS, 0) is None
    assert buffer.compute_age(NOW + 1000 * MS) == pytest.approx(0.01, abs=1.1e-3)


@pytest.mark.parametrize(
    ("stamp_ms", "arrival_ms", "reason"),
    [
        (0, 1, RejectionReason.DUPLICATE),
        (-10, 1, RejectionReason.OUT_OF_ORDER),
        (10, 200, RejectionReason.STALE),
        (400, 200, RejectionReason.FUTURE),
    ],
)
def test_an_untimely_message_is_refused_and_counted(stamp_ms, arrival_ms, reason):
    buffer = make_buffer()
    buffer.receive_message(wrench(NOW, 1.0), NOW)
    with pytest.raises(BadMessageError) as refused:
        buffer.receive_message(wrench(NOW + stamp_ms * MS, 2.0), NOW + arrival_ms * MS)
    assert refused.value.reason is reason and buffer.last_rejection is refused.value
    assert buffer.rejections.to_dict()[reason.value] == 1 and buffer.num_accepted == 1
    buffer.receive_message(wrench(NOW + 500 * MS, 3.0), NOW + 500 * MS)
    assert buffer.last_rejection is None


def test_a_message_without_stamp_is_refused():
    with pytest.raises(BadMessageError, match="it has no stamp"):
        make_buffer().receive_message(wrench(0, 1.0), NOW)


def test_a_message_in_another_frame_is_counted():
    buffer, message = make_buffer(), wrench(NOW, 1.0)
    message.header.frame_id = "foot"
    with pytest.raises(BadMessageError, match="'foot'"):
        buffer.receive_message(message, NOW)
    assert buffer.rejections.to_dict()["frame"] == 1 and buffer.newest is None


def test_a_field_without_a_number_is_counted_and_an_older_one_is_found():
    buffer = make_buffer()
    buffer.receive_message(wrench(NOW, 1.0), NOW)
    message = wrench(NOW + 10 * MS, 2.0)
    message.wrench.force.y = float("nan")
    buffer.receive_message(message, NOW + 10 * MS)
    assert buffer.find_reading("force", NOW + 10 * MS, 0).stamp == NOW
    assert buffer.find_reading("torque", NOW + 10 * MS, 0).stamp == NOW + 10 * MS
    assert buffer.count_faults()["force"] == 1 and buffer.count_faults()["torque"] == 0


def test_a_message_without_header_counts_from_its_arrival_less_the_delay():
    sensor = Sensor(name="payload", kind="scalar", limits={"value": 1.0}, delay=0.005)
    buffer, message = make_buffer(sensor), make_message("scalar")
    for number in range(3):
        # Under a coarse simulated clock, two messages may have one time of arrival.
        buffer.receive_message(message, NOW + 20 * (number // 2) * MS)
    assert buffer.num_stored == 3
    assert buffer.find_reading("value", NOW + 100 * MS, 0).stamp == NOW + 15 * MS
    assert buffer.find_reading("value", NOW + 14 * MS, 0).stamp == NOW - 5 * MS
    assert buffer.clock_offset == 0


def test_readings_from_before_a_jump_back_of_the_clock_are_discarded():
    buffer = make_buffer()
    buffer.receive_message(wrench(NOW, 1.0), NOW)
    buffer.receive_message(wrench(10**9, 2.0), 10**9 + MS)
    assert buffer.num_stored == 1 and buffer.rejections.total == 0


@pytest.mark.parametrize(("rate", "jitter_ms"), [(500.0, 1.0), (50.0, 5.0), (5.0, 30.0), (0.2, 100.0)])
def test_rate_and_loss_are_those_of_the_sender(rate, jitter_ms):
    rng, counted = np.random.default_rng(0), MessageRate(rate)
    times = np.arange(int(200 * rate)) / rate
    arrivals = np.sort(times + rng.exponential(jitter_ms / 1e3, len(times)))
    for arrival in arrivals:
        counted.add_message(NOW + round(arrival * 1e9))
    now = NOW + round(arrivals[-1] * 1e9)
    assert counted.compute_loss(now) <= 0.011
    assert counted.compute_rate(now) == pytest.approx(rate, rel=0.06)
    # It stops: half of the time that is looked at is without messages.
    window = max(2.0, 20 / rate)
    assert counted.compute_loss(now + round(window / 2 * 1e9)) == pytest.approx(0.5, abs=0.1)
    assert counted.compute_loss(now + round(3 * window * 1e9)) == 1.0
    assert counted.compute_rate(now + round(3 * window * 1e9)) == 0.0


def test_every_other_message_that_is_lost_is_a_loss_of_a_half():
    counted = MessageRate(100.0)
    for number in range(0, 400, 2):
        counted.add_message(NOW + number * 10 * MS)
    assert counted.compute_loss(NOW + 3990 * MS) == pytest.approx(0.5, abs=0.01)
    assert MessageRate(100.0).compute_loss(NOW) == 1.0
