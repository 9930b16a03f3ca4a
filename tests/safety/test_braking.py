import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wm_robot.safety.braking import compute_braking_distance, compute_furthest_step

step = st.floats(0, 10)
change = st.floats(1e-3, 10)


def by_hand(step, change):
    """Period by period."""
    way = 0.0
    while (step := step - change) > 0:
        way += step
    return way


@given(step, change)
def test_the_braking_distance_is_the_way_of_the_periods_added_up(step, change):
    np.testing.assert_allclose(
        compute_braking_distance(np.array([step]), np.array([change])), by_hand(step, change), atol=1e-9
    )


@given(st.floats(0, 100), change)
def test_the_furthest_step_uses_the_room_and_no_more(room, change):
    furthest = compute_furthest_step(np.array([room]), np.array([change]))
    np.testing.assert_allclose(furthest + by_hand(float(furthest[0]), change), room, rtol=1e-7, atol=1e-9)


@given(step, change)
def test_slowing_down_is_always_allowed_after_a_step_that_was(step, change):
    room = float(compute_braking_distance(np.array([step]), np.array([change]))[0])
    assert max(step - change, 0) <= compute_furthest_step(np.array([room]), np.array([change])) + 1e-9


def test_where_a_step_can_change_at_once_only_the_room_counts():
    np.testing.assert_array_equal(
        compute_furthest_step(np.array([0.0, 0.3]), np.array([1.0, 1.0])), [0.0, 0.3]
    )
