"""What fits into what is left of a period, and what is over right before a moment."""

import math

import pytest

from wm_robot.control.idle_tasks import ROOM, SPARE, Ahead, Chore


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
