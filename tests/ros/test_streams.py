"""Which commands are in force, which transitions are lived, and how time is counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.ros

from wm_robot.control.histogram import Histogram
from wm_robot.streams.command_buffer import CommandBuffer
from wm_robot.streams.rejection import RejectionReason, check_stamp
from wm_robot.streams.transition_assembler import TransitionAssembler

MS = 1_000_000
START = 10**18
PERIOD = 20 * MS


def at(step: float) -> int:
    return START + round(step * PERIOD)


def obs(step: int) -> np.ndarray:
    return np.full(2, step, np.float32)


def act(step: int) -> np.ndarray:
    return np.full(1, 100 + step, np.float32)


def intake(**changes) -> CommandBuffer:
    parts = {"is_servo": np.array([True, False]), "max_age": 0.1, "timeout": 0.5, **changes}
    return CommandBuffer(np.float32([0.5, 0.5]), **parts)


def pairing() -> TransitionAssembler:
    return TransitionAssembler(period=0.02, max_age=0.1)


@pytest.mark.parametrize(
    ("stamp", "now", "expected"),
    [
        (at(1), at(1), None),
        (at(1), at(1) + 99 * MS, None),
        (0, at(1), RejectionReason.NO_STAMP),
        (at(0), at(1), RejectionReason.DUPLICATE),
        (at(-1), at(1), RejectionReason.OUT_OF_ORDER),
        (at(1), at(1) + 101 * MS, RejectionReason.STALE),
        (at(9), at(1), RejectionReason.FUTURE),
    ],
)
def test_a_stamp_that_may_not_follow_says_why(stamp, now, expected):
    assert check_stamp(stamp, now, at(0), 100 * MS) is expected


def test_after_a_clock_was_set_back_messages_pass_again():
    hour = 3600 * 10**9
    assert check_stamp(at(1) - hour, at(1) - hour, at(0), 100 * MS) is None


def test_the_last_good_command_is_held():
    plant = intake()
    np.testing.assert_array_equal(plant.take_command(at(0)), [0.5, 0.5])
    assert plant.offer_command(np.float32([1, 2]), at(1), at(1), time=at(1)) is None
    for step in (1, 2, 3):
        np.testing.assert_array_equal(plant.take_command(at(step)), [1, 2])
    assert (plant.num_accepted, plant.silent_periods, plant.longest_silence) == (1, 2, 2)


def test_a_refused_command_changes_nothing():
    plant = intake()
    plant.offer_command(np.float32([1, 2]), at(5), at(5), time=at(5))
    for stamp in (at(5), at(4), at(-10), 0, at(50)):
        assert plant.offer_command(np.float32([9, 9]), stamp, at(6), time=at(6)) is not None
    np.testing.assert_array_equal(plant.take_command(at(6)), [1, 2])
    counts = plant.rejections.to_dict()
    assert (counts["duplicate"], counts["out_of_order"], counts["no_stamp"], counts["future"]) == (1, 2, 1, 1)
    assert plant.offer_command(np.float32([9, 9]), at(6), at(20), time=at(20)) is RejectionReason.STALE


def test_whoever_ended_commands_no_more_and_a_new_command_counts_again():
    plant = intake()
    plant.offer_command(np.float32([1, 2]), at(1), at(1), time=at(1))
    plant.hold_position()
    # The servo keeps its target, the motor is released: as after a long silence.
    np.testing.assert_array_equal(plant.take_command(at(1)), [1, 0])
    assert plant.is_holding
    plant.offer_command(np.float32([3, 4]), at(2), at(2), time=at(2))
    np.testing.assert_array_equal(plant.take_command(at(2)), [3, 4])
    assert not plant.is_holding and plant.num_silent_periods == 0
    plant.take_command(at(3))
    plant.take_command(at(4))
    assert plant.num_silent_periods == 2


def test_what_is_untimely_is_known_without_what_it_says():
    plant, stream = intake(), pairing()
    plant.offer_command(np.float32([1, 2]), at(5), at(5), time=at(5))
    stream.add_observation(at(5), at(5), obs(5))
    for part in (plant, stream):
        assert part.reject_untimely(at(4), at(5)) is RejectionReason.OUT_OF_ORDER
        assert part.reject_untimely(at(5), at(5)) is RejectionReason.DUPLICATE
        assert part.reject_untimely(at(6), at(6)) is None
        assert part.rejections.total == 2


def test_after_a_long_silence_a_servo_keeps_its_target_and_a_motor_is_released():
    plant = intake()
    plant.offer_command(np.float32([1, 2]), at(0), at(0), time=at(0))
    np.testing.assert_array_equal(plant.take_command(at(25)), [1, 2])
    assert not plant.is_holding
    np.testing.assert_array_equal(plant.take_command(at(26)), [1, 0])
    assert plant.is_holding
    plant.offer_command(np.float32([3, 4]), at(27), at(27), time=at(27))
    np.testing.assert_array_equal(plant.take_command(at(28)), [3, 4])
    assert not plant.is_holding


def test_silence_is_noticed_whatever_the_systems_clock_does():
    plant, hour = intake(), 3600 * 10**9
    plant.offer_command(np.float32([1, 2]), at(0) + hour, at(0) + hour, time=at(0))
    assert plant.offer_command(np.float32([3, 4]), at(1), at(1), time=at(1)) is None
    np.testing.assert_array_equal(plant.take_command(at(27)), [3, 0])
    assert plant.is_holding


def test_after_a_clock_was_set_back_transitions_are_valid_again():
    stream, hour = pairing(), 3600 * 10**9
    for step in range(12):
        stream.add_applied(at(step) + hour, act(step))
        stream.add_observation(at(step) + hour, at(step) + hour, obs(step))
        stream.take_transition()
    lived = []
    for step in range(12, 20):
        stream.add_applied(at(step), act(step))
        assert stream.add_observation(at(step), at(step), obs(step)) is None
        assert stream.last_applied[0] == 100 + step
        lived.append(stream.take_transition())
    assert [one.valid for one in lived] == [False] + [True] * 7


def test_silence_before_the_first_command_is_not_counted():
    plant = intake()
    for step in range(100):
        plant.take_command(at(step))
    assert (plant.has_started, plant.silent_periods, plant.is_holding) == (False, 0, False)


def test_an_observation_is_paired_with_the_command_of_its_stamp():
    stream = pairing()
    lived = []
    for step in range(5):
        stream.add_applied(at(step), act(step))
        assert stream.add_observation(at(step), at(step) + MS, obs(step)) is None
        lived.append(stream.take_transition())
        assert stream.take_transition() is None
    assert lived[0] is None
    for step, one in enumerate(lived[1:], 1):
        assert one.valid and one.stamp == at(step)
        assert (one.obs[0], one.applied[0], one.next_obs[0]) == (step - 1, 100 + step, step)
    assert stream.rejections.total == 0


def test_a_command_that_comes_after_its_observation_is_waited_for():
    stream = pairing()
    stream.add_applied(at(0), act(0))
    stream.add_observation(at(0), at(0), obs(0))
    stream.add_observation(at(1), at(1), obs(1))
    assert stream.take_transition() is None and not stream.is_overdue
    stream.add_applied(at(1), act(1))
    one = stream.take_transition()
    assert one.valid and one.applied[0] == 101


def test_a_command_that_never_comes_makes_its_transition_invalid_and_not_the_next():
    stream = pairing()
    stream.add_applied(at(0), act(0))
    stream.add_observation(at(0), at(0), obs(0))
    stream.add_observation(at(1), at(1), obs(1))
    stream.add_applied(at(2), act(2))
    stream.add_observation(at(2), at(2), obs(2))
    assert stream.is_overdue
    first, second = stream.take_transition(), stream.take_transition()
    assert not first.valid and first.next_obs[0] == 1
    assert second.valid and (second.applied[0], second.next_obs[0]) == (102, 2)
    assert stream.rejections.to_dict()["unpaired"] == 1


def test_a_missing_observation_makes_the_longer_transition_invalid():
    stream = pairing()
    lived = []
    for step in (0, 1, 3, 4):
        stream.add_applied(at(step), act(step))
        stream.add_observation(at(step), at(step), obs(step))
        lived.append(stream.take_transition())
    assert [one.valid for one in lived[1:]] == [True, False, True]
    assert stream.rejections.to_dict()["gap"] == 1


def test_refused_observations_leave_the_stream_as_it_was():
    stream = pairing()
    for step in (0, 1):
        stream.add_applied(at(step), act(step))
        stream.add_observation(at(step), at(step), obs(step))
    stream.take_transition()
    assert stream.add_observation(at(1), at(1), obs(7)) is RejectionReason.DUPLICATE
    assert stream.add_observation(at(0), at(1), obs(7)) is RejectionReason.OUT_OF_ORDER
    assert stream.add_observation(at(2), at(9), obs(7)) is RejectionReason.STALE
    assert stream.take_transition() is None
    stream.add_applied(at(2), act(2))
    stream.add_observation(at(2), at(2), obs(2))
    one = stream.take_transition()
    assert one.valid and (one.obs[0], one.next_obs[0]) == (1, 2)


def test_after_a_pause_the_first_observation_continues_nothing():
    stream = pairing()
    for step in (0, 1):
        stream.add_applied(at(step), act(step))
        stream.add_observation(at(step), at(step), obs(step))
    stream.reset()
    assert stream.last_applied is None
    stream.add_applied(at(9), act(9))
    stream.add_observation(at(9), at(9), obs(9))
    assert stream.take_transition() is None


@given(st.lists(st.floats(0, 200), min_size=1, max_size=200), st.sampled_from([1, 50, 99, 100]))
def test_a_percentile_is_that_of_the_numbers_to_a_tenth_of_a_millisecond(values, q):
    histogram = Histogram()
    for value in values:
        histogram.add_duration(value)
    exact = float(np.percentile(values, q, method="inverted_cdf"))
    if exact < 100:
        assert exact - 1e-9 <= histogram.compute_percentile(q) <= exact + 0.1 + 1e-9
    else:
        assert histogram.compute_percentile(q) == max(values)
    again = Histogram.from_dict(histogram.to_dict())
    assert (again.count, again.compute_percentile(50)) == (
        histogram.count,
        pytest.approx(histogram.compute_percentile(50)),
    )


def test_a_histogram_without_numbers_says_zero():
    assert Histogram().compute_percentile(99) == 0.0
