from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_robot.math.kinematics import (
    compute_quaternion,
    compute_rotation_matrix,
    compute_tip_position,
    cosine,
    sine,
)


class Frame(NamedTuple):
    origin: tuple
    axis: tuple
    rotation: tuple = (1.0, 0.0, 0.0, 0.0)
    kind: str = "hinge"
    zero: float = 0.0


PLAIN = [
    Frame((0.0, 0.1, 0.2), (0.0, 0.0, 1.0)),
    Frame((0.3, 0.0, 0.1), (0.0, 1.0, 0.0)),
    Frame((0.2, -0.1, 0.0), (0.6, 0.0, 0.8)),
]
TURNED = [
    Frame((0.0, 0.1, 0.2), (0.0, 0.0, 1.0), rotation=(0.5, 0.5, 0.5, 0.5)),
    Frame((0.3, 0.0, 0.1), (0.0, 1.0, 0.0), rotation=(0.6, 0.0, -0.8, 0.0), kind="slide", zero=0.2),
    Frame((0.2, -0.1, 0.0), (0.6, 0.0, 0.8), rotation=(0.8, 0.36, 0.0, 0.48), zero=-0.7),
]
"""Turned frames, as of CAD or DH tables, a slide, and joints whose zero is elsewhere."""
TIP = (0.05, 0.1, -0.15)

angle = st.floats(-10, 10)


def exponential(axis, theta):
    """Return a rotation matrix, by the exponential of the cross-product matrix."""
    a, b, c = axis
    cross = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
    matrix, term = np.eye(3), np.eye(3)
    for k in range(1, 80):
        term = term @ cross * theta / k
        matrix = matrix + term
    return matrix


def rotate_by_quaternion(quaternion, point):
    """Return the vector part of q · p · q*."""
    w, v = quaternion[0], np.array(quaternion[1:])
    return point + 2 * np.cross(v, np.cross(v, point) + w * point)


def brute_force(positions, chain=PLAIN):
    point = np.array(TIP)
    for position, frame in zip(reversed(positions), reversed(chain), strict=True):
        moved = position - frame.zero
        if frame.kind == "slide":
            point = point + np.array(frame.axis) * moved
        else:
            point = exponential(frame.axis, moved) @ point
        point = np.array(frame.origin) + rotate_by_quaternion(frame.rotation, point)
    return point


@pytest.mark.parametrize("chain", [PLAIN, TURNED])
@given(st.tuples(angle, angle, angle))
@settings(max_examples=50, deadline=None)
def test_the_tip_is_where_the_product_of_rotation_matrices_puts_it(chain, angles):
    tip = compute_tip_position(np.array(angles), chain, TIP)
    np.testing.assert_allclose(tip, brute_force(angles, chain), atol=1e-9)


@pytest.mark.parametrize("quaternion", [frame.rotation for frame in TURNED])
def test_a_rotation_matrix_turns_as_its_quaternion_does(quaternion):
    matrix = compute_rotation_matrix(quaternion)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(3), atol=1e-15)
    for unit in np.eye(3):
        np.testing.assert_allclose(matrix @ unit, rotate_by_quaternion(quaternion, unit), atol=1e-15)


@pytest.mark.parametrize(
    "quaternion", [(1.0, 0.0, 0.0, 0.0), (0.0, 0.6, -0.8, 0.0), (0.5, 0.5, 0.5, -0.5), (0.1, 0.7, 0.1, 0.7)]
)
def test_the_quaternion_of_a_rotation_matrix_is_that_which_it_was_made_of(quaternion):
    found = compute_quaternion(compute_rotation_matrix(np.array(quaternion)))
    assert found[0] >= 0
    np.testing.assert_allclose(abs(found @ quaternion), 1.0, atol=1e-12)


def test_a_straight_chain_adds_its_origins():
    tip = compute_tip_position(np.zeros(3), PLAIN, TIP)
    np.testing.assert_allclose(tip, np.sum([frame.origin for frame in PLAIN], axis=0) + TIP, atol=1e-15)


def test_a_quarter_turn_about_z_takes_x_to_y():
    tip = compute_tip_position(np.array([np.pi / 2]), [Frame((0, 0, 0), (0, 0, 1))], (1, 0, 0))
    np.testing.assert_allclose(tip, [0, 1, 0], atol=1e-15)


def test_a_batch_equals_its_rows():
    angles = np.random.default_rng(0).uniform(-3, 3, (4, 5, 3))
    batch = compute_tip_position(angles, PLAIN, TIP)
    for i in range(4):
        for j in range(5):
            np.testing.assert_allclose(batch[i, j], brute_force(angles[i, j]), atol=1e-9)


def test_a_chain_with_a_joint_too_few_is_refused():
    with pytest.raises(ValueError, match="3 joint positions and 2 joint frames"):
        compute_tip_position(np.zeros(3), PLAIN[:2], TIP)


@pytest.mark.learn
def test_torch_and_numpy_agree():
    import torch

    angles = np.random.default_rng(1).uniform(-3, 3, (7, 3))
    by_torch = compute_tip_position(torch.from_numpy(angles), TURNED, TIP)
    by_numpy = compute_tip_position(angles, TURNED, TIP)
    np.testing.assert_allclose(by_torch.numpy(), by_numpy, atol=1e-12)
    theta = torch.tensor(0.3)
    assert float(cosine(theta) ** 2 + sine(theta) ** 2) == pytest.approx(1)
