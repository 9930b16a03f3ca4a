"""A plan of the default length balances a cart-pole, since the reward counts how far the pole falls."""

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.planning.mppi import Mppi, MppiConfig
from wm_robot.planning.mppi_iteration import MppiIteration
from wm_robot.robots import load_spec
from wm_robot.spec import Task
from wm_robot.tasks import make_reward

CART, POLE, HALF_LENGTH, GEAR, GRAVITY = 1.0, 0.1, 0.5, 10.0, 9.81
"""Masses in kg, length in m, force in N of an action of 1: those of the DeepMind Control Suite."""
ROBOTS, STEPS, SUBSTEPS, TIMESTEP = 16, 250, 2, 0.01


def move(state, action, gain):
    """The state `… 4` of a cart-pole after a control step; a positive angle leans to positive positions."""
    slide, hinge, speed, spin = state.unbind(-1)
    inertia = POLE * (2 * HALF_LENGTH) ** 2 / 12 + POLE * HALF_LENGTH**2
    for _ in range(SUBSTEPS):
        coupling = POLE * HALF_LENGTH * hinge.cos()
        force = GEAR * gain * action + POLE * HALF_LENGTH * hinge.sin() * spin**2
        torque = POLE * GRAVITY * HALF_LENGTH * hinge.sin()
        determinant = inertia * (CART + POLE) - coupling**2
        spin = spin + TIMESTEP * ((CART + POLE) * torque - coupling * force) / determinant
        speed = speed + TIMESTEP * (inertia * force - coupling * torque) / determinant
        slide, hinge = slide + TIMESTEP * speed, hinge + TIMESTEP * spin
    return torch.stack([slide, hinge, speed, spin], -1)


class CartPoles:
    """The objective of plans with the true equations, after the actions that are on their way."""

    def __init__(self, reward, state, pending, gain):
        self.reward, self.state, self.pending, self.gain = reward, state, pending, gain

    def predict_features(self, plans):
        num_plans = plans.shape[1]
        actions = torch.cat([self.pending[:, None].expand(-1, num_plans, -1, -1), plans], 2)[..., 0]
        state, seen = self.state[:, None].expand(-1, num_plans, -1), []
        for step in range(plans.shape[2]):
            state = move(state, actions[:, :, step], self.gain)
            seen.append(state)
        return self.reward.features(torch.stack(seen, 2))

    def evaluate(self, features, plans):
        return self.reward.function(features, plans, features, torch.zeros(0)).sum(-1)


@pytest.mark.parametrize(("delay", "gain", "model_gain"), [(0, 1.0, 1.0), (3, 0.5, 1.0), (3, 1.5, 1.0)])
def test_the_default_plan_balances_a_cart_pole_of_delay_and_wrong_gain(delay, gain, model_gain):
    spec = load_spec("cartpole")
    reward = make_reward(spec, Task(reward="balance"))
    limits = {"low": spec.action_low, "high": spec.action_high, "max_step": spec.action_step}
    config = MppiConfig()
    planner, iteration = Mppi(config, **limits), MppiIteration(config, **limits)
    rng = np.random.default_rng(0)
    state = torch.from_numpy(rng.uniform(-0.15, 0.15, (ROBOTS, 4)).astype(np.float32))
    pending, action = torch.zeros(ROBOTS, delay, 1), torch.zeros(ROBOTS, 1)
    states = []
    for _ in range(STEPS):
        objective = CartPoles(reward, state, pending, model_gain)
        action = torch.from_numpy(planner.plan(iteration.bind_objective(objective), action.numpy())[:, 0])
        queue = torch.cat([pending, action[:, None]], 1)
        pending, applied = queue[:, 1:], queue[:, 0, 0]
        state = move(state, applied, gain)
        states.append(state)
    slide, hinge = torch.stack(states, 1)[..., :2].unbind(-1)
    assert hinge.abs().max() < 0.5 and slide.abs().max() < 1.8
    assert hinge[:, -50:].abs().max() < 0.1 and slide[:, -50:].abs().max() < 0.2
