"""Recall with the base that ships."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.learn, pytest.mark.sim]
torch = pytest.importorskip("torch")

from wm_robot.adaptation.context_bank import ContextBank
from wm_robot.memory.lifetime_state import map_values
from wm_robot.model.base import load_base
from wm_robot.model.torch_backend import TorchBackend
from wm_robot.robots import load_spec
from wm_robot.types import Step
from wm_robot_sim.rollouts import collect_trajectories

BASES = Path(__file__).parents[2] / "bases"


@pytest.mark.parametrize("garbage", [150, pytest.param(400, marks=pytest.mark.soak)])
def test_a_life_led_astray_is_soon_as_good_as_a_new_one(garbage):
    model = load_base(BASES / "arm-semiparametric").model
    recall, steps = ContextBank(TorchBackend(model)), 240
    lives = collect_trajectories(
        load_spec("arm"), num_trajectories=4, num_steps=steps, seed=5, world_schedule=[(0, 0)]
    )
    born = astray = recall.initial_state(initial_action=lives.initial_action)
    torch.manual_seed(0)
    for _ in range(garbage):
        at, after = (model.obs_mean + model.obs_std * torch.randn(2, 4, model.config.obs)).numpy()
        _, astray = recall.update(astray, Step(at, torch.randn(4, 6).numpy(), after, np.ones(4, np.float32)))
    # Newborn and led astray, beside each other.
    both = map_values(lambda *rows: np.concatenate(rows), born, replace(astray, recent=born.recent))
    obs, action = (np.concatenate([each, each]) for each in (lives.obs, lives.action))
    surprises = []
    for t in range(steps):
        step = Step(obs[:, t], action[:, t], obs[:, t + 1], np.ones(8, np.float32))
        (mean, log_variance), both = recall.update(both, step)
        square = (mean - obs[:, t + 1]) ** 2 * np.exp(-log_variance)
        surprises.append(0.5 * (square + log_variance).mean(-1))
    fresh, again = np.split(np.stack(surprises)[120:].mean(0), 2)
    assert (again - fresh).max() < 0.1 * np.abs(fresh).mean()
