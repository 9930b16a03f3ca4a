import numpy as np
import pytest

from wm_robot.evaluation.recovery import STAY, WINDOW, Recovery, level, rolling_mean, time_to_recover

TIME = np.arange(0, 20, 0.02)
CHANGE = 8.0


def step_error(until: float, *, high=0.1, low=0.01) -> np.ndarray:
    return np.where((TIME >= CHANGE) & (TIME < CHANGE + until), high, low)


def test_the_rolling_mean_is_the_mean_of_the_window():
    value = np.random.default_rng(0).random(len(TIME))
    rolled = rolling_mean(TIME, value, window=0.5)
    for i in (0, 3, 24, 25, 400, len(TIME) - 1):
        inside = (TIME > TIME[i] - 0.5) & (TIME <= TIME[i])
        assert rolled[i] == pytest.approx(value[inside].mean())


def test_recovery_ends_when_the_window_has_seen_enough_of_the_good_times():
    seconds = time_to_recover(TIME, step_error(1.0), change=CHANGE, before=0.01)
    # 25 values of 0.01 or 0.1: the mean is below 0.015 with at most one of 0.1.
    assert seconds == pytest.approx(1.0 + WINDOW - 2 * 0.02, abs=0.021)


def test_an_error_that_never_rises_was_never_lost():
    assert time_to_recover(TIME, step_error(0.0), change=CHANGE, before=0.01) == 0.0


def test_within_a_centimetre_is_recovered_however_good_it_was_before():
    error = step_error(20.0, high=0.009, low=0.001)
    assert time_to_recover(TIME, error, change=CHANGE, before=0.001) == 0.0


def test_a_dip_is_no_recovery():
    error = step_error(20.0)
    error[(TIME > 10) & (TIME < 10 + STAY)] = 0.01
    assert time_to_recover(TIME, error, change=CHANGE, before=0.01) is None


def test_a_hard_place_of_the_target_is_no_relapse():
    error = step_error(1.0)
    error[(TIME > 13) & (TIME < 13.2)] = 0.1
    assert time_to_recover(TIME, error, change=CHANGE, before=0.01) == pytest.approx(1.5, abs=0.05)
    error[(TIME > 13) & (TIME < 15)] = 0.1
    assert time_to_recover(TIME, error, change=CHANGE, before=0.01) > 5


def test_an_error_that_is_low_only_at_the_very_end_has_not_shown_that_it_stays():
    assert time_to_recover(TIME, step_error(9.0), change=CHANGE, before=0.01) is None


def test_levels_are_of_the_spans_they_name():
    recovery = Recovery.of(TIME, TIME, change=CHANGE, start=2.0)
    assert recovery.before == pytest.approx(5.0, abs=0.02)
    assert recovery.after == pytest.approx(CHANGE + 5.5, abs=0.02)


def test_a_span_without_measurements_has_no_level():
    assert np.isnan(level(TIME, TIME, (30, 40)))


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0.0, CHANGE - 1), (0.0, CHANGE + 2.5), (CHANGE + 0.5, 20.0)],
    ids=["before", "soon", "late"],
)
def test_what_was_not_watched_around_the_change_is_not_judged(start, stop):
    seen = (TIME >= start) & (TIME < stop)
    assert Recovery.of(TIME[seen], TIME[seen], change=CHANGE, start=2.0) is None


def test_who_is_low_when_the_visit_ends_is_not_said_to_have_failed():
    for back, end in ((1.4, 3.2), (4.4, 6.2)):
        seen = TIME < CHANGE + end
        assert Recovery.of(TIME[seen], step_error(back)[seen], change=CHANGE, start=2.0) is None
    seen = TIME < CHANGE + 6.2
    failed = Recovery.of(TIME[seen], step_error(10.0)[seen], change=CHANGE, start=2.0)
    assert failed is not None and failed.seconds is None


def test_nothing_at_all_is_not_judged():
    assert Recovery.of(TIME[:0], TIME[:0], change=CHANGE, start=2.0) is None
