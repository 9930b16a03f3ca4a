"""A film of the demo shows the right seconds, and says what the report says."""

import numpy as np
import pytest

pytestmark = pytest.mark.ros
pytest.importorskip("rclpy")
pytest.importorskip("PIL.Image")

from wm_robot.evaluation.outcome import LargestDifference, SessionOutcome
from wm_robot_demo.film import (
    MIN_SECONDS_AFTER,
    MIN_SECONDS_BEFORE,
    PAUSE_SECONDS,
    FilmTrack,
    compute_film_span,
    compute_frame_times,
    make_caption,
)

CHANGE = 8.0


def scene(seconds: float = 22.0) -> FilmTrack:
    time = np.arange(0, seconds, 0.02)
    nothing = np.zeros((len(time), 3))
    return FilmTrack(name="frozen", time=time, joints=nothing, target=nothing, error=time, payload=time)


def outcome(differ_at: float | None) -> SessionOutcome:
    largest = None if differ_at is None else LargestDifference(time=CHANGE + differ_at, errors=(0.001, 0.075))
    names = ("adaptive", "frozen")
    return SessionOutcome(
        change_description="0.24 kg",
        change_time=CHANGE,
        names=names,
        recoveries=(None, None),
        largest_difference=largest,
    )


@pytest.mark.parametrize(
    ("differ_at", "stop"),
    [(None, CHANGE + MIN_SECONDS_AFTER), (2.0, CHANGE + MIN_SECONDS_AFTER), (11.0, 21.0), (13.5, 21.98)],
)
def test_the_film_lasts_beyond_the_moment_at_which_the_arms_differ_most(differ_at, stop):
    found = outcome(differ_at)
    assert compute_film_span([scene(), scene()], found) == pytest.approx((CHANGE - MIN_SECONDS_BEFORE, stop))
    shown = compute_frame_times(*compute_film_span([scene()], found), 10, found)
    assert (np.diff(shown) >= 0).all()
    if differ_at is not None:
        assert (shown == CHANGE + differ_at).sum() >= PAUSE_SECONDS * 10


def test_the_film_says_there_what_the_report_says():
    found = outcome(11.9)
    assert make_caption(CHANGE - 1, found) == "before the change"
    assert make_caption(CHANGE + 1, found) == "1.0 s after the change: 0.24 kg"
    assert make_caption(CHANGE + 11.9, found) == found.difference_sentence
    assert (
        found.difference_sentence
        == "They differed most 11.9 s after the change: adaptive 1 mm, frozen 75 mm."
    )
