import numpy as np

from wm_robot.io.shared_ring import SharedRing, get_layout


def slot(number: int) -> dict[str, np.ndarray]:
    return {
        "x": np.full((2, 3), number, np.float32),
        "count": np.array([number]),
        "odd": np.full(3, number, np.int8),
    }


def test_what_was_put_is_taken_in_order():
    ring = SharedRing(get_layout(slot(0)), 3)
    other = SharedRing(ring.layout, 3, ring.name)
    for number in range(3):
        assert ring.try_write(slot(number))
    for number in range(3):
        for name, value in other.read_next().items():
            np.testing.assert_array_equal(value, slot(number)[name])
    assert other.read_next() is None
    other.close()
    ring.close()


def test_a_full_ring_takes_nothing_and_keeps_what_it_has():
    ring = SharedRing(get_layout(slot(0)), 2)
    assert [ring.try_write(slot(number)) for number in range(4)] == [True, True, False, False]
    assert [int(ring.read_next()["count"][0]) for _ in range(2)] == [0, 1]
    assert ring.try_write(slot(9))
    assert int(ring.read_next()["count"][0]) == 9
    ring.close()


def test_what_was_taken_is_not_changed_by_what_is_put_after():
    ring = SharedRing(get_layout(slot(0)), 1)
    ring.try_write(slot(1))
    taken = ring.read_next()
    ring.try_write(slot(2))
    assert (taken["x"] == 1).all()
    ring.close()
