"""Times of the core are of work alone; times that go by are of waiting, too."""

import time

import numpy as np

from wm_robot_benchmarks.measures.timing import RunTimes, ThreadClock, time_in_turn


def busy():
    until = time.thread_time() + 0.004
    while time.thread_time() < until:
        pass


def test_who_waits_takes_time_and_no_core():
    found = time_in_turn({"waits": lambda: time.sleep(0.004), "works": busy}, 5)
    assert found["waits"].wall.min() >= 4 and found["waits"].median < 2
    assert found["works"].median >= 4 and (found["works"].wall >= found["works"].core - 0.1).all()


def test_functions_take_turns_and_are_warm():
    calls = []
    time_in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert "".join(calls) == "aabbaabb"


def test_times_are_in_milliseconds():
    times = RunTimes.from_seconds([(0.001, 0.002), (0.003, 0.005)])
    np.testing.assert_allclose(times.core, [1, 3])
    np.testing.assert_allclose(times.wall, [2, 5])
    assert times.median == 2 and ThreadClock()()[1] >= 0
