import pytest

from wm_robot.errors import ConfigError, MissingExtraError
from wm_robot.progress import ignore_progress
from wm_robot_benchmarks.ros import RosBench, detects_stalls, make_echo_row

STALLED = {
    "sent": 1000,
    "answered": 870,
    "lost": 130,
    "stalled": 50,
    "cpu": 0.1,
    "p50_ms": 0.7,
    "p99_ms": 20.5,
    "worst_ms": 21.0,
}


def test_a_control_that_stalls_is_seen_by_what_it_loses_and_by_how_late_it_is():
    assert detects_stalls(STALLED)
    for change in ({"lost": 80}, {"worst_ms": 19.0}, {"worst_ms": None}, {"stalled": 0}):
        assert not detects_stalls(STALLED | change), change


def test_who_answered_nothing_has_no_time():
    told = make_echo_row("nobody", STALLED | {"p50_ms": None, "p99_ms": None, "worst_ms": None})
    assert told == {
        "echo": "nobody",
        "sent": 1000,
        "p50 ms": "none",
        "p99 ms": "none",
        "worst ms": "none",
        "lost": 130,
        "cpu": 0.1,
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seconds": 0.0}, "seconds is 0.0"),
        ({"rate": 2000.0}, "rate is 2000.0"),
        ({"priority": 60}, "priority is 60"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(tmp_path, changes, words):
    bench = RosBench(bases=tmp_path, **{"seconds": 1.0, "rate": 100.0, "priority": 0} | changes)
    with pytest.raises((ConfigError, MissingExtraError)) as caught:
        bench.run(ignore_progress)
    assert words in str(caught.value) or isinstance(caught.value, MissingExtraError)
