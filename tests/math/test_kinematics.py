import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_robot.math.kinematics import compute_tip_position, cosine, sine

ORIGINS = [(0.0, 0.1, 0.2), (0.3, 0.0, 0.1), (0.2, -0.1, 0.0)]
AXES = [(0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (0.6, 0.0, 0.8)]
TIP = (0.05, 0.1, -0.15)

angle = st.floats(-10, 10)


def rotation(axis, theta):
    """Return a rotation matrix, by the exponential of the cross-product matrix."""
    a, b, c = axis
    cross = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
    matrix, term = np.eye(3), np.eye(3)
    for k in range(1, 80):
        term = term @ cross * theta / k
        matrix = matrix + term
    return matrix


def brute_force(angles):
    point = np.array(TIP)
    for theta, origin, axis in zip(reversed(angles), reversed(ORIGINS), reversed(AXES), strict=True):
        point = np.array(origin) + rotation(axis, theta) @ point
    return point


@given(st.tuples(angle, angle, angle))
@settings(max_examples=50, deadline=None)
def test_the_tip_is_where_the_product_of_rotation_matrices_puts_it(angles):
    tip = compute_tip_position(np.array(angles), ORIGINS, AXES, TIP)
    np.testing.assert_allclose(tip, brute_force(angles), atol=1e-9)


def test_a_straight_chain_adds_its_origins():
    tip = compute_tip_position(np.zeros(3), ORIGINS, AXES, TIP)
    np.testing.assert_allclose(tip, np.sum(ORIGINS, axis=0) + TIP, atol=1e-15)


def test_a_quarter_turn_about_z_takes_x_to_y():
    tip = compute_tip_position(np.array([np.pi / 2]), [(0, 0, 0)], [(0, 0, 1)], (1, 0, 0))
    np.testing.assert_allclose(tip, [0, 1, 0], atol=1e-15)


def test_a_batch_equals_its_rows():
    angles = np.random.default_rng(0).uniform(-3, 3, (4, 5, 3))
    batch = compute_tip_position(angles, ORIGINS, AXES, TIP)
    for i in range(4):
        for j in range(5):
            np.testing.assert_allclose(batch[i, j], brute_force(angles[i, j]), atol=1e-9)


def test_a_chain_with_an_axis_too_few_is_refused():
    with pytest.raises(ValueError, match="3 angles, 3 origins and 2 axes"):
        compute_tip_position(np.zeros(3), ORIGINS, AXES[:2], TIP)


@pytest.mark.learn
def test_torch_and_numpy_agree():
    import torch

    angles = np.random.default_rng(1).uniform(-3, 3, (7, 3))
    by_torch = compute_tip_position(torch.from_numpy(angles), ORIGINS, AXES, TIP)
    by_numpy = compute_tip_position(angles, ORIGINS, AXES, TIP)
    np.testing.assert_allclose(by_torch.numpy(), by_numpy, atol=1e-12)
    theta = torch.tensor(0.3)
    assert float(cosine(theta) ** 2 + sine(theta) ** 2) == pytest.approx(1)
