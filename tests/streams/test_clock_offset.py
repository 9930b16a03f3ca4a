"""Clocks of other machines: estimated where they are near, and reported where they are not."""

import numpy as np
import pytest

from wm_robot.streams.clock_offset import MESSAGES_TO_REPORT, ClockOffset

MS = 10**6
START = 1_000 * 10**9


def feed(clock, *, offset_ms, latency_ms=0.0, period_ms=20, count=50, start_ms=0.0, drift=0.0):
    """Messages of a sender whose clock is behind by an offset, and drifts; the time of the last one, in ms."""
    latencies = np.broadcast_to(latency_ms, count)
    for number in range(count):
        time = start_ms + period_ms * number
        behind = offset_ms + drift * time
        clock.add_message(START + round((time - behind) * MS), START + round((time + latencies[number]) * MS))
    return start_ms + period_ms * count


@pytest.mark.parametrize("offset_ms", [-30, -3, 0, 30])
def test_the_offset_is_that_of_the_message_that_was_least_late(offset_ms):
    clock = ClockOffset()
    latency = np.random.default_rng(0).exponential(5.0, 50)
    feed(clock, offset_ms=offset_ms, latency_ms=latency)
    assert offset_ms * MS <= clock.offset <= (offset_ms + latency.min() + 1.0) * MS
    assert clock.reported_offset is None


def test_the_delay_of_a_sensor_is_no_offset():
    clock = ClockOffset(delay=0.03)
    feed(clock, offset_ms=0, latency_ms=30)
    assert clock.offset == 0


@pytest.mark.parametrize("drift", [5e-4, -5e-4])
def test_a_clock_that_drifts_is_followed(drift):
    clock = ClockOffset()
    latency = np.random.default_rng(0).exponential(2.0, 3000)
    end = feed(clock, offset_ms=0, latency_ms=latency, count=3000, drift=drift)
    assert clock.offset / MS == pytest.approx(drift * end, abs=2.0)


def test_messages_that_become_late_are_late_and_no_offset():
    clock = ClockOffset()
    end = feed(clock, offset_ms=0)
    feed(clock, offset_ms=0, latency_ms=40, start_ms=end, count=100)
    assert clock.offset <= 2.1 * MS


def test_one_false_stamp_changes_nothing():
    clock = ClockOffset()
    end = feed(clock, offset_ms=0)
    feed(clock, offset_ms=-10_000, start_ms=end, count=1)
    assert clock.offset == 0 and clock.reported_offset is None


@pytest.mark.parametrize("offset_ms", [-200, 80])
def test_an_offset_that_is_too_large_is_reported_and_not_corrected(offset_ms):
    clock = ClockOffset()
    feed(clock, offset_ms=offset_ms, count=MESSAGES_TO_REPORT - 1)
    assert clock.reported_offset is None
    end = feed(clock, offset_ms=offset_ms, count=1)
    assert clock.offset == 0 and clock.reported_offset == pytest.approx(offset_ms / 1e3)
    feed(clock, offset_ms=0, start_ms=end, count=1)
    assert clock.reported_offset is None
