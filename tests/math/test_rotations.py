"""Angles that wrap and rotations as six numbers, against trigonometry."""

import numpy as np
import pytest

from wm_robot.math.kinematics import compute_rotation_matrix
from wm_robot.math.rotations import (
    compute_matrix,
    make_periods,
    orthonormalize_columns,
    subtract_angles,
    wrap_angle,
)


def test_a_wrapped_angle_has_the_same_sine_and_cosine_and_lies_in_one_turn():
    angles = np.linspace(-40, 40, 999)
    wrapped = wrap_angle(angles)
    assert ((wrapped >= -np.pi) & (wrapped < np.pi)).all()
    np.testing.assert_allclose(
        [np.sin(wrapped), np.cos(wrapped)], [np.sin(angles), np.cos(angles)], atol=1e-12
    )
    assert wrap_angle(np.array(np.pi)) == -np.pi


def test_the_difference_of_angles_that_wrap_is_the_shorter_way_and_other_channels_are_subtracted():
    first, second = np.array([3.1, 3.1, -3.0]), np.array([-3.1, -3.1, 3.0])
    difference = subtract_angles(first, second, make_periods(3, [0]))
    np.testing.assert_allclose(difference, [6.2 - 2 * np.pi, 6.2, -6.0], atol=1e-6)


def test_columns_of_a_rotation_stay_and_others_become_the_nearest():
    rng = np.random.default_rng(0)
    quaternions = rng.standard_normal((50, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    matrices = np.array([compute_rotation_matrix(each) for each in quaternions])
    columns = matrices[:, :, :2].transpose(0, 2, 1).reshape(50, 6)
    np.testing.assert_allclose(orthonormalize_columns(columns), columns, atol=1e-9)
    np.testing.assert_allclose(
        compute_matrix(columns).reshape(50, 3, 3).transpose(0, 2, 1), matrices, atol=1e-12
    )
    near = orthonormalize_columns(columns + 0.1 * rng.standard_normal(columns.shape))
    whole = compute_matrix(near).reshape(50, 3, 3)
    np.testing.assert_allclose(whole @ whole.transpose(0, 2, 1), np.tile(np.eye(3), (50, 1, 1)), atol=1e-9)
    assert np.linalg.det(whole) == pytest.approx(1.0)


def test_numbers_without_a_direction_give_finite_columns():
    assert np.isfinite(orthonormalize_columns(np.zeros((2, 6)))).all()
    assert np.isfinite(orthonormalize_columns(np.ones((2, 6)))).all()
