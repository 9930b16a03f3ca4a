"""What training minimises is what its parts say."""

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.memory.lifetime_state import list_values
from wm_robot.model.config import ModelConfig
from wm_robot.model.world_model import WorldModel
from wm_robot.training.input_scales import fit_scales
from wm_robot.training.loss import ANCHOR_STEPS, compute_segment_loss
from wm_robot.types import Step

HORIZON, STEPS = 4, 20


@pytest.fixture
def model() -> WorldModel:
    torch.manual_seed(0)
    config = ModelConfig(obs=4, action=2, truth=5, dt=0.02, servo=(0, 1), memory="delta", width=24)
    made = WorldModel(config)
    rng = np.random.default_rng(0)
    fit_scales(made, rng.normal(size=(8, 30, 4)).cumsum(1), rng.normal(size=(8, 29, 2)))
    return made


@pytest.fixture
def segment() -> dict:
    torch.manual_seed(1)
    return {
        "obs": torch.randn(3, STEPS + 1, 4).cumsum(1),
        "action": torch.randn(3, STEPS, 2),
        "truth": torch.randn(3, STEPS + 1, 5),
    }


def losses_of(model, segment, horizon=HORIZON):
    state = model.initial_state(initial_action=segment["action"][:, 0])
    return compute_segment_loss(model, state, *segment.values(), horizon=horizon)


def test_every_part_is_what_living_step_by_step_gives(model, segment):
    losses, after = losses_of(model, segment)
    obs, action, unit = segment["obs"], segment["action"], model.change_std
    state, surprise, physics, imagined, last = (
        model.initial_state(initial_action=action[:, 0]),
        [],
        [],
        [],
        [],
    )
    for t in range(STEPS):
        if t in ANCHOR_STEPS and t + HORIZON <= STEPS:
            physics.append((model.estimate_physics(state) - segment["truth"][:, t]).square().mean())
            plans = action[:, None, t : t + HORIZON]
            mean = model.imagine(state, model.observe(state, obs[:, t]), plans).mean[:, 0]
            error = (mean - obs[:, t + 1 : t + 1 + HORIZON]) / unit
            imagined.append(
                torch.where(error.abs() < 3, 0.5 * error.square(), 3 * (error.abs() - 1.5)).mean()
            )
            last.append(error[:, -1].square().mean())
        step = Step(obs[:, t], action[:, t], obs[:, t + 1], torch.ones(3))
        expected, state = model.update(state, step)
        law = torch.distributions.Normal(expected.mean / unit, (0.5 * expected.log_variance).exp() / unit)
        surprise.append(-law.log_prob(obs[:, t + 1] / unit).mean() - 0.5 * np.log(2 * np.pi))
    torch.testing.assert_close(losses.surprise, torch.stack(surprise).mean(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(losses.open_loop, torch.stack(imagined).mean(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(losses.physics, torch.stack(physics).mean(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(losses.by_anchor, torch.stack(last), atol=1e-4, rtol=1e-4)
    for one, other in zip(list_values(after), list_values(state), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_segment_lived_at_once_is_the_same_without_what_is_imagined(model, segment):
    whole, parts = losses_of(model, segment, 0), losses_of(model, segment)
    torch.testing.assert_close(whole[0].surprise, parts[0].surprise)
    for one, other in zip(list_values(whole[1]), list_values(parts[1]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert whole[0].open_loop == 0 and not len(whole[0].by_anchor)
    end = (model.estimate_physics(parts[1]) - segment["truth"][:, -1]).square().mean()
    torch.testing.assert_close(whole[0].physics, end)


@pytest.mark.parametrize("part", ["surprise", "open_loop", "physics"])
def test_the_gradient_of_every_part_passes_through_the_writes(model, segment, part):
    getattr(losses_of(model, segment)[0], part).backward()
    assert model.memories[0].strength.weight.grad.abs().max() > 0
