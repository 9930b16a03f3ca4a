"""Errors are over the deviations foreseen at that moment of a life."""

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.evaluation.calibration import compute_coverage, compute_standardised_errors
from wm_robot.model.calibration import Calibration
from wm_robot.model.config import ModelConfig
from wm_robot.model.uncertainty import predict_uncertainty
from wm_robot.model.world_model import WorldModel
from wm_robot.types import Step
from wm_robot_benchmarks.measures.linear_task import INPUTS, NUMBERS, STATES, generate_linear_trajectories


def test_an_error_is_what_happened_over_what_was_foreseen():
    torch.manual_seed(0)
    config = ModelConfig(
        obs=STATES, action=INPUTS, truth=NUMBERS, dt=0.02, servo=(-1,), memory="kalman", width=16
    )
    model, lives = WorldModel(config).requires_grad_(False), generate_linear_trajectories(2, 60, seed=0)
    errors, deviations = compute_standardised_errors(model, lives, update_counts=(0, 20), horizons=(1, 4, 16))
    assert errors.shape == deviations.shape == (2, 2, 3, STATES)
    state = model.initial_state(initial_action=torch.from_numpy(lives.initial_action))
    obs, action = torch.from_numpy(lives.obs), torch.from_numpy(lives.action)
    for t in range(20):
        _, state = model.update(state, Step(obs[:, t], action[:, t], obs[:, t + 1], torch.ones(2)))
    expected = predict_uncertainty(model, state, model.observe(state, obs[:, 20]), action[:, 20:36])
    deviation = expected.log_variance[:, 3].mul(0.5).exp()
    np.testing.assert_allclose(deviations[:, 1, 1], deviation, rtol=1e-3)
    np.testing.assert_allclose(
        errors[:, 1, 1], (obs[:, 24] - expected.mean[:, 3]) / deviation, rtol=2e-3, atol=1e-4
    )
    wider = Calibration(horizons=(1, 16), log_scale=np.full((2, STATES), np.log(2.0)))
    narrow, _ = compute_standardised_errors(
        model, lives, update_counts=(0, 20), horizons=(1, 4, 16), calibration=wider
    )
    np.testing.assert_allclose(narrow, errors / 2, rtol=1e-4)


def test_coverage_is_the_part_within_one_deviation():
    assert compute_coverage(np.array([[0.5, -0.9], [1.1, -3.0]])) == 0.5
