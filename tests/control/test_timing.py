"""What fits into what is left of a period."""

import math

import pytest

from wm_robot.control.timing import ROOM, SPARE, USUAL, Ahead, Chore, Slack


def settled(ms):
    slack = Slack()
    for _ in range(20 * USUAL):
        slack.add(ms, hurried=False)
    return slack


def test_time_is_short_where_what_a_whole_step_usually_takes_does_not_fit():
    slack = settled(6.0)
    assert not slack.lacks(6.5) and slack.lacks(5.5)
    # One slow step is no habit.
    slack.add(30.0, hurried=False)
    assert not slack.lacks(6.5)
    assert slack.hurried == 0


def test_a_slow_spell_ends_and_whole_steps_are_tried_again():
    slack, hurried = settled(9.0), 0
    while slack.lacks(7.5):
        # What is left out says nothing of how long all of it would take.
        slack.add(4.0, hurried=True)
        hurried += 1
        assert hurried < USUAL
    assert hurried == slack.hurried > 0


def test_what_is_done_ahead_is_over_right_before_the_moment():
    ahead = Ahead()
    ahead.add(0.002)
    assert ahead.left(0.0) == math.inf and not ahead.begins(0.0), "nothing is to be done"
    ahead.expect(10.0)
    assert ahead.left(9.0) == pytest.approx(1.0 - 0.002 - SPARE)
    assert not ahead.begins(9.99)
    assert ahead.begins(10.0 - 0.002 - SPARE / 2)
    assert not ahead.begins(10.0 - 0.002 - SPARE / 2), "once, and no more"
    assert ahead.left(9.0) == math.inf


def test_what_would_not_be_over_in_time_is_forgone_and_tried_again_some_time():
    ahead, forgone = Ahead(), 0
    ahead.add(0.02)
    ahead.expect(10.0)
    while not ahead.begins(10.0 - 0.005):
        assert ahead.left(0.0) == math.inf
        ahead.expect(10.0)
        forgone += 1
        assert forgone < 200
    assert forgone > 10 and ahead.done == 1


def test_what_can_wait_is_done_where_it_fits_and_not_for_ever_put_off():
    now, did = [0.0], []

    def work():
        did.append(now[0])
        now[0] += 0.004

    chore = Chore(work, clock=lambda: now[0])
    assert not chore.chance(1.0), "nobody asked"
    chore.ask()
    assert chore.chance(0.001) and len(did) == 1, "nobody knows yet what it takes"
    assert not chore.chance(1.0), "once, and no more"
    chore.ask()
    assert not chore.chance(0.004 * ROOM * 0.99)
    assert chore.asked and chore.chance(0.004 * ROOM) and len(did) == 2
    chore.ask()
    while not chore.chance(0.002):
        assert chore.put_off < 200
    assert len(did) == 3 and chore.put_off > 20
    before = chore.put_off
    chore.ask()
    while not chore.chance(-0.001):
        assert chore.put_off < before + 400
    assert len(did) == 4 and chore.put_off > before + 100
    assert chore.longest == pytest.approx(0.004)
