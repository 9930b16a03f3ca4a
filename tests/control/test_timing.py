"""What fits into what is left of a period."""

import pytest

from wm_robot.control.timing import ROOM, USUAL, Chore, Slack


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
