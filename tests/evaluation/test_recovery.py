import numpy as np
import pytest

from wm_robot.evaluation.recovery import (
    RECOVERED_SECONDS,
    WINDOW_SECONDS,
    Recovery,
    compute_rolling_mean,
    compute_span_mean,
)

TIME = np.arange(0, 20, 0.02)
CHANGE = 8.0


def step_error(until: float, *, high=0.1, low=0.01) -> np.ndarray:
    return np.where((TIME >= CHANGE) & (TIME < CHANGE + until), high, low)


def test_the_rolling_mean_is_the_mean_of_the_window():
    value = np.random.default_rng(0).random(len(TIME))
    rolled = compute_rolling_mean(TIME, value, window=0.5)
    for i in (0, 3, 24, 25, 400, len(TIME) - 1):
        inside = (TIME > TIME[i] - 0.5) & (TIME <= TIME[i])
        assert rolled[i] == pytest.approx(value[inside].mean())


def judged(error: np.ndarray) -> Recovery:
    recovery = Recovery.from_errors(TIME, error, change_time=CHANGE)
    assert recovery is not None
    return recovery


def test_a_robot_is_back_when_the_window_has_seen_enough_of_the_good_times():
    recovery = judged(step_error(1.0))
    assert recovery.was_disturbed and recovery.has_recovered
    # 25 values of 0.01 or 0.1: the mean is below 0.015 with at most one of 0.1.
    assert recovery.last_off_target == pytest.approx(1.0 + WINDOW_SECONDS - 3 * 0.02, abs=0.021)
    # Off from the second bad step on, all of the time.
    assert recovery.off_target_time == pytest.approx(recovery.last_off_target, abs=0.05)
    assert recovery.worst_error == pytest.approx(0.1) and recovery.worst_time == pytest.approx(0.5, abs=0.02)


def test_a_robot_whose_error_never_rises_was_not_disturbed():
    recovery = judged(step_error(0.0))
    assert not recovery.was_disturbed and not recovery.has_recovered
    assert (recovery.off_target_time, recovery.last_off_target) == (0.0, 0.0)


def test_within_a_centimetre_is_on_target_however_good_it_was_before():
    assert not judged(step_error(20.0, high=0.009, low=0.001)).was_disturbed
    assert judged(step_error(20.0, high=0.011, low=0.001)).was_disturbed


def test_a_dip_is_no_recovery():
    error = step_error(20.0)
    error[(TIME > 10) & (TIME < 10 + RECOVERED_SECONDS)] = 0.01
    recovery = judged(error)
    assert recovery.was_disturbed and not recovery.has_recovered
    assert recovery.last_off_target == pytest.approx(recovery.observed_time)


def test_a_late_disturbance_counts_to_the_end_of_the_visit():
    error = step_error(0.0)
    error[(TIME > 17) & (TIME < 17.5)] = 0.075
    recovery = judged(error)
    assert recovery.was_disturbed and recovery.has_recovered
    assert recovery.worst_time == pytest.approx(9.5, abs=0.05)
    assert recovery.last_off_target == pytest.approx(10.0, abs=0.1) and recovery.off_target_time < 1.0


def test_a_robot_that_is_back_only_at_the_very_end_has_not_shown_that_it_stays():
    recovery = judged(step_error(9.8))
    assert recovery.was_disturbed and not recovery.has_recovered


def test_levels_are_of_the_spans_they_name():
    recovery = Recovery.from_errors(TIME, TIME, change_time=CHANGE, start=2.0)
    assert recovery.error_before == pytest.approx(5.0, abs=0.02)
    # From a second after the change to the end of the visit.
    assert recovery.error_after == pytest.approx((CHANGE + 1.0 + 20.0) / 2, abs=0.02)
    assert recovery.observed_time == pytest.approx(12.0, abs=0.021)


def test_a_span_without_measurements_has_no_level():
    assert np.isnan(compute_span_mean(TIME, TIME, (30, 40)))


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0.0, CHANGE - 1), (0.0, CHANGE + 2.5), (CHANGE + 0.5, 20.0)],
    ids=["before", "soon", "late"],
)
def test_what_was_not_watched_around_the_change_is_not_judged(start, stop):
    seen = (TIME >= start) & (TIME < stop)
    assert Recovery.from_errors(TIME[seen], TIME[seen], change_time=CHANGE, start=2.0) is None


def test_nothing_at_all_is_not_judged():
    assert Recovery.from_errors(TIME[:0], TIME[:0], change_time=CHANGE, start=2.0) is None
