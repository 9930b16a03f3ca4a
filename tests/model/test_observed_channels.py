"""Angles that wrap and rotations in a model: nothing depends on where an angle wraps; rotations stay rotations."""

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from tests.model.small_model import small_model
from wm_robot.memory.registry import FAMILIES
from wm_robot.model.config import ModelConfig
from wm_robot.training.export.folded_rollout import imagine_folded
from wm_robot.training.input_scales import fit_scales
from wm_robot.training.loss import compute_segment_loss
from wm_robot.types import Step

STEPS = 24
LEARNED = [name for name, family in FAMILIES.items() if not family.uses_privileged_state]


def make_motion(start: float = 2.0):
    """Angle and speed of a hinge that turns over π, and its actions."""
    time = torch.arange(STEPS + 1) * 0.15
    angle, speed = start + time + 0.2 * (3 * time).sin(), 1 + 0.6 * (3 * time).cos()
    return torch.stack([angle, speed], -1)[None], torch.linspace(-1, 1, STEPS)[None, :, None]


BACK = torch.tensor([2 * torch.pi, 0.0])
"""One turn of the angle."""


def wrap(obs):
    wrapped = obs.clone()
    wrapped[..., 0] = torch.remainder(obs[..., 0] + torch.pi, 2 * torch.pi) - torch.pi
    return wrapped


@pytest.mark.parametrize("memory", LEARNED)
def test_a_trajectory_that_wraps_has_the_errors_and_the_state_of_one_that_counts_turns(memory):
    model, (obs, action) = small_model(memory, servo=-1, wraps=(0,)), make_motion()
    assert (wrap(obs)[:, 1:, 0] < wrap(obs)[:, :-1, 0]).sum() == 1
    ones, found = torch.ones(1, STEPS), []
    for seen in (obs, wrap(obs), obs - 2 * BACK):
        predicted, state = model.scan(model.initial_state(initial_action=action[:, 0]), seen, action, ones)
        found.append(
            (model.channels.subtract(predicted.mean, seen[:, 1:]), predicted.log_variance, state.flatten())
        )
    for errors, log_variance, state in found[1:]:
        torch.testing.assert_close(errors, found[0][0], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(log_variance, found[0][1], atol=2e-5, rtol=1e-4)
        for name, value in found[0][2].items():
            torch.testing.assert_close(
                state[name], value, atol=5e-4, rtol=1e-3, msg=lambda text, n=name: f"{n}: {text}"
            )


def test_imagination_continues_the_angle_that_it_starts_from():
    model, (obs, action) = small_model("delta", servo=-1, wraps=(0,)), make_motion(start=3.1)
    state = model.initial_state(initial_action=action[:, 0])
    imagined = model.imagine(state, model.observe(state, obs[:, 0]), action[:, None]).mean[0, 0]
    other = model.imagine(state, model.observe(state, obs[:, 0] - BACK), action[:, None]).mean[0, 0]
    torch.testing.assert_close(imagined[:, 0], other[:, 0] + 2 * torch.pi, atol=1e-4, rtol=0)


def test_the_loss_and_the_scales_do_not_see_where_an_angle_wraps():
    found = []
    for seen in (make_motion()[0], wrap(make_motion()[0])):
        model, action = small_model("delta", servo=-1, wraps=(0,)), make_motion()[1]
        fit_scales(model, seen.numpy(), action.numpy())
        assert model.obs_mean[0] == 0 and model.obs_std[0] == 1
        truth = torch.zeros(1, STEPS + 1, 2)
        losses, _ = compute_segment_loss(
            model, model.initial_state(initial_action=action[:, 0]), seen, action, truth, horizon=6
        )
        found.append(torch.stack([*losses[:3], losses.competence, *model.change_std]))
    assert torch.isfinite(found[0]).all()
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)


def test_a_model_of_plain_channels_has_the_config_and_the_weights_of_before():
    plain = small_model("delta").config.to_dict()
    assert "wraps" not in plain and "rotations" not in plain
    assert ModelConfig.from_dict(plain) == small_model("delta").config
    special = small_model("delta", servo=-1, wraps=(0,))
    assert ModelConfig.from_dict(special.config.to_dict()) == special.config
    assert not [name for name in special.state_dict() if name.startswith("channels")]


def test_an_update_takes_the_next_observation_of_either_turn():
    model, (obs, action) = small_model("ekf", servo=-1, wraps=(0,)), make_motion(start=3.1)
    state = model.initial_state(initial_action=action[:, 0])
    after = [
        model.update(state, Step(wrap(obs[:, 0]), action[:, 0], then, torch.ones(1)))[1].flatten()
        for then in (obs[:, 1], wrap(obs[:, 1]))
    ]
    for name, value in after[0].items():
        np.testing.assert_allclose(value, after[1][name], atol=1e-4)


def make_rotating_model(memory: str):
    """A model of a hinge that wraps, a rotation and a speed, with scales of a motion; and the motion."""
    model = small_model(memory, servo=-1, obs=8, wraps=(0,), rotations=(1,))
    time = torch.arange(STEPS + 1) * 0.15
    zero = torch.zeros_like(time)
    x, y = [time.cos(), time.sin(), zero], [-time.sin(), time.cos(), zero]
    obs = torch.stack([3 + time, *x, *y, (2 * time).sin()], -1)[None]
    action = torch.linspace(-1, 1, STEPS)[None, :, None]
    # Networks that are trained apart have scales of their own.
    for network in [each for each in (model, model.frozen) if each is not None]:
        fit_scales(network, obs.numpy(), action.numpy())
    return model, obs, action


def compute_products(obs):
    """Products of the columns of the rotation with each other: the identity for a rotation."""
    columns = obs[..., 1:7].unflatten(-1, (2, 3))
    return columns @ columns.mT


def test_an_imagined_rotation_stays_a_rotation_for_a_hundred_steps():
    model, obs, _ = make_rotating_model("delta")
    actions = torch.randn(1, 3, 100, 1, generator=torch.Generator().manual_seed(0))
    state = model.initial_state(initial_action=torch.zeros(1, 1))
    z = model.observe(state, obs[:, 0])
    mean = model.imagine(state, z, actions).mean
    assert torch.isfinite(mean).all() and mean[..., 1:7].std(2).max() > 0.01
    torch.testing.assert_close(
        compute_products(mean), torch.eye(2).expand(1, 3, 100, 2, 2), atol=1e-5, rtol=0
    )
    folded = imagine_folded(model, state, z, actions[:, :, :10])
    torch.testing.assert_close(folded, mean[:, :, :10], atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("memory", ["ekf", "gru", "semiparametric"])
def test_a_predicted_step_has_a_rotation_and_the_scales_of_a_rotation_are_fixed(memory):
    model, obs, action = make_rotating_model(memory)
    state = model.initial_state(initial_action=action[:, 0])
    predicted, _ = model.scan(state, obs, action, torch.ones(1, STEPS))
    torch.testing.assert_close(
        compute_products(predicted.mean), torch.eye(2).expand(1, STEPS, 2, 2), atol=1e-5, rtol=0
    )
    alone = model.predict(state, obs[:, 0], action[:, 0])
    torch.testing.assert_close(alone.mean, predicted.mean[:, 0], atol=1e-5, rtol=1e-5)
    assert model.obs_std[1:7].tolist() == [1] * 6 and len(set(model.change_std[1:7].tolist())) == 1
    assert model.obs_std[7] != 1
