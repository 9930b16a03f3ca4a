import numpy as np

from wm_robot.io.shared_ring import Ring, layout_of


def slot(number: int) -> dict[str, np.ndarray]:
    return {
        "x": np.full((2, 3), number, np.float32),
        "count": np.array([number]),
        "odd": np.full(3, number, np.int8),
    }


def test_what_was_put_is_taken_in_order():
    ring = Ring(layout_of(slot(0)), 3)
    other = Ring(ring.layout, 3, ring.name)
    for number in range(3):
        assert ring.put(slot(number))
    for number in range(3):
        for name, value in other.take().items():
            np.testing.assert_array_equal(value, slot(number)[name])
    assert other.take() is None
    other.close()
    ring.close()


def test_a_full_ring_takes_nothing_and_keeps_what_it_has():
    ring = Ring(layout_of(slot(0)), 2)
    assert [ring.put(slot(number)) for number in range(4)] == [True, True, False, False]
    assert [int(ring.take()["count"][0]) for _ in range(2)] == [0, 1]
    assert ring.put(slot(9))
    assert int(ring.take()["count"][0]) == 9
    ring.close()


def test_what_was_taken_is_not_changed_by_what_is_put_after():
    ring = Ring(layout_of(slot(0)), 1)
    ring.put(slot(1))
    taken = ring.take()
    ring.put(slot(2))
    assert (taken["x"] == 1).all()
    ring.close()
