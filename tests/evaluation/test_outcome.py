"""One account of a visit, in words that never contradict one another or the errors."""

import re

import numpy as np
import pytest

from wm_robot.evaluation.outcome import ErrorTrack, SessionOutcome
from wm_robot.evaluation.recovery import compute_rolling_mean

TIME = np.arange(0, 22, 0.02)
CHANGE = 8.0
WORDS = "0.24 kg in the gripper"


def error(*spans: tuple[float, float, float], low: float = 0.002) -> np.ndarray:
    """Error in m: low, and in spans of seconds after the change as high as they say."""
    found = np.full(len(TIME), low)
    for since, until, high in spans:
        found[(TIME >= CHANGE + since) & (TIME < CHANGE + until)] = high
    return found


STAYS, OFF_EARLY, OFF_LATE, LOST = (
    error(),
    error((1.0, 2.0, 0.25)),
    error((11.0, 12.0, 0.075), (13.0, 13.2, 0.05)),
    error((1.0, 99.0, 0.3)),
)


def outcome(*errors: np.ndarray, change: float | None = CHANGE, until: float = 22.0) -> SessionOutcome:
    seen = TIME < until
    tracks = [
        ErrorTrack(name=name, time=TIME[seen], error=each[seen])
        for name, each in zip(("adaptive", "frozen"), errors, strict=False)
    ]
    return SessionOutcome.from_tracks(tracks, change_time=change, change_description=WORDS)


@pytest.mark.parametrize(
    ("adaptive", "frozen", "words"),
    [
        (STAYS, STAYS, "The change disturbed neither arm."),
        (STAYS, OFF_EARLY, "moved the frozen arm off its target; the arm that learns stayed on it."),
        (STAYS, OFF_LATE, "moved the frozen arm off its target; the arm that learns stayed on it."),
        (STAYS, LOST, "moved the frozen arm off its target; the arm that learns stayed on it."),
        (OFF_EARLY, STAYS, "moved the arm that learns off its target; the frozen arm stayed on it."),
        (OFF_EARLY, LOST, "The arm that learns came back to its target to stay; the frozen arm did not."),
        (LOST, OFF_EARLY, "The frozen arm came back to its target to stay; the arm that learns did not."),
        (LOST, LOST, "Neither arm came back to its target to stay"),
        (OFF_EARLY, error((1.0, 4.0, 0.2)), "the arm that learns was off it for 1.5 s, the frozen arm for 3.4 s."),
        (error(low=0.2), LOST, "The arm that learns did not follow its target, even before the change."),
        (STAYS, error(low=0.2), "The frozen arm did not follow its target, even before the change."),
    ],
)  # fmt: skip
def test_the_headline_is_what_happened(adaptive, frozen, words):
    assert words in outcome(adaptive, frozen).headline


@pytest.mark.parametrize(
    ("adaptive", "words"),
    [(STAYS, "did not disturb"), (OFF_EARLY, "came back"), (LOST, "did not come back")],
)
def test_an_arm_alone_has_a_headline_too(adaptive, words):
    alone = outcome(adaptive)
    assert words in alone.headline and alone.largest_difference is None and alone.difference_sentence == ""


def test_a_disturbance_at_the_end_of_the_visit_is_told_as_the_chart_shows_it():
    """As demo seed 0: the frozen arm was fine for ten seconds, and 75 mm off after twelve."""
    told = outcome(STAYS, OFF_LATE)
    story = " ".join(told.sentences)
    assert (
        "by 75 mm at worst; when the visit ended it had been back for 0.4 s, and 2 s are required." in story
    )
    assert "The adaptive arm stayed on its target" in story
    assert told.largest_difference is not None
    # Anywhere where the window of half a second lies in the bad second.
    assert told.largest_difference.time == pytest.approx(CHANGE + 11.75, abs=0.27)
    assert re.fullmatch(
        r"They differed most 1[12]\.\d s after the change: adaptive 2 mm, frozen 75 mm\.",
        told.difference_sentence,
    )


@pytest.mark.parametrize(
    ("frozen", "ending"),
    [
        (OFF_EARLY, "it was back to stay after 2.5 s."),
        (LOST, ", and up to the end of the visit."),
        (error((1.0, 12.5, 0.3)), "when the visit ended it had been back for 1.0 s, and 2 s are required."),
    ],
)
def test_the_story_says_whether_an_arm_came_back(frozen, ending):
    assert ending in outcome(STAYS, frozen).sentences[2]


def test_the_largest_difference_is_that_of_the_drawn_curves():
    rng = np.random.default_rng(0)
    one, other = (np.abs(0.05 * np.cumsum(rng.standard_normal(len(TIME)))) for _ in range(2))
    found = outcome(one, other).largest_difference
    after = TIME >= CHANGE
    curves = [compute_rolling_mean(TIME, each)[after] for each in (one, other)]
    at = np.abs(curves[0] - curves[1]).argmax()
    assert found is not None and found.time == TIME[after][at]
    assert found.errors == (curves[0][at], curves[1][at])


@pytest.mark.parametrize(
    ("cut", "words"),
    [
        ({"change": None}, "ended before the world changed"),
        ({"until": 3.0}, "ended before the world changed"),
        ({"until": CHANGE + 1}, "ended too soon after it to show"),
    ],
)
def test_a_visit_that_was_cut_short_is_not_judged(cut, words):
    told = outcome(STAYS, LOST, **cut)
    assert told.headline == "The visit ended too early to show the effect of a change."
    assert words in " ".join(told.sentences) and told.largest_difference is None
    assert not re.search(r"\d mm", " ".join(told.sentences))
