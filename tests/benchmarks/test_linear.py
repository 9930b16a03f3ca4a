"""Least squares is as good as its closed form, and a memory's errors are those of its own predictions."""

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.model.config import ModelConfig
from wm_robot.model.world_model import WorldModel
from wm_robot.types import Step
from wm_robot_benchmarks.measures.linear_task import (
    INPUTS,
    NOISE,
    NUMBERS,
    STATES,
    compute_least_squares_errors,
    compute_model_errors,
    generate_linear_trajectories,
)


def test_the_noise_is_what_is_left_to_who_knows_the_system():
    lives = generate_linear_trajectories(64, 200, seed=0, regime_steps=50)
    systems = lives.physics.reshape(64, -1, STATES, STATES + INPUTS)
    now = systems[np.arange(64)[:, None], lives.world]
    asked = np.concatenate([lives.obs[:, :-1], lives.action], -1)
    error = lives.obs[:, 1:] - np.einsum("btsx,btx->bts", now, asked)
    assert (error**2).mean() / NOISE**2 == pytest.approx(1, abs=0.03)


def test_systems_change_where_they_are_said_to():
    lives = generate_linear_trajectories(3, 100, seed=0, regime_steps=40)
    assert lives.world[0].tolist() == [0] * 40 + [1] * 40 + [2] * 20
    some = generate_linear_trajectories(400, 400, seed=0).world
    still = (some.max(1) == 0).mean()
    assert 0.5 < still < 0.7
    assert (np.diff(some, axis=1) >= 0).all()


def test_recursive_least_squares_is_ridge_regression():
    lives = generate_linear_trajectories(2, 30, seed=0, regime_steps=30)
    asked = np.concatenate([lives.obs[:, :-1], lives.action], -1).astype(np.float64)
    outcome = lives.obs[:, 1:].astype(np.float64)
    born = compute_least_squares_errors(lives)[:, 0]
    np.testing.assert_allclose(born, (outcome[:, 0] ** 2).mean(-1) / NOISE**2)
    # The last prediction again, from the normal equations and the same prior.
    from wm_robot_benchmarks.measures.linear_task import _compute_prior_variance

    x, y = asked[0, :-1], outcome[0, :-1]
    precision = np.diag(NOISE**2 / _compute_prior_variance())
    weights = np.linalg.solve(x.T @ x + precision, x.T @ y)
    expected = ((outcome[0, -1] - asked[0, -1] @ weights) ** 2).mean() / NOISE**2
    assert compute_least_squares_errors(lives)[0, -1] == pytest.approx(expected, rel=1e-6)


def test_who_is_told_of_a_change_begins_anew():
    lives = generate_linear_trajectories(64, 120, seed=0, regime_steps=60)
    rls, oracle = (
        compute_least_squares_errors(lives, told_changes=told)[:, 90:].mean() for told in (False, True)
    )
    assert oracle < 1.5 < 20 < rls


def test_errors_of_a_model_are_of_its_predictions_before_the_step():
    torch.manual_seed(0)
    config = ModelConfig(
        obs=STATES, action=INPUTS, truth=NUMBERS, dt=0.02, servo=(-1,), memory="delta", width=16
    )
    model, lives = WorldModel(config), generate_linear_trajectories(2, 150, seed=0)
    errors = compute_model_errors(model, lives)
    state = model.initial_state(initial_action=torch.from_numpy(lives.initial_action))
    for t in range(150):
        at, action, following = (
            torch.from_numpy(x) for x in (lives.obs[:, t], lives.action[:, t], lives.obs[:, t + 1])
        )
        predicted, state = model.update(state, Step(at, action, following, torch.ones(2)))
        expected = (predicted.mean - following).square().mean(-1) / NOISE**2
        np.testing.assert_allclose(errors[:, t], expected.detach().numpy(), rtol=1e-3)
