"""Recall with the base that ships."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.learn, pytest.mark.sim]
torch = pytest.importorskip("torch")

from wm_robot.adaptation.context_bank import ContextBank
from wm_robot.model.base import load_base
from wm_robot.model.torch_backend import TorchBackend
from wm_robot.robots import load_spec
from wm_robot.types import Step
from wm_robot_sim.rollouts import collect_trajectories

BASES = Path(__file__).parents[2] / "bases"


def test_a_life_led_astray_is_soon_as_good_as_a_new_one():
    model = load_base(BASES / "arm-ekf").model
    recall, ones = ContextBank(TorchBackend(model)), np.ones(4, np.float32)
    steps, garbage = 240, 400
    lives = collect_trajectories(
        load_spec("arm"), num_trajectories=4, num_steps=steps, seed=5, world_schedule=[(0, 0)]
    )
    obs, action = lives.obs, lives.action

    def surprises(state):
        found = []
        for t in range(steps):
            step = Step(obs[:, t], action[:, t], obs[:, t + 1], ones)
            (mean, log_variance), state = recall.update(state, step)
            square = (mean - obs[:, t + 1]) ** 2 * np.exp(-log_variance)
            found.append(0.5 * (square + log_variance).mean(-1))
        return np.stack(found)[120:].mean(0)

    born = astray = recall.initial_state(initial_action=lives.initial_action)
    torch.manual_seed(0)
    for _ in range(garbage):
        at, after = (model.obs_mean + model.obs_std * torch.randn(2, 4, model.config.obs)).numpy()
        _, astray = recall.update(astray, Step(at, torch.randn(4, 6).numpy(), after, ones))
    fresh, again = surprises(born), surprises(replace(astray, recent=born.recent))
    assert (again - fresh).max() < 0.1 * np.abs(fresh).mean()
