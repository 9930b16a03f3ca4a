"""What fits into what is left of a period."""

import pytest

from wm_robot.control.idle_tasks import SAFETY_FACTOR, IdleTask


def test_what_can_wait_is_done_where_it_fits_and_not_for_ever_put_off():
    now, did = [0.0], []

    def work():
        did.append(now[0])
        now[0] += 0.004

    chore = IdleTask(work, clock=lambda: now[0])
    assert not chore.try_run(1.0), "nobody asked"
    chore.request_run()
    assert chore.try_run(0.001) and len(did) == 1, "nobody knows yet what it takes"
    assert not chore.try_run(1.0), "once, and no more"
    chore.request_run()
    assert not chore.try_run(0.004 * SAFETY_FACTOR * 0.99)
    assert chore.is_requested and chore.try_run(0.004 * SAFETY_FACTOR) and len(did) == 2
    chore.request_run()
    while not chore.try_run(0.002):
        assert chore.num_deferred < 200
    assert len(did) == 3 and chore.num_deferred > 20
    before = chore.num_deferred
    chore.request_run()
    while not chore.try_run(-0.001):
        assert chore.num_deferred < before + 400
    assert len(did) == 4 and chore.num_deferred > before + 100
    assert chore.longest_run == pytest.approx(0.004)
