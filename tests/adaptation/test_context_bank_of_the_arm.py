"""Recall with the base that ships."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.learn, pytest.mark.sim]
torch = pytest.importorskip("torch")

from wm_robot.adaptation.tensor_backends import TensorRecall
from wm_robot.model.base import load_base
from wm_robot.robots import load_spec
from wm_robot_sim.rollouts import gather

BASES = Path(__file__).parents[2] / "bases"


def test_a_life_led_astray_is_soon_as_good_as_a_new_one():
    model = load_base(BASES / "arm-ekf").model
    recall = TensorRecall(model)
    steps, garbage = 240, 400
    lives = gather(load_spec("arm"), lives=4, steps=steps, seed=5, visits=[(0, 0)])
    obs, action, hold = (torch.from_numpy(x) for x in (lives.obs, lives.action, lives.hold))

    def surprises(state):
        found = []
        for t in range(steps):
            (mean, log_variance), state = recall.write(
                state, obs[:, t], action[:, t], obs[:, t + 1], torch.ones(4)
            )
            square = (mean - obs[:, t + 1]).square() * torch.exp(-log_variance)
            found.append(0.5 * (square + log_variance).mean(-1))
        return torch.stack(found)[120:].mean(0)

    with torch.inference_mode():
        born = recall.birth(model.birth(4, hold=hold))
        astray = born
        torch.manual_seed(0)
        for _ in range(garbage):
            at, after = model.obs_mean + model.obs_std * torch.randn(2, 4, model.config.obs)
            _, astray = recall.write(astray, at, torch.randn(4, 6), after, torch.ones(4))
        fresh, again = surprises(born), surprises(astray | {"recent": born["recent"]})
    assert (again - fresh).max() < 0.1 * fresh.abs().mean()
