import numpy as np
import pytest
import torch

pytestmark = pytest.mark.learn

from wm_robot.evaluation.open_loop import estimate_physics, predict_observations
from wm_robot.model.config import ModelConfig
from wm_robot.model.world_model import WorldModel
from wm_robot.types import Step

STEPS, HORIZON = 30, 4


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = ModelConfig(obs=4, action=2, truth=1, dt=0.02, servo=(0, 1), width=16)
    return WorldModel(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def life():
    rng = np.random.default_rng(0)
    return rng.standard_normal((STEPS + 1, 4), np.float32), rng.standard_normal((STEPS, 2), np.float32)


def by_hand(model, obs, applied, step, *, learning=True):
    """The same, one write at a time."""
    state = model.initial_state(initial_action=torch.from_numpy(applied[:1]))
    for t in range(step - HORIZON):
        row = [torch.from_numpy(x[None]) for x in (obs[t], applied[t], obs[t + 1])]
        _, state = model.update(state, Step(*row, torch.tensor([float(learning)])))
    origin = step - HORIZON
    z = model.observe(state, torch.from_numpy(obs[origin][None]))
    mean, _ = model.imagine(state, z, torch.from_numpy(applied[origin:step][None, None]))
    return mean[0, 0, -1].numpy()


@pytest.mark.parametrize("learning", [True, False])
def test_it_is_what_the_model_imagines_at_each_moment_of_the_life(model, life, learning):
    seen = predict_observations(model, *life, horizon=HORIZON, span=(10, 20), update_state=learning)
    expected = [by_hand(model, *life, step, learning=learning) for step in range(10, 20)]
    np.testing.assert_allclose(seen, expected, atol=1e-5)


def test_what_comes_later_changes_nothing(model, life):
    obs, applied = life
    later = obs.copy()
    later[16:] += 1
    args = {"horizon": HORIZON, "span": (10, 20)}
    np.testing.assert_array_equal(
        predict_observations(model, obs, applied, **args), predict_observations(model, later, applied, **args)
    )


def test_before_the_horizon_nothing_was_expected(model, life):
    seen = predict_observations(model, *life, horizon=HORIZON, span=(0, 6))
    assert np.isnan(seen[:HORIZON]).all() and np.isfinite(seen[HORIZON:]).all()


def test_a_saved_life_goes_on(model, life):
    obs, applied = life
    applied = applied.copy()
    # It wakes holding still: the actions on their way are those of the body now.
    applied[7:10] = applied[10]
    state = model.initial_state(initial_action=torch.from_numpy(applied[:1]))
    row = (torch.from_numpy(obs[None, :11]), torch.from_numpy(applied[None, :10]), torch.ones(1, 10))
    _, state = model.scan(state, *row)
    saved = {name: value.numpy() for name, value in state.flatten().items()}
    resumed = predict_observations(
        model, obs[10:], applied[10:], horizon=HORIZON, span=(HORIZON + 3, 15), state=saved
    )
    whole = predict_observations(model, obs, applied, horizon=HORIZON, span=(10 + HORIZON + 3, 25))
    np.testing.assert_allclose(resumed, whole, atol=1e-5)


def test_a_belief_is_that_of_the_life_before_each_step(model, life):
    obs, applied = life
    found = estimate_physics(model, obs, applied, span=(5, 9))
    state = model.initial_state(initial_action=torch.from_numpy(applied[:1]))
    for t in range(9):
        if t >= 5:
            np.testing.assert_allclose(found[t - 5], model.estimate_physics(state)[0].numpy(), atol=1e-5)
        row = [torch.from_numpy(x[None]) for x in (obs[t], applied[t], obs[t + 1])]
        _, state = model.update(state, Step(*row, torch.ones(1)))
    assert np.abs(np.diff(found, axis=0)).max() > 0
