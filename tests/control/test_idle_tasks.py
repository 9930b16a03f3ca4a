"""What fits into what is left of a period."""

import pytest

from wm_robot.control.idle_tasks import ROOM, Chore


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
