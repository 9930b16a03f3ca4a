import math

import pytest

from wm_robot.control.idle_time import IdleTime
from wm_robot.control.idle_tasks import SPARE


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def idle(clock):
    return IdleTime(0.02, clock=clock)


def test_the_time_until_the_next_observation_runs_out_and_is_endless_once_the_plant_is_late_by_a_period(
    idle, clock
):
    idle.expect(100.02)
    clock.now = 100.005
    assert idle.left() == pytest.approx(0.015)
    clock.now = 100.03
    assert idle.left() == pytest.approx(-0.01)
    clock.now = 100.041
    assert idle.left() == math.inf


def test_a_rehearsal_ends_right_before_the_observation_by_what_it_took_lately(idle, clock):
    def work():
        clock.now += 0.004

    idle.expect(100.02, rehearse=True)
    assert idle.left() == pytest.approx(0.02 - SPARE)
    clock.now = 100.02 - SPARE
    assert idle.take_rehearsal()
    idle.rehearse(work)
    assert idle.rehearsed == 1 and not idle.take_rehearsal()
    idle.expect(100.04, rehearse=True)
    clock.now = 100.03
    assert idle.left_before_rehearsal() == pytest.approx(0.01 - 0.004 - SPARE)


def test_a_rehearsal_that_would_not_be_over_in_time_is_left_out(idle, clock):
    idle.expect(100.02, rehearse=True)
    clock.now = 100.021
    assert not idle.take_rehearsal() and idle.left_before_rehearsal() == math.inf


def test_without_a_rehearsal_all_the_time_is_left(idle):
    idle.expect(100.02)
    assert idle.left_before_rehearsal() == math.inf and idle.left() == pytest.approx(0.02)
